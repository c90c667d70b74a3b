"""What the ReplicaSet controller sees in one pass."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pybrix.api.apps import ReplicaSet
from pybrix.api.core import Pod
from pybrix.cluster.workloads.pods import is_active
from pybrix.runtime.claims import Claims, claim, compile_selector


@dataclass(frozen=True, slots=True)
class Observed:
    """One ReplicaSet and the pods that concern it."""

    replica_set: ReplicaSet
    claims: Claims[Pod]
    """Active pods: its own, those to adopt, those to release."""
    related: tuple[Pod, ...] = ()
    """Pods of the ReplicaSets with the same controller, this one included: they say which nodes are crowded."""
    is_settled: bool = True
    """Whether the cache shows every creation and deletion of earlier passes."""
    is_namespace_ending: bool = False
    """Whether the namespace is being deleted, so that nothing can be created in it."""

    @property
    def replicas(self) -> int:
        wanted = self.replica_set.spec.replicas
        return 1 if wanted is None else wanted


def observe(
    replica_set: ReplicaSet,
    pods: Iterable[Pod],
    related: Iterable[Pod] = (),
    *,
    is_settled: bool = True,
    is_namespace_ending: bool = False,
) -> Observed:
    """Sort the pods of the namespace that the ReplicaSet controls, or that no controller owns.

    Raises:
        ValueError: the selector is one that `claims.selector_problem` complains about.
    """
    active = (pod for pod in pods if is_active(pod))
    claims = claim(replica_set, compile_selector(replica_set.spec.selector), active)
    return Observed(replica_set, claims, tuple(related), is_settled, is_namespace_ending)
