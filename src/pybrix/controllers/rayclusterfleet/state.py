"""What the controller of RayClusterFleets sees in one pass, and the numbers that follow from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pybrix.api import names
from pybrix.api.identity import Uid
from pybrix.api.orchestration.v1alpha1.rayclusterfleet import RayClusterFleet
from pybrix.api.orchestration.v1alpha1.rayclusterreplicaset import RayClusterReplicaSet
from pybrix.api.selectors import Selector, compile_label_selector
from pybrix.api.templates import RollingUpdate, ray_template_problem
from pybrix.controllers.rayclusterfleet.render import comparable_template
from pybrix.runtime.claims import Claims, claim, selector_problem
from pybrix.runtime.rollout.goal import Goal, Revision, rolling_goal
from pybrix.runtime.rollout.plan import Holder
from pybrix.runtime.rollout.progress import NO_DEADLINE
from pybrix.runtime.rollout.revisions import number_in


@dataclass(frozen=True, slots=True)
class Observed:
    """One RayClusterFleet and the RayClusterReplicaSets that concern it."""

    fleet: RayClusterFleet
    claims: Claims[RayClusterReplicaSet]
    """Sets: its own, those to adopt. None is released: it would be left alone with its clusters."""
    owned: tuple[RayClusterReplicaSet, ...]
    """Its own and those to adopt, oldest first."""
    new: RayClusterReplicaSet | None
    """The oldest of the present template; None before there is one."""
    old: tuple[RayClusterReplicaSet, ...]
    """The others of `owned`."""
    existing: Mapping[Uid, int] = field(default_factory=dict)
    """Clusters by the UID of their set, those on their way out included: each holds what it holds until it is gone."""


def observe(
    fleet: RayClusterFleet,
    replica_sets: Iterable[RayClusterReplicaSet],
    existing: Mapping[Uid, int] | None = None,
) -> Observed:
    """Sort the RayClusterReplicaSets of the namespace that the fleet controls, or that no controller owns.

    Raises:
        ValueError: the selector is one that `problem` tells of.
    """
    if found := selector_problem(fleet.spec.selector):
        raise ValueError(found)
    found_claims = claim(fleet, compile_label_selector(fleet.spec.selector) or Selector(), replica_sets)
    kept = (*found_claims.kept, *found_claims.released)
    claims = Claims(kept, found_claims.adopted)
    owned = tuple(sorted(claims.owned, key=age_order))
    wanted = comparable_template(fleet.spec.template)
    # One that is being deleted takes its clusters with it: it is nobody's new revision.
    matching = (s for s in owned if not s.metadata.is_terminating and comparable_template(s.spec.template) == wanted)
    new = next(matching, None)
    old = tuple(s for s in owned if new is None or s.uid != new.uid)
    return Observed(fleet, claims, owned, new, old, existing or {})


def age_order(replica_set: RayClusterReplicaSet) -> tuple[str, str]:
    return replica_set.metadata.creation_timestamp or "", replica_set.metadata.name


def problem(fleet: RayClusterFleet) -> str:
    """Say why a fleet cannot be worked on; empty when it can. A server may be less strict than this."""
    spec = fleet.spec
    if found := selector_problem(spec.selector):
        return found
    selector = compile_label_selector(spec.selector)
    if selector is None or not selector.matches(spec.template.metadata.labels):
        return "spec.selector does not match the labels of spec.template"
    if spec.strategy is not None and spec.strategy.type not in ("", "RollingUpdate", "Recreate"):
        return f"spec.strategy.type {spec.strategy.type!r} is neither RollingUpdate nor Recreate"
    if spec.replicas < 0:
        return f"spec.replicas is {spec.replicas}: it cannot be negative"
    try:
        goal(fleet)
    except ValueError as error:
        return f"spec.strategy.rollingUpdate: {error}"
    return ray_template_problem(spec.template)


def goal(fleet: RayClusterFleet) -> Goal:
    """Return the numbers that a fleet asks for; a strategy without a type is RollingUpdate.

    Raises:
        ValueError: `problem` tells of it.
    """
    strategy, current = fleet.spec.strategy, fleet.status.replicas
    if strategy is not None and strategy.type == "Recreate":
        return Goal(fleet.spec.replicas, is_rolling=False, current=current)
    limits = (strategy.rolling_update if strategy is not None else None) or RollingUpdate()
    return rolling_goal(fleet.spec.replicas, limits.max_surge, limits.max_unavailable, current=current)


def progress_deadline_s(fleet: RayClusterFleet) -> int | None:
    """Return after how long without progress a rollout counts as stuck; None: never."""
    deadline = fleet.spec.progress_deadline_seconds
    return None if deadline >= NO_DEADLINE else deadline


def size(replica_set: RayClusterReplicaSet) -> int:
    return replica_set.spec.replicas


def holder(seen: Observed, replica_set: RayClusterReplicaSet) -> Holder:
    """Return the numbers of a set. Clusters that are there beyond its size are on their way out, and count as that."""
    annotations, status = replica_set.metadata.annotations, replica_set.status
    existing = max(seen.existing.get(replica_set.uid, 0), status.replicas or 0)
    numbers = Revision(
        uid=replica_set.uid,
        age=age_order(replica_set),
        size=size(replica_set),
        ready_for_long=status.available_replicas,
        desired=number_in(annotations, names.DEPLOYMENT_DESIRED_REPLICAS),
        most=number_in(annotations, names.DEPLOYMENT_MAX_REPLICAS),
        leaving=max(0, existing - size(replica_set)),
    )
    return Holder(
        replica_set,
        numbers,
        min_ready_seconds=replica_set.spec.min_ready_seconds,
        replicas=existing,
        is_observed=status.observed_generation >= replica_set.metadata.generation,
    )
