"""Columns and rows of the built-in kinds, as `kubectl get` shows them on any cluster. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pybrix.cluster.apiserver.tables.ages import age
from pybrix.cluster.apiserver.tables.pods import pod_cells

Data = dict[str, Any]
Cells = Callable[[Data, datetime], list[Any]]
_NONE = "<none>"
_SHOWN_ENDPOINTS = 3


@dataclass(frozen=True, slots=True)
class Column:
    """`priority` 0 is always shown, 1 with `-o wide`."""

    name: str
    type: str = "string"
    priority: int = 0
    format: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    columns: tuple[Column, ...]
    cells: Cells


def _columns(shown: str, wide: str = "") -> tuple[Column, ...]:
    names = [(name, 0) for name in shown.split("|")] + [(name, 1) for name in wide.split("|") if name]
    return tuple(Column(name, priority=priority, format="name" if name == "Name" else "") for name, priority in names)


def _name(data: Data) -> str:
    return str(data["metadata"].get("name", ""))


def _age(data: Data, now: datetime) -> str:
    return age(data["metadata"].get("creationTimestamp"), now)


def plain_cells(data: Data, now: datetime) -> list[Any]:
    return [_name(data), _age(data, now)]


def _labels(labels: dict[str, str] | None) -> str:
    return ",".join(f"{k}={v}" for k, v in sorted((labels or {}).items())) or _NONE


def _selector(selector: Data | None) -> str:
    if not selector:
        return _NONE
    terms = [f"{k}={v}" for k, v in sorted(selector.get("matchLabels", {}).items())]
    for e in selector.get("matchExpressions", ()):
        values = ",".join(sorted(e.get("values", ())))
        match e.get("operator"):
            case "In":
                terms.append(f"{e['key']} in ({values})")
            case "NotIn":
                terms.append(f"{e['key']} notin ({values})")
            case "Exists":
                terms.append(e["key"])
            case "DoesNotExist":
                terms.append(f"!{e['key']}")
    return ",".join(terms) or _NONE


def _containers(data: Data) -> tuple[str, str]:
    containers = data.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])
    return ",".join(c.get("name", "") for c in containers), ",".join(c.get("image", "") for c in containers)


def _deployment(data: Data, now: datetime) -> list[Any]:
    spec, status = data.get("spec", {}), data.get("status", {})
    names, images = _containers(data)
    return [
        _name(data),
        f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}",
        status.get("updatedReplicas", 0),
        status.get("availableReplicas", 0),
        _age(data, now),
        names,
        images,
        _selector(spec.get("selector")),
    ]


def _replicaset(data: Data, now: datetime) -> list[Any]:
    spec, status = data.get("spec", {}), data.get("status", {})
    names, images = _containers(data)
    return [
        _name(data),
        spec.get("replicas", 0),
        status.get("replicas", 0),
        status.get("readyReplicas", 0),
        _age(data, now),
        names,
        images,
        _selector(spec.get("selector")),
    ]


def _service(data: Data, now: datetime) -> list[Any]:
    spec = data.get("spec", {})
    kind = spec.get("type", "ClusterIP")
    external = ",".join(spec.get("externalIPs", ())) or _NONE
    if kind == "ExternalName":
        external = spec.get("externalName", "")
    elif kind == "LoadBalancer":
        ingress = (data.get("status", {}).get("loadBalancer") or {}).get("ingress", ())
        external = ",".join(i.get("ip") or i.get("hostname", "") for i in ingress) or "<pending>"
    ports = ",".join(
        f"{p.get('port')}{':' + str(p['nodePort']) if p.get('nodePort') else ''}/{p.get('protocol', 'TCP')}"
        for p in spec.get("ports", ())
    )
    return [
        _name(data),
        kind,
        spec.get("clusterIP") or _NONE,
        external,
        ports or _NONE,
        _age(data, now),
        _labels(spec.get("selector")),
    ]


def _endpoint_slice(data: Data, now: datetime) -> list[Any]:
    ports = [str(p["port"]) if p.get("port") is not None else "*" for p in data.get("ports", ())]
    addresses = [a for e in data.get("endpoints", ()) for a in e.get("addresses", ())]
    return [
        _name(data),
        data.get("addressType", ""),
        _shorten(ports) or "<unset>",
        _shorten(addresses) or "<unset>",
        _age(data, now),
    ]


def _shorten(values: list[str]) -> str:
    text = ",".join(values[:_SHOWN_ENDPOINTS])
    more = len(values) - _SHOWN_ENDPOINTS
    return f"{text} + {more} more..." if more > 0 else text


def _node(data: Data, now: datetime) -> list[Any]:
    spec, status, labels = data.get("spec", {}), data.get("status", {}), data["metadata"].get("labels", {})
    ready = next((c for c in status.get("conditions", ()) if c.get("type") == "Ready"), None)
    words = ["Unknown" if ready is None else "Ready" if ready.get("status") == "True" else "NotReady"]
    if spec.get("unschedulable"):
        words.append("SchedulingDisabled")
    prefix = "node-role.kubernetes.io/"
    roles = {k.removeprefix(prefix) for k in labels if k.startswith(prefix)} | {labels.get("kubernetes.io/role", "")}
    addresses = {a.get("type"): a.get("address") for a in reversed(status.get("addresses", []))}
    info = status.get("nodeInfo", {})
    return [
        _name(data),
        ",".join(words),
        ",".join(sorted(filter(None, roles))) or _NONE,
        _age(data, now),
        info.get("kubeletVersion", ""),
        addresses.get("InternalIP") or _NONE,
        addresses.get("ExternalIP") or _NONE,
        info.get("osImage") or "<unknown>",
        info.get("kernelVersion") or "<unknown>",
        info.get("containerRuntimeVersion") or "<unknown>",
    ]


def _event(data: Data, now: datetime) -> list[Any]:
    about, source = data.get("involvedObject", {}), data.get("source", {})
    first = data.get("firstTimestamp") or data.get("eventTime") or data["metadata"].get("creationTimestamp")
    series = data.get("series", {})
    last = series.get("lastObservedTime") or data.get("lastTimestamp") or first
    count = series.get("count") or data.get("count") or 1
    component = source.get("component") or data.get("reportingComponent", "")
    host = source.get("host", "")
    return [
        age(last, now),
        data.get("type", ""),
        data.get("reason", ""),
        f"{about.get('kind', '').lower()}/{about.get('name', '')}",
        about.get("fieldPath", ""),
        f"{component}, {host}" if host else component,
        data.get("message", "").strip(),
        age(first, now),
        count,
        _name(data),
    ]


_EVENT_COLUMNS = tuple(
    Column(name, priority=priority, format="name" if name == "Name" else "")
    for name, priority in (
        ("Last Seen", 0), ("Type", 0), ("Reason", 0), ("Object", 0), ("Subobject", 1), ("Source", 1), ("Message", 0),
        ("First Seen", 1), ("Count", 1), ("Name", 1),
    )
)  # fmt: skip

LAYOUTS: dict[str, Layout] = {
    "pods": Layout(_columns("Name|Ready|Status|Restarts|Age", "IP|Node|Nominated Node|Readiness Gates"), pod_cells),
    "services": Layout(_columns("Name|Type|Cluster-IP|External-IP|Port(s)|Age", "Selector"), _service),
    "deployments.apps": Layout(
        _columns("Name|Ready|Up-to-date|Available|Age", "Containers|Images|Selector"), _deployment
    ),
    "replicasets.apps": Layout(_columns("Name|Desired|Current|Ready|Age", "Containers|Images|Selector"), _replicaset),
    "endpointslices.discovery.k8s.io": Layout(_columns("Name|AddressType|Ports|Endpoints|Age"), _endpoint_slice),
    "nodes": Layout(
        _columns("Name|Status|Roles|Age|Version", "Internal-IP|External-IP|OS-Image|Kernel-Version|Container-Runtime"),
        _node,
    ),
    "namespaces": Layout(
        _columns("Name|Status|Age"), lambda d, now: [_name(d), d.get("status", {}).get("phase", ""), _age(d, now)]
    ),
    "events": Layout(_EVENT_COLUMNS, _event),
    "configmaps": Layout(
        _columns("Name|Data|Age"),
        lambda d, now: [_name(d), len(d.get("data", ())) + len(d.get("binaryData", ())), _age(d, now)],
    ),
    "secrets": Layout(
        _columns("Name|Type|Data|Age"),
        lambda d, now: [_name(d), d.get("type", ""), len(d.get("data", ())), _age(d, now)],
    ),
    "serviceaccounts": Layout(
        _columns("Name|Secrets|Age"), lambda d, now: [_name(d), len(d.get("secrets", ())), _age(d, now)]
    ),
    "leases.coordination.k8s.io": Layout(
        _columns("Name|Holder|Age"),
        lambda d, now: [_name(d), d.get("spec", {}).get("holderIdentity", ""), _age(d, now)],
    ),
    "customresourcedefinitions.apiextensions.k8s.io": Layout(
        _columns("Name|Created At"), lambda d, now: [_name(d), d["metadata"].get("creationTimestamp", "")]
    ),
}
PLAIN = Layout(_columns("Name|Age"), plain_cells)
