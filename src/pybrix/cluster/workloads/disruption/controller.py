"""Keep the status of disruption budgets: the shell around `status`, on the cluster's own store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from pybrix.api.identity import ObjectKey, Uid
from pybrix.api.meta import LabelSelector
from pybrix.api.selectors import compile_label_selector
from pybrix.base.clock import Clock
from pybrix.cluster.store.history import Change, Stored
from pybrix.cluster.store.store import Store
from pybrix.cluster.workloads.disruption.status import BudgetPod, Observed, compute
from pybrix.cluster.workloads.storeloop import Objects, StoreLoop

BUDGETS = "poddisruptionbudgets.policy"


class Disruption:
    """Count the pods of every budget anew when one of them, or what keeps it, changes."""

    def __init__(self, store: Store, objects: Objects, clock: Clock) -> None:
        self._store = store
        self._objects = objects
        self._clock = clock

    def start(self) -> Iterable[ObjectKey]:
        return [stored.key for stored in self._store.list(BUDGETS)]

    def observe(self, change: Change) -> Iterable[ObjectKey]:
        stored = change.object
        if stored.resource == BUDGETS:
            return [stored.key]
        if not self._store.count(BUDGETS) or not _may_count(stored):
            return []
        # Of the namespace all: a workload's replicas count for whichever budget has its pods.
        return [budget.key for budget in self._store.list(BUDGETS, stored.key.namespace)]

    def work(self, key: ObjectKey) -> float | None:
        stored = self._store.get(BUDGETS, key)
        if stored is None:
            return None
        computed = compute(self._observed(stored), self._clock.now())
        if computed.status != stored.data.get("status"):
            self._objects.update(BUDGETS, {**stored.data, "status": computed.status}, subresource="status")
        return computed.again_s

    def _observed(self, budget: Stored) -> Observed:
        selector = budget.data["spec"].get("selector")
        if selector is None:
            return Observed(budget.data)
        compiled = compile_label_selector(msgspec.convert(selector, LabelSelector))
        pods: list[BudgetPod] = []
        replicas: dict[str, int] = {}
        for pod in self._store.list("pods", budget.key.namespace):
            metadata, status = pod.data["metadata"], pod.data.get("status", {})
            is_selected = compiled is None or compiled.matches(metadata.get("labels") or {})
            if not is_selected or status.get("phase") in ("Succeeded", "Failed"):
                continue
            workload = self._workload(pod)
            if workload is not None:
                wanted = workload.data.get("spec", {}).get("replicas")
                if isinstance(wanted, int):
                    replicas[workload.uid] = wanted
            is_ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in status.get("conditions", ()))
            is_terminating = "deletionTimestamp" in metadata
            pods.append(BudgetPod(pod.key.name, is_ready, is_terminating, workload.uid if workload else ""))
        return Observed(budget.data, tuple(pods), replicas)

    def _workload(self, pod: Stored) -> Stored | None:
        """Return what keeps a pod; of a ReplicaSet that a Deployment made, the Deployment."""
        found = self._controller(pod.data)
        above = None if found is None else self._controller(found.data)
        return above or found

    def _controller(self, data: Mapping[str, Any]) -> Stored | None:
        for reference in data["metadata"].get("ownerReferences", ()):
            if reference.get("controller"):
                return self._store.by_uid(Uid(reference["uid"]))
        return None


def _may_count(stored: Stored) -> bool:
    return stored.resource == "pods" or isinstance(stored.data.get("spec", {}).get("replicas"), int)


def disruption_loop(store: Store, objects: Objects, clock: Clock) -> StoreLoop[ObjectKey]:
    """Return the loop that counts for disruption budgets."""
    return StoreLoop("disruption", store, Disruption(store, objects, clock))
