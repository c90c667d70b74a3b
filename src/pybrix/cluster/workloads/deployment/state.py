"""What the Deployment controller sees in one pass, and the numbers that follow from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pybrix.api import names
from pybrix.api.apps import Deployment, ReplicaSet, RollingUpdate
from pybrix.api.core import Pod
from pybrix.cluster.workloads.templates import comparable_template
from pybrix.runtime.claims import Claims, claim, compile_selector, selector_problem
from pybrix.runtime.rollout.goal import Goal, Revision, rolling_goal
from pybrix.runtime.rollout.progress import NO_DEADLINE
from pybrix.runtime.rollout.revisions import number_in

_DEFAULT_DEADLINE_S = 600
_DEFAULT_HISTORY = 10


@dataclass(frozen=True, slots=True)
class Observed:
    """One Deployment and the ReplicaSets that concern it."""

    deployment: Deployment
    claims: Claims[ReplicaSet]
    """ReplicaSets: its own, those to adopt, those to release."""
    owned: tuple[ReplicaSet, ...]
    """Its own and those to adopt, oldest first."""
    new: ReplicaSet | None
    """The oldest of the present template; None before there is one."""
    old: tuple[ReplicaSet, ...]
    """The others of `owned`."""
    pods: tuple[Pod, ...] = ()
    """Pods of `owned`, those on their way out included; only Recreate looks at them."""


def observe(deployment: Deployment, replica_sets: Iterable[ReplicaSet], pods: Iterable[Pod] = ()) -> Observed:
    """Sort the ReplicaSets of the namespace that the Deployment controls, or that no controller owns.

    Raises:
        ValueError: the selector is one that `problem` tells of.
    """
    claims = claim(deployment, compile_selector(deployment.spec.selector), replica_sets)
    owned = tuple(sorted(claims.owned, key=age_order))
    wanted = comparable_template(deployment.spec.template)
    new = next((s for s in owned if comparable_template(s.spec.template) == wanted), None)
    old = tuple(s for s in owned if new is None or s.uid != new.uid)
    return Observed(deployment, claims, owned, new, old, tuple(pods))


def age_order(replica_set: ReplicaSet) -> tuple[str, str]:
    return replica_set.metadata.creation_timestamp or "", replica_set.metadata.name


def problem(deployment: Deployment) -> str:
    """Say why a Deployment cannot be worked on; empty when it can. A server may be less strict than this."""
    spec = deployment.spec
    if found := selector_problem(spec.selector):
        return found
    if not compile_selector(spec.selector).matches((spec.template.get("metadata") or {}).get("labels") or {}):
        return "spec.selector does not match the labels of spec.template"
    if spec.strategy.type not in ("RollingUpdate", "Recreate"):
        return f"spec.strategy.type {spec.strategy.type!r} is neither RollingUpdate nor Recreate"
    try:
        goal(deployment)
    except ValueError as error:
        return f"spec.strategy.rollingUpdate: {error}"
    return ""


def replicas(deployment: Deployment) -> int:
    return 1 if deployment.spec.replicas is None else deployment.spec.replicas


def size(replica_set: ReplicaSet) -> int:
    """Return how many pods a ReplicaSet is asked for."""
    return 1 if replica_set.spec.replicas is None else replica_set.spec.replicas


def goal(deployment: Deployment) -> Goal:
    """Return the numbers that a Deployment asks for.

    Raises:
        ValueError: `problem` tells of it.
    """
    if not is_rolling(deployment):
        return Goal(replicas(deployment), is_rolling=False, current=deployment.status.replicas)
    limits = deployment.spec.strategy.rolling_update or RollingUpdate()
    return rolling_goal(
        replicas(deployment), limits.max_surge, limits.max_unavailable, current=deployment.status.replicas
    )


def as_revision(replica_set: ReplicaSet) -> Revision:
    """Return the numbers of a ReplicaSet."""
    annotations = replica_set.metadata.annotations
    return Revision(
        uid=replica_set.uid,
        age=age_order(replica_set),
        size=size(replica_set),
        ready_for_long=replica_set.status.available_replicas,
        desired=number_in(annotations, names.DEPLOYMENT_DESIRED_REPLICAS),
        most=number_in(annotations, names.DEPLOYMENT_MAX_REPLICAS),
    )


def is_rolling(deployment: Deployment) -> bool:
    return deployment.spec.strategy.type == "RollingUpdate"


def max_surge(deployment: Deployment) -> int:
    """Return how many pods above `replicas` a rollout may have."""
    return goal(deployment).max_surge


def max_unavailable(deployment: Deployment) -> int:
    """Return how many of `replicas` a rollout may take away."""
    return goal(deployment).max_unavailable


def progress_deadline_s(deployment: Deployment) -> int | None:
    """Return after how long without progress a rollout counts as stuck; None: never."""
    deadline = deployment.spec.progress_deadline_seconds
    if deadline is None:
        return _DEFAULT_DEADLINE_S
    return None if deadline >= NO_DEADLINE else deadline


def history_limit(deployment: Deployment) -> int:
    limit = deployment.spec.revision_history_limit
    return _DEFAULT_HISTORY if limit is None else limit
