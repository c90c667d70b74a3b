"""Decide which addresses are listened on and where their connections go. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pybrix.api import names
from pybrix.api.core import Endpoint, EndpointPort, EndpointSlice, Service, ServicePort
from pybrix.api.identity import ObjectKey
from pybrix.cluster.serviceproxy.table import Address, Route

NODE_ADDRESS = "127.0.0.1"
"""Where node ports are."""


@dataclass(frozen=True, slots=True)
class Unserved:
    """A port of a Service that nobody listens on, and why."""

    service: Service
    why: str


@dataclass(frozen=True, slots=True)
class Planned:
    """What is to be forwarded, whose each address is, and what cannot be."""

    routes: Mapping[Address, Route]
    owners: Mapping[Address, Service]
    unserved: tuple[Unserved, ...]


def plan(services: Iterable[Service], slices: Iterable[EndpointSlice]) -> Planned:
    """Return a route for every TCP port of every Service that has an address and an endpoint.

    A port without an endpoint is not listened on, so that a connection is refused at once. While no endpoint is ready,
    those that still answer though they are on their way out are used. The first Service that names a node port has it.
    """
    of_service: dict[ObjectKey, list[EndpointSlice]] = {}
    for piece in slices:
        if piece.address_type == "IPv4" and (name := piece.metadata.labels.get(names.SERVICE_NAME)):
            of_service.setdefault(ObjectKey(piece.metadata.namespace, name), []).append(piece)
    routes: dict[Address, Route] = {}
    owners: dict[Address, Service] = {}
    unserved: list[Unserved] = []
    for service in sorted(services, key=lambda s: (s.metadata.creation_timestamp or "", s.key)):
        if service.spec.type == "ExternalName" or service.spec.cluster_ip in ("", "None"):
            continue
        for port in service.spec.ports:
            if port.protocol not in ("", "TCP"):
                why = f"port {port.port} is {port.protocol}: this cluster forwards TCP alone, use the pods' addresses"
                unserved.append(Unserved(service, why))
                continue
            targets = backends(port, of_service.get(service.key, ()))
            for address in _addresses(service, port):
                if address in owners:
                    unserved.append(Unserved(service, f"{address} is that of Service {owners[address].key}"))
                    continue
                owners[address] = service
                if targets:
                    routes[address] = Route(targets, _affinity_s(service))
    return Planned(routes, owners, tuple(unserved))


def backends(port: ServicePort, slices: Iterable[EndpointSlice]) -> tuple[Address, ...]:
    """Return where connections to a port of a Service go."""
    ready: set[Address] = set()
    serving: set[Address] = set()
    for piece in slices:
        for target in piece.ports:
            if target.name == port.name and target.protocol in ("", "TCP") and target.port is not None:
                for endpoint in piece.endpoints:
                    _sort_in(endpoint, target, ready, serving)
    return tuple(sorted(ready or serving))


def _sort_in(endpoint: Endpoint, target: EndpointPort, ready: set[Address], serving: set[Address]) -> None:
    assert target.port is not None
    conditions = endpoint.conditions
    for ip in endpoint.addresses:
        # Nil means ready: https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/#conditions
        if conditions.ready is not False:
            ready.add(Address(ip, target.port))
        elif conditions.serving and conditions.terminating:
            serving.add(Address(ip, target.port))


def _addresses(service: Service, port: ServicePort) -> Iterable[Address]:
    yield Address(service.spec.cluster_ip, port.port)
    if port.node_port and service.spec.type in ("NodePort", "LoadBalancer"):
        yield Address(NODE_ADDRESS, port.node_port)


def _affinity_s(service: Service) -> int:
    if service.spec.session_affinity != "ClientIP":
        return 0
    client = (service.spec.session_affinity_config or {}).get("clientIP") or {}
    return int(client.get("timeoutSeconds") or 0)
