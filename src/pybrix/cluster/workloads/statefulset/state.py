"""What the StatefulSet controller sees in one pass, and the numbers that follow from it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from pybrix.api.apps import ControllerRevision, StatefulRollingUpdate, StatefulSet
from pybrix.api.core import PersistentVolumeClaim, Pod
from pybrix.base.quantity import parse_int_or_percent
from pybrix.cluster.workloads.pods import available_in_s
from pybrix.runtime.claims import Claims, claim, compile_selector, selector_problem

_NAME = re.compile(r"(.*)-(0|[1-9][0-9]*)")
_DEFAULT_HISTORY = 10


@dataclass(frozen=True, slots=True)
class Observed:
    """One StatefulSet and what concerns it in its namespace."""

    stateful_set: StatefulSet
    claims: Claims[Pod]
    """Pods that bear the set's name and a number: its own, those to adopt, those to release."""
    revisions: Claims[ControllerRevision]
    volume_claims: Mapping[str, PersistentVolumeClaim] = field(default_factory=dict)
    """Claims of the namespace by name."""
    is_settled: bool = True
    """Whether the cache shows every creation and deletion of earlier passes."""
    is_namespace_ending: bool = False
    """Whether the namespace is being deleted, so that nothing can be created in it."""

    @property
    def pods(self) -> dict[int, Pod]:
        """The set's pods by their number, those on their way out included."""
        return {ordinal_of(pod): pod for pod in self.claims.owned}

    @property
    def wanted(self) -> range:
        """The numbers that there should be."""
        return ordinals(self.stateful_set)


def observe(
    stateful_set: StatefulSet,
    pods: Iterable[Pod],
    revisions: Iterable[ControllerRevision],
    volume_claims: Iterable[PersistentVolumeClaim] = (),
    *,
    is_settled: bool = True,
    is_namespace_ending: bool = False,
) -> Observed:
    """Sort out what the set controls, and what nobody does.

    Raises:
        ValueError: the selector is one that `problem` tells of.
    """
    selector = compile_selector(stateful_set.spec.selector)
    members = (pod for pod in pods if set_name_of(pod) == stateful_set.metadata.name)
    return Observed(
        stateful_set,
        claim(stateful_set, selector, members),
        claim(stateful_set, selector, revisions),
        {c.metadata.name: c for c in volume_claims},
        is_settled,
        is_namespace_ending,
    )


def problem(stateful_set: StatefulSet) -> str:
    """Say why a set cannot be worked on; empty when it can. A server may be less strict than this."""
    spec = stateful_set.spec
    if found := selector_problem(spec.selector):
        return found
    if not compile_selector(spec.selector).matches((spec.template.get("metadata") or {}).get("labels") or {}):
        return "spec.selector does not match the labels of spec.template"
    try:
        max_unavailable(stateful_set)
    except ValueError as error:
        return f"spec.updateStrategy.rollingUpdate.maxUnavailable: {error}"
    return ""


def pod_name(stateful_set: StatefulSet, ordinal: int) -> str:
    return f"{stateful_set.metadata.name}-{ordinal}"


def set_name_of(pod: Pod) -> str:
    """Return the name of the set that a pod's name tells of; empty when it has no number."""
    found = _NAME.fullmatch(pod.metadata.name)
    return found[1] if found is not None else ""


def ordinal_of(pod: Pod) -> int:
    """Return the number of a pod that has one."""
    return int(pod.metadata.name.rpartition("-")[2])


def replicas(stateful_set: StatefulSet) -> int:
    return 1 if stateful_set.spec.replicas is None else stateful_set.spec.replicas


def ordinals(stateful_set: StatefulSet) -> range:
    start = stateful_set.spec.ordinals.start if stateful_set.spec.ordinals is not None else 0
    return range(start, start + replicas(stateful_set))


def rolling(stateful_set: StatefulSet) -> StatefulRollingUpdate | None:
    """Return how the set replaces outdated pods; None: it does not, whoever deletes one gets it anew."""
    strategy = stateful_set.spec.update_strategy
    if strategy.type == "OnDelete":
        return None
    return strategy.rolling_update or StatefulRollingUpdate()


def max_unavailable(stateful_set: StatefulSet) -> int:
    """Return how many pods a rollout may take away at once; at least one."""
    how = rolling(stateful_set)
    if how is None or how.max_unavailable is None:
        return 1
    return max(1, parse_int_or_percent(how.max_unavailable, replicas(stateful_set), round_up=True))


def is_ordered(stateful_set: StatefulSet) -> bool:
    return stateful_set.spec.pod_management_policy != "Parallel"


def history_limit(stateful_set: StatefulSet) -> int:
    limit = stateful_set.spec.revision_history_limit
    return _DEFAULT_HISTORY if limit is None else limit


def is_healthy(pod: Pod) -> bool:
    """Say whether a pod runs, is ready and stays."""
    return pod.is_ready and pod.status.phase == "Running" and not pod.metadata.is_terminating


def is_available(stateful_set: StatefulSet, pod: Pod, now: datetime) -> bool:
    """Say whether a healthy pod has been ready for `minReadySeconds`."""
    return is_healthy(pod) and available_in_s(pod, stateful_set.spec.min_ready_seconds, now) == 0
