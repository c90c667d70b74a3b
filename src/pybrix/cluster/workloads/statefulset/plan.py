"""Decide the next step of a StatefulSet: which pods it creates, deletes or replaces, in the order of their numbers.

The order is that of https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/: pods are created from the
lowest number up, each when those before it are ready; they go from the highest number down; and a rollout replaces from
the highest number down to the partition. With `podManagementPolicy: Parallel` only the rollout waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from pybrix.api import names
from pybrix.api.core import Pod
from pybrix.cluster.workloads.statefulset.render import claim_names, render_claims, render_pod
from pybrix.cluster.workloads.statefulset.retention import retention_actions
from pybrix.cluster.workloads.statefulset.revisions import Revision, Revisions
from pybrix.cluster.workloads.statefulset.state import (
    Observed,
    is_available,
    is_healthy,
    is_ordered,
    max_unavailable,
    rolling,
)
from pybrix.runtime.actions import Action, Create, Delete, Emit, Patch, Plan
from pybrix.runtime.claims import claim_actions


def plan(seen: Observed, revisions: Revisions, now: datetime) -> Plan:
    """Return one step. Nothing is created or deleted while the cache is behind, nor for a set that is being deleted."""
    stateful_set = seen.stateful_set
    actions: list[Action] = [
        *claim_actions(stateful_set, seen.claims),
        *claim_actions(stateful_set, seen.revisions),
    ]
    if not seen.is_settled or stateful_set.metadata.is_terminating:
        return Plan(tuple(actions))
    actions += [*revisions.actions, *retention_actions(seen), *_relabel(seen)]
    # An ordered set stops at the first pod that it has to wait for.
    actions += _Steps(seen, revisions, now).take()
    return Plan(tuple(actions))


def _relabel(seen: Observed) -> Iterator[Action]:
    """Give pods that were adopted the label by which a Service selects them alone."""
    for pod in seen.pods.values():
        name = pod.metadata.name
        if pod.metadata.labels.get(names.STATEFUL_POD_NAME) != name and not pod.metadata.is_terminating:
            patch = {"metadata": {"uid": pod.uid, "labels": {names.STATEFUL_POD_NAME: name}}}
            yield Patch(Pod, pod.key, patch, "its label does not tell its name")


class _Steps:
    """The pods of one pass, from those that should be there to those that should not."""

    def __init__(self, seen: Observed, revisions: Revisions, now: datetime) -> None:
        self._seen = seen
        self._set = seen.stateful_set
        self._revisions = revisions
        self._now = now
        self._pods = seen.pods
        self._is_ordered = is_ordered(seen.stateful_set)
        self._is_waiting = False

    def take(self) -> Iterator[Action]:
        for step in (self._fill, self._shrink, self._roll):
            yield from step()
            if self._is_waiting:
                return

    def _fill(self) -> Iterator[Action]:
        """Make the pods that are missing, and make those anew that have ended."""
        for ordinal in self._seen.wanted:
            pod = self._pods.get(ordinal)
            if pod is None:
                yield from self._create(ordinal)
            elif pod.is_finished:
                if not pod.metadata.is_terminating:
                    why = f"pod {pod.metadata.name} is {pod.status.phase}"
                    told = f"StatefulSet {self._set.key} is recreating failed Pod {pod.metadata.name}"
                    yield Emit(self._set, "RecreatingFailedPod", told, type="Warning")
                    yield from self._delete(pod, why)
            elif is_available(self._set, pod, self._now):
                continue
            elif not pod.metadata.is_terminating:
                yield from self._missing_claims(ordinal, f"pod {pod.metadata.name} waits for it")
            if self._is_ordered:
                self._is_waiting = True
                return

    def _create(self, ordinal: int) -> Iterator[Action]:
        if self._seen.is_namespace_ending or self._has_stale_claim(ordinal):
            return
        revision = self._revision_for(ordinal)
        manifest = render_pod(self._set, ordinal, revision)
        name = manifest["metadata"]["name"]
        have = f"{sum(o in self._pods for o in self._seen.wanted)}/{len(self._seen.wanted)} pods exist"
        yield from self._missing_claims(ordinal, f"pod {name} has none yet")
        yield Create(manifest, f"{have}, {name} is next", owner=self._set)
        told = f"create Pod {name} in StatefulSet {self._set.metadata.name} successful"
        yield Emit(self._set, "SuccessfulCreate", told)

    def _has_stale_claim(self, ordinal: int) -> bool:
        """Say whether a claim of the pod is on its way out: the pod waits for its successor."""
        claims = (self._seen.volume_claims.get(name) for name in claim_names(self._set, ordinal).values())
        return any(claim is not None and claim.metadata.is_terminating for claim in claims)

    def _missing_claims(self, ordinal: int, why: str) -> Iterator[Action]:
        for manifest in render_claims(self._set, ordinal):
            name = manifest["metadata"]["name"]
            if name not in self._seen.volume_claims and not self._seen.is_namespace_ending:
                yield Create(manifest, why)
                told = f"create Claim {name} in StatefulSet {self._set.metadata.name} success"
                yield Emit(self._set, "SuccessfulCreate", told)

    def _revision_for(self, ordinal: int) -> Revision:
        """Return what a new pod is made from: below the partition the revision before, until all are updated."""
        how = rolling(self._set)
        if how is not None and ordinal < self._seen.wanted.start + how.partition:
            return self._revisions.current
        return self._revisions.update

    def _shrink(self) -> Iterator[Action]:
        """Let go of the pods beyond the wanted numbers, the highest first."""
        condemned = sorted((o for o in self._pods if o not in self._seen.wanted), reverse=True)
        unhealthy = [o for o in condemned if not is_healthy(self._pods[o])]
        why = f"{len(self._pods)} pods exist, {len(self._seen.wanted)} are wanted"
        for ordinal in condemned:
            pod = self._pods[ordinal]
            # The lowest unhealthy one holds up those above it that are not healthy either, but not itself.
            is_held_up = ordinal in unhealthy and ordinal != unhealthy[-1]
            if not pod.metadata.is_terminating and not (self._is_ordered and is_held_up):
                yield from self._delete(pod, why)
            if self._is_ordered:
                self._is_waiting = True
                return

    def _roll(self) -> Iterator[Action]:
        """Delete outdated pods from the highest number down, never more than may be unavailable."""
        how = rolling(self._set)
        if how is None:
            return
        may_go = max_unavailable(self._set)
        update = self._revisions.update.name
        for ordinal in reversed(self._seen.wanted[how.partition :]):
            if may_go <= 0:
                return
            pod = self._pods.get(ordinal)
            if pod is None or pod.metadata.is_terminating:
                may_go -= 1
            elif pod.metadata.labels.get(names.CONTROLLER_REVISION_HASH) != update:
                yield from self._delete(pod, f"it is of an older revision than {update}")
                may_go -= 1
            elif not is_available(self._set, pod, self._now):
                may_go -= 1

    def _delete(self, pod: Pod, why: str) -> Iterator[Action]:
        yield Delete(Pod, pod.key, pod.uid, why, owner=self._set)
        told = f"delete Pod {pod.metadata.name} in StatefulSet {self._set.metadata.name} successful"
        yield Emit(self._set, "SuccessfulDelete", told)
