"""Evictions: deletions of pods that their disruption budget may refuse.

https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from pybrix.api.identity import ObjectKey
from pybrix.api.meta import LabelSelector
from pybrix.api.selectors import compile_label_selector
from pybrix.cluster.apiserver.failures import bad_request, failure, forbidden
from pybrix.cluster.apiserver.options import DeleteOptions
from pybrix.cluster.apiserver.records import Data, Records
from pybrix.cluster.apiserver.removal import Removal
from pybrix.cluster.store.history import Stored
from pybrix.kube.errors import StatusError

BUDGETS = "poddisruptionbudgets.policy"
MAX_DISRUPTED = 2000
_RETRY_S = 10


@dataclass(frozen=True, slots=True)
class Allowance:
    """A budget whose status takes note of one more disruption; None where no budget has a say."""

    budget: Stored
    status: Data


def evict(records: Records, removal: Removal, key: ObjectKey, sent: Any, options: DeleteOptions) -> None:
    """Delete a pod if its disruption budget allows it.

    Raises:
        TooManyRequests: not now; the cause names the budget.
        NotFound, BadRequest, Conflict (a precondition)
        StatusError (500): the pod has several budgets.
    """
    if not isinstance(sent, dict):
        raise bad_request("the body is not an Eviction")
    metadata = sent.get("metadata")
    name = metadata.get("name", "") if isinstance(metadata, dict) else ""
    if name != key.name:
        raise bad_request(f"name in URL does not match name in Eviction object ({name!r})")
    served = records.served("pods")
    pod = records.read(served, key)
    allowance = decide(pod.data, records.store.list(BUDGETS, key.namespace), records.now())
    if allowance is not None and not options.is_dry_run:
        changed = {**allowance.budget.data, "status": allowance.status}
        records.change(records.served(BUDGETS), allowance.budget, changed)
    if not options.is_dry_run and pod.data["spec"].get("nodeName"):
        # Whoever looks at the ending pod sees why it ends.
        records.change(served, pod, _marked(pod.data, records.now()))
    removal.delete(served, key, options)


def decide(pod: Data, budgets: Sequence[Stored], now: str) -> Allowance | None:
    """Return what an eviction takes from a budget; None: no budget has a say. Pure.

    Raises:
        TooManyRequests, Forbidden, StatusError (500)
    """
    status = pod.get("status", {})
    if pod["metadata"].get("deletionTimestamp") or status.get("phase") in ("Pending", "Succeeded", "Failed"):
        return None
    labels = pod["metadata"].get("labels") or {}
    concerned = [budget for budget in budgets if _selects(budget.data["spec"].get("selector"), labels)]
    if not concerned:
        return None
    if len(concerned) > 1:
        why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        raise failure(500, "InternalError", why)
    budget = concerned[0]
    counted = budget.data.get("status", {})
    if not _is_ready(status):
        if budget.data["spec"].get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
            return None
        healthy, desired = counted.get("currentHealthy", 0), counted.get("desiredHealthy", 0)
        if healthy >= desired > 0:
            return None
    return Allowance(budget, _with_disruption(budget, counted, pod["metadata"]["name"], now))


def _with_disruption(budget: Stored, counted: Mapping[str, Any], pod: str, now: str) -> Data:
    name = budget.key.name
    if counted.get("observedGeneration", 0) < budget.data["metadata"].get("generation", 0):
        raise _too_many(f"The disruption budget {name} is still being processed by the server.", _RETRY_S)
    allowed = counted.get("disruptionsAllowed", 0)
    if allowed < 0:
        raise forbidden("poddisruptionbudgets", "policy", name, "pdb disruptions allowed is negative")
    disrupted = counted.get("disruptedPods") or {}
    if len(disrupted) > MAX_DISRUPTED:
        why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller"
        raise forbidden("poddisruptionbudgets", "policy", name, why)
    if allowed == 0:
        needs = f"needs {counted.get('desiredHealthy', 0)} healthy pods and has {counted.get('currentHealthy', 0)}"
        raise _too_many(f"The disruption budget {name} {needs} currently")
    return {**counted, "disruptionsAllowed": allowed - 1, "disruptedPods": {**disrupted, pod: now}}


def _too_many(why: str, retry_s: int = 0) -> StatusError:
    details: Data = {"causes": [{"reason": "DisruptionBudget", "message": why}]}
    if retry_s:
        details["retryAfterSeconds"] = retry_s
    message = "Cannot evict pod as it would violate the pod's disruption budget."
    return failure(429, "TooManyRequests", message, details)


def _selects(selector: Any, labels: Mapping[str, str]) -> bool:
    """Say whether a budget means pods with these labels: no selector none of them, an empty one all."""
    if selector is None:
        return False
    compiled = compile_label_selector(msgspec.convert(selector, LabelSelector))
    return compiled is None or compiled.matches(dict(labels))


def _is_ready(status: Mapping[str, Any]) -> bool:
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in status.get("conditions") or ())


def _marked(pod: Data, now: str) -> Data:
    status = dict(pod.get("status", {}))
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
        "lastTransitionTime": now,
    }
    others = [c for c in status.get("conditions") or () if c.get("type") != condition["type"]]
    return {**pod, "status": {**status, "conditions": [*others, condition]}}
