"""Whether a node may have a pod at all, whatever room it has and whoever is there; and which nodes it prefers. Pure.

Cordons, readiness, nodeSelector, node affinity, taints and tolerations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pybrix.api.core import Node, Pod
from pybrix.api.selectors import Requirement
from pybrix.cluster.workloads.binding.state import is_node_ready
from pybrix.cluster.workloads.taints import toleration_of

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
_MISMATCH = "node(s) didn't match Pod's node affinity/selector"


def obstacle(pod: Pod, node: Node) -> str:
    """Say, in upstream's words, why a node may not have a pod; empty when it may."""
    if node.spec.unschedulable:
        return "node(s) were unschedulable"
    if not is_node_ready(node):
        return "node(s) were not ready"
    if not is_in_affinity(pod, node):
        return _MISMATCH
    hard = (t for t in node.spec.taints if t.effect in ("NoSchedule", "NoExecute"))
    taint = next((t for t in hard if toleration_of(t, pod.spec.tolerations) is None), None)
    if taint is not None:
        return f"node(s) had untolerated taint {{{taint.key}: {taint.value}}}"
    return ""


def is_in_affinity(pod: Pod, node: Node) -> bool:
    """Say whether a node is one of those that the pod's selector and required node affinity name."""
    if any(node.metadata.labels.get(k) != v for k, v in pod.spec.node_selector.items()):
        return False
    required = ((pod.spec.affinity or {}).get("nodeAffinity") or {}).get(_REQUIRED)
    return not required or any(_is_in_term(t, node) for t in required.get("nodeSelectorTerms") or ())


def preference(pod: Pod, node: Node) -> int:
    """Return the weights of the preferred node affinity that a node fulfils."""
    preferred = ((pod.spec.affinity or {}).get("nodeAffinity") or {}).get(_PREFERRED) or ()
    return sum(int(p.get("weight") or 0) for p in preferred if _is_in_term(p.get("preference") or {}, node))


def soft_taints(pod: Pod, node: Node) -> int:
    """Return how many taints of a node ask a pod to rather go elsewhere."""
    soft = (t for t in node.spec.taints if t.effect == "PreferNoSchedule")
    return sum(toleration_of(t, pod.spec.tolerations) is None for t in soft)


def _is_in_term(term: Mapping[str, Any], node: Node) -> bool:
    by_label, by_field = term.get("matchExpressions") or [], term.get("matchFields") or []
    fields = {"metadata.name": node.metadata.name}
    # A term without any expression matches nothing.
    return bool(by_label or by_field) and (
        all(_holds(e, node.metadata.labels) for e in by_label) and all(_holds(e, fields) for e in by_field)
    )


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
