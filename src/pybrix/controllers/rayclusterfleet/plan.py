"""Decide how a RayClusterFleet moves its clusters from one template to the next, and back."""

from __future__ import annotations

from functools import partial

from pybrix.api.orchestration.v1alpha1.rayclusterfleet import RayClusterFleet
from pybrix.api.orchestration.v1alpha1.rayclusterreplicaset import RayClusterReplicaSet
from pybrix.controllers.rayclusterfleet.render import is_same_template, render_replica_set, template_patch
from pybrix.controllers.rayclusterfleet.state import Observed, goal, holder, problem
from pybrix.runtime.actions import Action, Emit, Patch, Plan
from pybrix.runtime.claims import claim_actions
from pybrix.runtime.rollout.plan import Rolling, plan_rollout
from pybrix.runtime.rollout.revisions import ROLLBACK_TO, revision


def plan(seen: Observed) -> Plan:
    """Return one step towards the present template at `spec.replicas`; see `runtime.rollout.plan`.

    A cluster holds its GPUs until it is gone, so what is on its way out is counted: with `maxSurge: 0` no more
    clusters exist at any time than `spec.replicas`.
    """
    fleet = seen.fleet
    if fleet.metadata.is_terminating or problem(fleet):
        return Plan()
    if ROLLBACK_TO in fleet.metadata.annotations:
        return Plan(tuple(_roll_back(seen)))
    step = plan_rollout(
        Rolling(
            owner=fleet,
            goal=goal(fleet),
            is_paused=fleet.spec.paused,
            is_complete=is_complete(fleet),
            is_clear=_is_clear(seen),
            min_ready_seconds=fleet.spec.min_ready_seconds,
            history_limit=fleet.spec.revision_history_limit,
            new=holder(seen, seen.new) if seen.new is not None else None,
            old=tuple(holder(seen, s) for s in seen.old),
            render=partial(render_replica_set, fleet),
        )
    )
    return Plan((*claim_actions(fleet, seen.claims), *step.actions))


def is_complete(fleet: RayClusterFleet) -> bool:
    """Say whether the last written status is that of a finished rollout of the present spec."""
    status = fleet.status
    return (
        status.updated_replicas == status.replicas == status.available_replicas == fleet.spec.replicas
        and status.observed_generation >= fleet.metadata.generation
    )


def find_revision(seen: Observed, number: int) -> RayClusterReplicaSet | None:
    """Return the set of a revision; 0 stands for the one before the newest. None when there is none."""
    by_number = {revision(s.metadata.annotations): s for s in seen.owned if revision(s.metadata.annotations)}
    if number:
        return by_number.get(number)
    earlier = sorted(by_number)[:-1]
    return by_number[earlier[-1]] if earlier else None


def _is_clear(seen: Observed) -> bool:
    """Say whether no cluster of an older template is left, not even one that is being deleted. Only Recreate asks."""
    holders = [holder(seen, s) for s in seen.old]
    return not any(h.numbers.size or h.numbers.leaving or h.replicas for h in holders)


def _roll_back(seen: Observed) -> list[Action]:
    """Take a revision's template back as the annotation asks, and the annotation off: it is done once.

    Events have the reasons of upstream's Deployment controller.
    """
    fleet = seen.fleet
    text = fleet.metadata.annotations[ROLLBACK_TO]
    version = fleet.metadata.resource_version
    number = int(text) if text.isascii() and text.isdigit() else -1
    found = find_revision(seen, number) if number >= 0 else None
    if found is None:
        known = ", ".join(str(n) for n in sorted({revision(s.metadata.annotations) for s in seen.owned} - {0}))
        why = f"Unable to find revision {text!r} to roll back to; there are {known or 'none'}"
        told = Emit(fleet, "DeploymentRollbackRevisionNotFound", why, type="Warning")
    elif is_same_template(found.spec.template, fleet.spec.template):
        why = f"The rollback revision contains the same template as the current one of {fleet.metadata.name}"
        told = Emit(fleet, "DeploymentRollbackTemplateUnchanged", why, type="Warning")
    else:
        why = f"Rolled back {fleet.metadata.name} to revision {revision(found.metadata.annotations)}"
        told = Emit(fleet, "DeploymentRollback", why)
        template = template_patch(fleet, found.spec.template)
        patch = {"metadata": {"annotations": {ROLLBACK_TO: None}}, "spec": {"template": template}}
        return [Patch(RayClusterFleet, fleet.key, patch, why, resource_version=version), told]
    removed = {"metadata": {"annotations": {ROLLBACK_TO: None}}}
    return [Patch(RayClusterFleet, fleet.key, removed, why, resource_version=version), told]
