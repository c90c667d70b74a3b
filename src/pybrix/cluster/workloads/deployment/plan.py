"""Decide how a Deployment moves its pods from one template to the next."""

from __future__ import annotations

from functools import partial

from pybrix.api.apps import Deployment, ReplicaSet
from pybrix.cluster.workloads.deployment.revisions import render_replica_set
from pybrix.cluster.workloads.deployment.state import (
    Observed,
    as_revision,
    goal,
    history_limit,
    problem,
    replicas,
    size,
)
from pybrix.runtime.actions import Plan
from pybrix.runtime.claims import claim_actions
from pybrix.runtime.rollout.plan import Holder, Rolling, plan_rollout


def plan(seen: Observed) -> Plan:
    """Return one step towards the present template at `spec.replicas`; see `runtime.rollout.plan`."""
    deployment = seen.deployment
    if deployment.metadata.is_terminating or problem(deployment):
        return Plan()
    step = plan_rollout(
        Rolling(
            owner=deployment,
            goal=goal(deployment),
            is_paused=deployment.spec.paused,
            is_complete=is_complete(deployment),
            is_clear=_is_clear(seen),
            min_ready_seconds=deployment.spec.min_ready_seconds,
            history_limit=history_limit(deployment),
            new=_holder(seen.new) if seen.new is not None else None,
            old=tuple(map(_holder, seen.old)),
            render=partial(render_replica_set, deployment),
        )
    )
    return Plan((*claim_actions(deployment, seen.claims), *step.actions))


def is_complete(deployment: Deployment) -> bool:
    """Say whether the last written status is that of a finished rollout of the present spec."""
    status, wanted = deployment.status, replicas(deployment)
    return (
        status.updated_replicas == status.replicas == status.available_replicas == wanted
        and status.observed_generation >= deployment.metadata.generation
    )


def _holder(replica_set: ReplicaSet) -> Holder:
    return Holder(
        replica_set,
        as_revision(replica_set),
        min_ready_seconds=replica_set.spec.min_ready_seconds,
        replicas=replica_set.status.replicas or 0,
        is_observed=replica_set.status.observed_generation >= replica_set.metadata.generation,
    )


def _is_clear(seen: Observed) -> bool:
    """Say whether no pod of an older template is left, not even one that is ending. Only Recreate asks."""
    if any(size(s) or s.status.replicas for s in seen.old):
        return False
    present = seen.new.uid if seen.new is not None else None
    holders = ((pod, pod.metadata.controller) for pod in seen.pods if not pod.is_finished)
    return all(holder is not None and holder.uid == present for _, holder in holders)
