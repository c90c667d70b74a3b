"""Open the readiness gate of pods that ask to become ready only with their adapters.

A pod template with the readiness gate `adapter.model.aibrix.ai/loaded` makes the rollout of its Deployment wait until
every adapter that is meant for the new pod is loaded there.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from pybrix.api.core import Pod
from pybrix.api.identity import ObjectKey, Uid
from pybrix.api.meta import Condition, find_condition
from pybrix.base.clock import Clock, format_rfc3339
from pybrix.controllers.modeladapter.engines import Engines
from pybrix.controllers.modeladapter.memory import Memories
from pybrix.controllers.modeladapter.records import is_failing
from pybrix.controllers.modeladapter.selection import Selection
from pybrix.controllers.modeladapter.state import READINESS_GATE, PodFacts, State
from pybrix.kube.informer import Informer
from pybrix.runtime.actions import Patch, Plan
from pybrix.runtime.controller import Controller, Watches

NAME = "modeladapter-gates"
GIVEN_UP = "LoadingFailed"
ALL_LOADED = "AllLoaded"
LOADING = "Loading"
REFUSING = "EngineRefuses"


class GateReconciler:
    """Set the condition of pods that have the gate."""

    def __init__(
        self,
        pods: Informer[Pod],
        selection: Selection,
        memories: Memories,
        engines: Engines,
        unplanned: Mapping[Uid, set[ObjectKey]],
        clock: Clock,
    ) -> None:
        self._pods = pods
        self._selection = selection
        self._memories = memories
        self._engines = engines
        self._unplanned = unplanned
        self._clock = clock
        self.controller = Controller(
            NAME,
            self.reconcile,
            sources=[Watches(pods, lambda pod: [pod.key] if _has_gate(pod) else [])],
            concurrency=2,
        )

    def wake(self, uid: Uid) -> None:
        """Look at a pod again, if it has a gate."""
        facts = self._selection.pod(uid)
        if facts is not None and facts.has_gate:
            self.controller.enqueue(facts.key)

    async def reconcile(self, key: ObjectKey) -> Plan | None:
        pod = self._pods.get(key)
        if pod is None or not _has_gate(pod) or pod.metadata.is_terminating or pod.is_finished:
            return None
        facts = self._selection.pod(pod.uid)
        if facts is None:
            return None
        wanted = self._judge(facts)
        old = find_condition(pod.status.conditions, READINESS_GATE)
        if old is not None and (old.status, old.reason) == (wanted.status, wanted.reason):
            return None
        if old is not None and old.is_true and not wanted.is_true:
            # A gate lets a pod in; what happens to adapters later is told by their endpoints, not by taking it out.
            return None
        stamped = msgspec.structs.replace(wanted, last_transition_time=format_rfc3339(self._clock.now()))
        others = [c for c in pod.status.conditions if c.type != READINESS_GATE]
        patch = {"status": {"conditions": msgspec.to_builtins([*others, stamped])}}
        why = f"{READINESS_GATE}: {wanted.reason}"
        version = pod.metadata.resource_version
        return Plan((Patch(Pod, key, patch, why, resource_version=version, subresource="status"),))

    def _judge(self, facts: PodFacts) -> Condition:
        groups = self._selection.groups_of(facts)
        records = {memory.key: record for memory, record in self._memories.records_of(facts.uid)}
        if not groups and not records:
            return _condition(True, ALL_LOADED, "no adapter is meant for this pod")
        engine = self._engines.get(facts.uid)
        if facts.are_containers_ready and engine is not None and engine.models is None and engine.is_refusing:
            return _condition(False, REFUSING, f"the engine does not list its models: {engine.error}")
        if not facts.are_containers_ready or engine is None or engine.models is None:
            return _condition(False, LOADING, "the engine does not answer yet")
        waiting, given_up = [key.name for key in self._unplanned.get(facts.uid, ())], []
        for group in groups:
            waiting += [key.name for key in group.everywhere if key not in records]
        for key, record in records.items():
            if is_failing(record):
                given_up.append(key.name)
            elif record.state in (State.LOADING, State.RELOADING, State.FAILED):
                waiting.append(key.name)
        if waiting:
            return _condition(False, LOADING, f"{len(waiting)} adapters are not loaded yet")
        if given_up:
            # The base model and the other adapters are worth more than none.
            return _condition(True, GIVEN_UP, f"{len(given_up)} adapters cannot be loaded here")
        return _condition(True, ALL_LOADED, f"{len(records)} adapters are loaded")


def _has_gate(pod: Pod) -> bool:
    return any(gate.get("conditionType") == READINESS_GATE for gate in pod.spec.readiness_gates)


def _condition(is_true: bool, reason: str, message: str) -> Condition:
    return Condition(type=READINESS_GATE, status="True" if is_true else "False", reason=reason, message=message)
