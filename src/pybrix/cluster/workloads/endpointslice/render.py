"""Turn a Service and its pods into endpoints, grouped by what may share a slice. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping

from pybrix.api.core import Endpoint, EndpointConditions, EndpointPort, ObjectReference, Pod, Service, ServicePort
from pybrix.cluster.workloads.endpointslice.state import Observed

Group = tuple[str, tuple[EndpointPort, ...]]
"""Address type and ports: what all endpoints of a slice have in common."""


def render_groups(seen: Observed) -> dict[Group, list[Endpoint]]:
    """Return the endpoints of each group. Pods whose containers name ports differently end up in different groups.

    A Service without an endpoint has one empty group without ports, so that it shows that somebody keeps it.
    """
    groups: dict[Group, list[Endpoint]] = {}
    for pod in seen.pods:
        if pod.is_finished or not pod.status.pod_ip:
            continue
        group = (_address_type(pod.status.pod_ip), _ports(seen.service, pod))
        groups.setdefault(group, []).append(_endpoint(seen.service, pod, seen.zones))
    return groups or {("IPv4", ()): []}


def _ports(service: Service, pod: Pod) -> tuple[EndpointPort, ...]:
    found = []
    for port in service.spec.ports:
        number = _target(port, pod)
        if number is not None:
            found.append(
                EndpointPort(name=port.name, port=number, protocol=port.protocol, app_protocol=port.app_protocol)
            )
    return tuple(found)


def _target(port: ServicePort, pod: Pod) -> int | None:
    """Return the port number on the pod; None when no container has a port of that name and protocol."""
    target = port.target_port
    if not target:
        return port.port
    if isinstance(target, int):
        return target
    sidecars = [c for c in pod.spec.init_containers if c.restart_policy == "Always"]
    named = (
        p.container_port
        for container in [*pod.spec.containers, *sidecars]
        for p in container.ports
        if p.name == target and p.protocol == port.protocol
    )
    return next(named, None)


def _endpoint(service: Service, pod: Pod, zones: Mapping[str, str]) -> Endpoint:
    is_terminating = pod.metadata.is_terminating
    is_ready = service.spec.publish_not_ready_addresses or (pod.is_ready and not is_terminating)
    is_own_hostname = bool(pod.spec.hostname) and pod.spec.subdomain == service.metadata.name
    return Endpoint(
        addresses=[pod.status.pod_ip],
        conditions=EndpointConditions(ready=is_ready, serving=pod.is_ready, terminating=is_terminating),
        hostname=pod.spec.hostname if is_own_hostname else "",
        target_ref=ObjectReference(kind="Pod", namespace=pod.metadata.namespace, name=pod.metadata.name, uid=pod.uid),
        node_name=pod.spec.node_name,
        zone=zones.get(pod.spec.node_name, ""),
    )


def _address_type(address: str) -> str:
    return f"IPv{ipaddress.ip_address(address).version}"


def identity(endpoint: Endpoint) -> tuple[str, str]:
    """Return what makes an endpoint the same one: the pod's UID and its address."""
    return endpoint.target_ref.uid if endpoint.target_ref is not None else "", endpoint.addresses[0]


def by_identity(endpoints: Iterable[Endpoint]) -> dict[tuple[str, str], Endpoint]:
    return {identity(e): e for e in endpoints}
