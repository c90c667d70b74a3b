"""What the Deployment controller sees in one pass, and the numbers that follow from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pybrix.api import names
from pybrix.api.apps import Deployment, ReplicaSet, RollingUpdate
from pybrix.api.core import Pod
from pybrix.base.quantity import parse_int_or_percent
from pybrix.cluster.workloads.claims import Claims, claim, compile_selector, selector_problem
from pybrix.cluster.workloads.deployment.revisions import comparable_template

_NO_DEADLINE = 2**31 - 1
_DEFAULT_DEADLINE_S = 600
_DEFAULT_HISTORY = 10
_QUARTER = "25%"


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
        _fenceposts(deployment)
    except ValueError as error:
        return f"spec.strategy.rollingUpdate: {error}"
    return ""


def replicas(deployment: Deployment) -> int:
    return 1 if deployment.spec.replicas is None else deployment.spec.replicas


def size(replica_set: ReplicaSet) -> int:
    """Return how many pods a ReplicaSet is asked for."""
    return 1 if replica_set.spec.replicas is None else replica_set.spec.replicas


def available(replica_set: ReplicaSet) -> int:
    """Return how many of the asked-for pods are available.

    A status may be older than the size: what is above the size goes away and counts as gone.
    """
    return min(size(replica_set), replica_set.status.available_replicas)


def total_size(replica_sets: Iterable[ReplicaSet]) -> int:
    return sum(size(s) for s in replica_sets)


def is_rolling(deployment: Deployment) -> bool:
    return deployment.spec.strategy.type == "RollingUpdate"


def max_surge(deployment: Deployment) -> int:
    """Return how many pods above `replicas` a rollout may have."""
    return _fenceposts(deployment)[0] if is_rolling(deployment) else 0


def max_unavailable(deployment: Deployment) -> int:
    """Return how many of `replicas` a rollout may take away."""
    wanted = replicas(deployment)
    if not is_rolling(deployment) or wanted == 0:
        return 0
    return min(_fenceposts(deployment)[1], wanted)


def progress_deadline_s(deployment: Deployment) -> int | None:
    """Return after how long without progress a rollout counts as stuck; None: never."""
    deadline = deployment.spec.progress_deadline_seconds
    if deadline is None:
        return _DEFAULT_DEADLINE_S
    return None if deadline >= _NO_DEADLINE else deadline


def history_limit(deployment: Deployment) -> int:
    limit = deployment.spec.revision_history_limit
    return _DEFAULT_HISTORY if limit is None else limit


def desired_annotation(replica_set: ReplicaSet) -> int | None:
    return _number(replica_set, names.DEPLOYMENT_DESIRED_REPLICAS)


def max_annotation(replica_set: ReplicaSet) -> int | None:
    return _number(replica_set, names.DEPLOYMENT_MAX_REPLICAS)


def _number(replica_set: ReplicaSet, annotation: str) -> int | None:
    text = replica_set.metadata.annotations.get(annotation, "")
    return int(text) if text.isascii() and text.isdigit() else None


def _fenceposts(deployment: Deployment) -> tuple[int, int]:
    """Resolve surge (rounded up) and unavailable (rounded down); both zero would be a standstill."""
    wanted = replicas(deployment)
    limits = deployment.spec.strategy.rolling_update or RollingUpdate()
    surge = _QUARTER if limits.max_surge is None else limits.max_surge
    unavailable = _QUARTER if limits.max_unavailable is None else limits.max_unavailable
    most = parse_int_or_percent(surge, wanted, round_up=True)
    least = parse_int_or_percent(unavailable, wanted, round_up=False)
    if most < 0 or least < 0:
        raise ValueError("maxSurge and maxUnavailable must not be negative")
    return (most, least) if most or least else (0, 1)
