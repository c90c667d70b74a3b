"""NetworkPolicies and Ingresses: what is filled in and what is refused. Pure.

Both are stored; nothing of this cluster acts on them. https://kubernetes.io/docs/concepts/services-networking/
"""

from __future__ import annotations

import ipaddress
from typing import Any

from pybrix.cluster.apiserver.failures import Cause, forbidden_field, invalid_value, not_supported, required
from pybrix.cluster.apiserver.kinds.names import check_dns_1035, check_dns_subdomain
from pybrix.cluster.apiserver.kinds.selectors import check_label_selector

Object = dict[str, Any]
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_POLICY_TYPES = ("Egress", "Ingress")
_PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
_PORT_RANGE = "must be between 1 and 65535, inclusive"


def default_network_policy(data: Object) -> None:
    spec = data.setdefault("spec", {})
    spec.setdefault("podSelector", {})
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    for rule in (*spec.get("ingress", ()), *spec.get("egress", ())):
        for port in rule.get("ports", ()):
            port.setdefault("protocol", "TCP")


def check_network_policy(data: Object) -> list[Cause]:
    spec = data["spec"]
    causes = check_label_selector("spec.podSelector", spec["podSelector"])
    for index, kind in enumerate(spec["policyTypes"]):
        if kind not in _POLICY_TYPES:
            causes.append(not_supported(f"spec.policyTypes[{index}]", kind, _POLICY_TYPES))
    for direction, peers in (("ingress", "from"), ("egress", "to")):
        for index, rule in enumerate(spec.get(direction, ())):
            at = f"spec.{direction}[{index}]"
            for number, port in enumerate(rule.get("ports", ())):
                causes += _check_port(port, f"{at}.ports[{number}]")
            for number, peer in enumerate(rule.get(peers, ())):
                causes += _check_peer(peer, f"{at}.{peers}[{number}]")
    return causes


def _check_port(port: Object, at: str) -> list[Cause]:
    causes: list[Cause] = []
    if port["protocol"] not in _PROTOCOLS:
        causes.append(not_supported(f"{at}.protocol", port["protocol"], _PROTOCOLS))
    number, last = port.get("port"), port.get("endPort")
    if isinstance(number, int) and not 1 <= number <= 65535:
        causes.append(invalid_value(f"{at}.port", number, _PORT_RANGE))
    if last is not None:
        if not isinstance(number, int):
            causes.append(invalid_value(f"{at}.endPort", last, "may not be specified when `port` is not a number"))
        elif not number <= last <= 65535:
            causes.append(invalid_value(f"{at}.endPort", last, "must be greater than or equal to `port`"))
    return causes


def _check_peer(peer: Object, at: str) -> list[Cause]:
    causes: list[Cause] = []
    for name in ("podSelector", "namespaceSelector"):
        if name in peer:
            causes += check_label_selector(f"{at}.{name}", peer[name])
    block = peer.get("ipBlock")
    if block is None:
        return causes if peer else [required(at, "must specify a peer")]
    if len(peer) > 1:
        causes.append(forbidden_field(at, "may not specify both ipBlock and another peer"))
    outer = _network(block.get("cidr", ""))
    if outer is None:
        causes.append(invalid_value(f"{at}.ipBlock.cidr", block.get("cidr", ""), "must be a valid CIDR value"))
        return causes
    for index, text in enumerate(block.get("except", ())):
        inner = _network(text)
        if inner is None or inner.version != outer.version or not _contains(outer, inner):
            detail = "must be a strict subset of `cidr`"
            causes.append(invalid_value(f"{at}.ipBlock.except[{index}]", text, detail))
    return causes


_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _network(text: str) -> _Network | None:
    try:
        return ipaddress.ip_network(text) if "/" in text else None
    except ValueError:
        return None


def _contains(outer: _Network, inner: _Network) -> bool:
    return outer.prefixlen < inner.prefixlen and inner.network_address in outer


def check_ingress(data: Object) -> list[Cause]:
    spec = data.get("spec", {})
    causes: list[Cause] = []
    if spec.get("defaultBackend") is None and not spec.get("rules"):
        causes.append(invalid_value("spec", "{}", "either `defaultBackend` or `rules` must be specified"))
    if "defaultBackend" in spec:
        causes += _check_backend(spec["defaultBackend"], "spec.defaultBackend")
    for index, rule in enumerate(spec.get("rules", ())):
        at = f"spec.rules[{index}]"
        host = rule.get("host", "")
        if host:
            causes += check_dns_subdomain(f"{at}.host", host.removeprefix("*."))
        http = rule.get("http")
        if http is not None and not http.get("paths"):
            causes.append(required(f"{at}.http.paths"))
        for number, path in enumerate((http or {}).get("paths", ())):
            causes += _check_path(path, f"{at}.http.paths[{number}]")
    return causes


def _check_path(path: Object, at: str) -> list[Cause]:
    kind, text = path.get("pathType"), path.get("path", "")
    causes: list[Cause] = []
    if kind is None:
        causes.append(required(f"{at}.pathType", "pathType must be specified"))
    elif kind not in _PATH_TYPES:
        causes.append(not_supported(f"{at}.pathType", kind, _PATH_TYPES))
    elif (kind != "ImplementationSpecific" or text) and not text.startswith("/"):
        causes.append(invalid_value(f"{at}.path", text, "must be an absolute path"))
    return causes + _check_backend(path.get("backend") or {}, f"{at}.backend")


def _check_backend(backend: Object, at: str) -> list[Cause]:
    service, resource = backend.get("service"), backend.get("resource")
    if service is None and resource is None:
        return [required(at, "port name or number is required")]
    if service is not None and resource is not None:
        return [invalid_value(at, "", "cannot set both resource and service backends")]
    if service is None:
        return []
    causes = (
        check_dns_1035(f"{at}.service.name", service["name"])
        if service.get("name")
        else [required(f"{at}.service.name")]
    )
    port = service.get("port") or {}
    if bool(port.get("name")) == bool(port.get("number")):
        causes.append(required(f"{at}.service.port", "exactly one of port name and number is required"))
    elif port.get("number") and not 1 <= port["number"] <= 65535:
        causes.append(invalid_value(f"{at}.service.port.number", port["number"], _PORT_RANGE))
    return causes
