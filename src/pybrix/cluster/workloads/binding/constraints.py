"""Whether a node may have a pod at all, whatever room it has. Pure.

Supported are cordons, readiness, nodeSelector, required node affinity, taints and tolerations. Required affinity
between pods is refused with a reason rather than passed over; preferences are passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pybrix.api.core import Node, Pod, Taint, Toleration
from pybrix.api.selectors import Requirement
from pybrix.cluster.workloads.binding.state import is_node_ready

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_MISMATCH = "node(s) didn't match Pod's node affinity/selector"


def unsupported(pod: Pod) -> str:
    """Say which of a pod's conditions this cluster cannot keep; empty when it can keep them all."""
    for kind in ("podAffinity", "podAntiAffinity"):
        if ((pod.spec.affinity or {}).get(kind) or {}).get(_REQUIRED):
            return f"spec.affinity.{kind}.{_REQUIRED} is not supported by this cluster"
    return ""


def obstacle(pod: Pod, node: Node) -> str:
    """Say, in upstream's words, why a node may not have a pod; empty when it may."""
    if node.spec.unschedulable:
        return "node(s) were unschedulable"
    if not is_node_ready(node):
        return "node(s) were not ready"
    if any(node.metadata.labels.get(k) != v for k, v in pod.spec.node_selector.items()):
        return _MISMATCH
    if not _is_in_affinity(pod, node):
        return _MISMATCH
    taint = next((t for t in node.spec.taints if not _is_tolerated(t, pod.spec.tolerations)), None)
    if taint is not None:
        return f"node(s) had untolerated taint {{{taint.key}: {taint.value}}}"
    return ""


def _is_tolerated(taint: Taint, tolerations: list[Toleration]) -> bool:
    if taint.effect not in ("NoSchedule", "NoExecute"):
        return True
    return any(
        t.effect in ("", taint.effect)
        and (t.key == taint.key or (not t.key and t.operator == "Exists"))
        and (t.operator == "Exists" or t.value == taint.value)
        for t in tolerations
    )


def _is_in_affinity(pod: Pod, node: Node) -> bool:
    required = ((pod.spec.affinity or {}).get("nodeAffinity") or {}).get(_REQUIRED)
    if not required:
        return True
    fields = {"metadata.name": node.metadata.name}
    for term in required.get("nodeSelectorTerms") or ():
        by_label, by_field = term.get("matchExpressions") or [], term.get("matchFields") or []
        # A term without any expression matches nothing.
        if (by_label or by_field) and (
            all(_holds(e, node.metadata.labels) for e in by_label) and all(_holds(e, fields) for e in by_field)
        ):
            return True
    return False


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, operator = str(expression.get("key", "")), str(expression.get("operator", ""))
    values = [str(v) for v in expression.get("values") or ()]
    if operator in ("In", "NotIn", "Exists", "DoesNotExist"):
        return Requirement(key, operator, frozenset(values)).matches(labels)
    try:
        have, bound = int(labels.get(key, "")), int(values[0])
    except (ValueError, IndexError):
        return False
    return (operator == "Gt" and have > bound) or (operator == "Lt" and have < bound)
