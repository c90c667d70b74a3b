"""Columns and rows of the built-in kinds, as `kubectl get` shows them on any cluster. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pybrix.cluster.apiserver.tables.ages import age
from pybrix.cluster.apiserver.tables.cells import (
    NONE,
    Column,
    Data,
    Layout,
    age_of,
    columns,
    name_of,
    print_labels,
    print_selector,
    shorten,
)
from pybrix.cluster.apiserver.tables.pods import pod_cells
from pybrix.cluster.apiserver.tables.workloads import WORKLOADS


def plain_cells(data: Data, now: datetime) -> list[Any]:
    return [name_of(data), age_of(data, now)]


def _service(data: Data, now: datetime) -> list[Any]:
    spec = data.get("spec", {})
    kind = spec.get("type", "ClusterIP")
    external = ",".join(spec.get("externalIPs", ())) or NONE
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
        name_of(data),
        kind,
        spec.get("clusterIP") or NONE,
        external,
        ports or NONE,
        age_of(data, now),
        print_labels(spec.get("selector")),
    ]


def _endpoint_slice(data: Data, now: datetime) -> list[Any]:
    ports = [str(p["port"]) if p.get("port") is not None else "*" for p in data.get("ports", ())]
    addresses = [a for e in data.get("endpoints", ()) for a in e.get("addresses", ())]
    return [
        name_of(data),
        data.get("addressType", ""),
        shorten(ports) or "<unset>",
        shorten(addresses) or "<unset>",
        age_of(data, now),
    ]


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
        name_of(data),
        ",".join(words),
        ",".join(sorted(filter(None, roles))) or NONE,
        age_of(data, now),
        info.get("kubeletVersion", ""),
        addresses.get("InternalIP") or NONE,
        addresses.get("ExternalIP") or NONE,
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
        name_of(data),
    ]


def _binding(data: Data, now: datetime) -> list[Any]:
    role = data.get("roleRef", {})
    subjects: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for subject in data.get("subjects", ()):
        namespace = subject.get("namespace", "") if subject.get("kind") == "ServiceAccount" else ""
        name = f"{namespace}/{subject.get('name', '')}" if namespace else subject.get("name", "")
        subjects.setdefault(subject.get("kind", ""), []).append(name)
    return [
        name_of(data),
        f"{role.get('kind', '')}/{role.get('name', '')}",
        age_of(data, now),
        *(", ".join(subjects[kind]) for kind in ("User", "Group", "ServiceAccount")),
    ]


def _budget(data: Data, now: datetime) -> list[Any]:
    spec = data.get("spec", {})
    return [
        name_of(data),
        str(spec.get("minAvailable", "N/A")),
        str(spec.get("maxUnavailable", "N/A")),
        data.get("status", {}).get("disruptionsAllowed", 0),
        age_of(data, now),
    ]


def _ingress(data: Data, now: datetime) -> list[Any]:
    spec = data.get("spec", {})
    hosts = [r["host"] for r in spec.get("rules", ()) if r.get("host")]
    found = (data.get("status", {}).get("loadBalancer") or {}).get("ingress", ())
    return [
        name_of(data),
        spec.get("ingressClassName") or NONE,
        shorten(hosts) or "*",
        ",".join(i.get("ip") or i.get("hostname", "") for i in found),
        "80, 443" if spec.get("tls") else "80",
        age_of(data, now),
    ]


def _metric(metric: Data, current: Data) -> str:
    """Return one metric of an autoscaler: what is and what is wanted."""
    source = metric.get("resource") or metric.get("containerResource") or {}
    target, is_now = source.get("target", {}), (current.get("resource") or {}).get("current", {})
    name = f"{source.get('name', metric.get('type', '').lower())}: "
    if "averageUtilization" in target:
        value = is_now.get("averageUtilization")
        return f"{name}{'<unknown>' if value is None else f'{value}%'}/{target['averageUtilization']}%"
    wanted = target.get("averageValue") or target.get("value")
    return f"{name}<unknown>/{wanted}" if wanted else f"{name}<unknown>"


def _autoscaler(data: Data, now: datetime) -> list[Any]:
    spec, status = data.get("spec", {}), data.get("status", {})
    target, metrics = spec.get("scaleTargetRef", {}), spec.get("metrics", [])
    current = status.get("currentMetrics") or []
    targets = [_metric(m, current[i] if i < len(current) else {}) for i, m in enumerate(metrics)]
    return [
        name_of(data),
        f"{target.get('kind', '')}/{target.get('name', '')}",
        ", ".join(targets[:2]) + (f" + {len(targets) - 2} more..." if len(targets) > 2 else "") or NONE,
        str(spec.get("minReplicas", "<unset>")),
        spec.get("maxReplicas", 0),
        status.get("currentReplicas", 0),
        age_of(data, now),
    ]


def _priority_class(data: Data, now: datetime) -> list[Any]:
    return [
        name_of(data),
        data.get("value", 0),
        bool(data.get("globalDefault")),
        age_of(data, now),
        data.get("preemptionPolicy", ""),
    ]


def _since(data: Data, now: datetime) -> list[Any]:
    return [name_of(data), data["metadata"].get("creationTimestamp", "")]


_BINDING_COLUMNS = columns("Name|Role|Age", "Users|Groups|ServiceAccounts")
_EVENT_COLUMNS = tuple(
    Column(name, priority=priority, format="name" if name == "Name" else "")
    for name, priority in (
        ("Last Seen", 0), ("Type", 0), ("Reason", 0), ("Object", 0), ("Subobject", 1), ("Source", 1), ("Message", 0),
        ("First Seen", 1), ("Count", 1), ("Name", 1),
    )
)  # fmt: skip

LAYOUTS: dict[str, Layout] = {
    **WORKLOADS,
    "pods": Layout(columns("Name|Ready|Status|Restarts|Age", "IP|Node|Nominated Node|Readiness Gates"), pod_cells),
    "services": Layout(columns("Name|Type|Cluster-IP|External-IP|Port(s)|Age", "Selector"), _service),
    "endpointslices.discovery.k8s.io": Layout(columns("Name|AddressType|Ports|Endpoints|Age"), _endpoint_slice),
    "nodes": Layout(
        columns("Name|Status|Roles|Age|Version", "Internal-IP|External-IP|OS-Image|Kernel-Version|Container-Runtime"),
        _node,
    ),
    "namespaces": Layout(
        columns("Name|Status|Age"), lambda d, now: [name_of(d), d.get("status", {}).get("phase", ""), age_of(d, now)]
    ),
    "events": Layout(_EVENT_COLUMNS, _event),
    "configmaps": Layout(
        columns("Name|Data|Age"),
        lambda d, now: [name_of(d), len(d.get("data", ())) + len(d.get("binaryData", ())), age_of(d, now)],
    ),
    "secrets": Layout(
        columns("Name|Type|Data|Age"),
        lambda d, now: [name_of(d), d.get("type", ""), len(d.get("data", ())), age_of(d, now)],
    ),
    "serviceaccounts": Layout(
        columns("Name|Secrets|Age"), lambda d, now: [name_of(d), len(d.get("secrets", ())), age_of(d, now)]
    ),
    "leases.coordination.k8s.io": Layout(
        columns("Name|Holder|Age"),
        lambda d, now: [name_of(d), d.get("spec", {}).get("holderIdentity", ""), age_of(d, now)],
    ),
    "customresourcedefinitions.apiextensions.k8s.io": Layout(columns("Name|Created At"), _since),
    "roles.rbac.authorization.k8s.io": Layout(columns("Name|Created At"), _since),
    "clusterroles.rbac.authorization.k8s.io": Layout(columns("Name|Created At"), _since),
    "rolebindings.rbac.authorization.k8s.io": Layout(_BINDING_COLUMNS, _binding),
    "clusterrolebindings.rbac.authorization.k8s.io": Layout(_BINDING_COLUMNS, _binding),
    "poddisruptionbudgets.policy": Layout(
        columns("Name|Min Available|Max Unavailable|Allowed Disruptions|Age"), _budget
    ),
    "networkpolicies.networking.k8s.io": Layout(
        columns("Name|Pod-Selector|Age"),
        lambda d, now: [name_of(d), print_selector(d.get("spec", {}).get("podSelector")), age_of(d, now)],
    ),
    "ingresses.networking.k8s.io": Layout(columns("Name|Class|Hosts|Address|Ports|Age"), _ingress),
    "horizontalpodautoscalers.autoscaling": Layout(
        columns("Name|Reference|Targets|MinPods|MaxPods|Replicas|Age"), _autoscaler
    ),
    "priorityclasses.scheduling.k8s.io": Layout(
        columns("Name|Value|Global-Default|Age|PreemptionPolicy"), _priority_class
    ),
}
PLAIN = Layout(columns("Name|Age"), plain_cells)
