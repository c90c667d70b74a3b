"""Names of Services and pods as lines of a hosts file: what a cluster's DNS answers, for one namespace's pods. Pure.

https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

from pybrix.api import names
from pybrix.api.core import EndpointSlice, Pod, Service
from pybrix.api.identity import ObjectKey

CLUSTER_DOMAIN = "cluster.local"
_LOCAL = ("localhost", "ip6-localhost", "ip6-loopback")


class Entry(NamedTuple):
    """A name in a namespace: that of a Service, or `pod.service`; it may have several entries."""

    namespace: str
    name: str
    address: str


def service_entries(services: Iterable[Service], slices: Iterable[EndpointSlice]) -> list[Entry]:
    """Return what is known by name: addresses of Services, and of the ready endpoints of headless ones.

    An endpoint with a host name of its own (a StatefulSet's pod) has it under the headless Service's. ExternalName
    Services have none: a hosts file knows no other names for names.
    """
    of_service: dict[ObjectKey, list[EndpointSlice]] = {}
    for piece in slices:
        of_service.setdefault(ObjectKey(piece.metadata.namespace, service_of(piece)), []).append(piece)
    found: set[Entry] = set()
    for service in services:
        spec, key = service.spec, service.key
        if spec.type == "ExternalName":
            continue
        if spec.cluster_ip == "None":
            found.update(_headless(key, of_service.get(key, ())))
        elif spec.cluster_ip:
            found.add(Entry(key.namespace, key.name, spec.cluster_ip))
    return sorted(found)


def service_of(piece: EndpointSlice) -> str:
    return piece.metadata.labels.get(names.SERVICE_NAME, "")


def _headless(key: ObjectKey, slices: Iterable[EndpointSlice]) -> Iterator[Entry]:
    for piece in slices:
        for endpoint in piece.endpoints if piece.address_type != "FQDN" else ():
            if endpoint.conditions.ready is False:
                continue
            for address in endpoint.addresses:
                yield Entry(key.namespace, key.name, address)
                if endpoint.hostname:
                    yield Entry(key.namespace, f"{endpoint.hostname}.{key.name}", address)


def namespace_lines(entries: Iterable[Entry], namespace: str, *, besides: str = "") -> str:
    """Return the part of the hosts file that the pods of a namespace have in common.

    `besides` is a short name that is not the Service's: that of the pod itself.
    """
    lines: list[str] = []
    for (of, name), found in groupby(sorted(entries), key=lambda e: (e.namespace, e.name)):
        below = f"{name}.{of}"
        # The full name first: it is the canonical one, and what an address is called.
        forms = [f"{below}.svc.{CLUSTER_DOMAIN}", f"{below}.svc", below]
        if of == namespace and name != besides:
            forms.append(name)
        addresses = [entry.address for entry in found]
        # The C library joins the lines of a name, and lists what else is in them once for each.
        together = [" ".join(forms)] if len(addresses) == 1 else forms
        lines += [f"{address}\t{words}\n" for address in addresses for words in together]
    return "".join(lines)


def without_own_name(lines: str, pod: Pod) -> str:
    """Return the common part without the full name of a pod that has it in its own: two lines are found twice."""
    return lines.replace(f"\t{_full_name(pod)} ", "\t") if pod.spec.subdomain else lines


def _full_name(pod: Pod) -> str:
    return f"{host_name(pod)}.{pod.spec.subdomain}.{pod.metadata.namespace}.svc.{CLUSTER_DOMAIN}"


def own_lines(pod: Pod, pod_ip: str) -> str:
    """Return what a pod's hosts file begins with: this machine, the pod's own name, and what its spec adds."""
    host = host_name(pod)
    own = host
    if pod.spec.subdomain:
        own = f"{_full_name(pod)} {host}"
    lines = [f"127.0.0.1\t{_LOCAL[0]}\n", f"::1\t{' '.join(_LOCAL)}\n"]
    if pod_ip:
        lines.append(f"{pod_ip}\t{own}\n")
    lines += [f"{alias.ip}\t{' '.join(alias.hostnames)}\n" for alias in pod.spec.host_aliases]
    return "".join(lines)


def host_name(pod: Pod) -> str:
    """Return the name that a pod's processes see as their machine's; at most 63 characters."""
    return (pod.spec.hostname or pod.metadata.name)[:63].rstrip("-.")


def machine_lines(hosts_file: str, taken: Iterable[str]) -> str:
    """Return the lines of the machine's own hosts file that name nothing that is named already."""
    known = {*_LOCAL, *taken}
    lines = []
    for line in hosts_file.splitlines():
        words = line.partition("#")[0].split()
        if len(words) > 1 and known.isdisjoint(words[1:]):
            lines.append(f"{words[0]}\t{' '.join(words[1:])}\n")
    return "".join(lines)


def link_variables(services: Iterable[Service]) -> dict[str, str]:
    """Return the variables by which containers find the Services of their namespace that were there before them.

    https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
    """
    found: dict[str, str] = {}
    for service in services:
        address = service.spec.cluster_ip
        if address in ("", "None") or not service.spec.ports:
            continue
        name = _variable(service.metadata.name)
        first = service.spec.ports[0]
        found[f"{name}_SERVICE_HOST"] = address
        found[f"{name}_SERVICE_PORT"] = str(first.port)
        found[f"{name}_PORT"] = f"{first.protocol.lower()}://{address}:{first.port}"
        for port in service.spec.ports:
            protocol = port.protocol.lower()
            prefix = f"{name}_PORT_{port.port}_{port.protocol.upper()}"
            if port.name:
                found[f"{name}_SERVICE_PORT_{_variable(port.name)}"] = str(port.port)
            found |= {
                prefix: f"{protocol}://{address}:{port.port}",
                f"{prefix}_PROTO": protocol,
                f"{prefix}_PORT": str(port.port),
                f"{prefix}_ADDR": address,
            }
    return found


def _variable(name: str) -> str:
    return name.upper().replace("-", "_")
