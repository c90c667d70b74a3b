"""Decide which RayClusters a RayClusterReplicaSet creates, drains and deletes.

A cluster holds GPUs until its last pod is gone, so one that is on its way out still takes the place of a replica: the
next is created when it is gone. A cluster that serves leaves in two steps: its head is taken out of what gateways and
Services find, and when its requests have ended, or the deadline has come, the cluster is deleted as a whole; until
then its workers go on working.

What a deletion rests on cannot be older than the moment: caches of clusters and of pods lag independently. So nothing
is hidden or deleted by what a cache shows of a head: `plan` asks for it to be read (`Confirm`) and decides anew. The
time a head must have been out of sight counts from a note on the head itself, or from its readiness.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pybrix.api import names
from pybrix.api.orchestration.v1alpha1.rayclusterreplicaset import RayClusterReplicaSet
from pybrix.api.ray import RayCluster
from pybrix.base.clock import format_rfc3339
from pybrix.controllers.rayclusterreplicaset.clusters import (
    available_in_s,
    is_draining,
    is_failed,
    is_ready,
    unchanged_since,
)
from pybrix.controllers.rayclusterreplicaset.heads import hidden_since, is_named, out_for_s
from pybrix.controllers.rayclusterreplicaset.render import (
    begin_drain,
    end_drain,
    hide_head,
    hold_set,
    release_set,
    render_cluster,
    show_head,
)
from pybrix.controllers.rayclusterreplicaset.state import (
    Observed,
    drain_deadline_s,
    goes_without_drain,
    is_held,
    repair_after_s,
    replacements,
)
from pybrix.runtime.actions import Action, Create, Delete, Emit, Patch, Plan
from pybrix.runtime.claims import claim_actions

BURST_REPLICAS = 500
"""Clusters created in one pass; the cap of upstream's ReplicaSet controller."""
BURST_DELETIONS = 20
"""Clusters sent away in one pass: heads are hidden one after the other, and the time counts from the pass."""
SETTLE_S = 3.0
"""Requests may still arrive at a head for so long after it was hidden: gateways follow watches."""
POLL_S = 1.0
"""Time between two looks at a head that drains."""
LONGEST_BACKOFF = 6
"""Doublings of the time before another failed cluster is replaced."""


@dataclass(frozen=True, slots=True)
class Confirm:
    """Heads that have to be read from the API server before anything can be decided; see `state.confirm`."""

    clusters: tuple[RayCluster, ...]


def plan(seen: Observed, now: datetime) -> Plan | Confirm:
    """Return the actions that move the clusters towards `spec.replicas`, and when time alone calls for more.

    Nothing is created or deleted while the cache is behind what earlier passes did. A set that is being deleted goes
    when its clusters are drained and gone, unless garbage collection has been told what becomes of them.
    """
    work = _Pass(seen, now)
    replica_set = seen.replica_set
    work.actions += claim_actions(replica_set, seen.claims)
    if replica_set.metadata.is_terminating:
        if goes_without_drain(replica_set):
            work.release("garbage collection decides what becomes of its clusters")
        elif is_held(replica_set) and seen.is_settled:
            work.resize()
            work.drain()
            if not seen.claims.owned:
                work.release("it has no clusters any more")
    else:
        work.hold()
        if seen.is_settled:
            work.replace_failed()
            work.resize()
            work.drain()
    if work.unconfirmed:
        return Confirm(tuple(work.unconfirmed))
    return Plan(tuple(work.actions), min(work.looks, default=None))


def rank_for_deletion(clusters: tuple[RayCluster, ...], min_ready_seconds: int, now: datetime) -> list[RayCluster]:
    """Return the clusters, the first to go first: not ready, not yet available, cheap, old."""

    def key(cluster: RayCluster) -> tuple[object, ...]:
        return (
            is_ready(cluster),
            available_in_s(cluster, min_ready_seconds, now) == 0,
            _deletion_cost(cluster),
            cluster.metadata.creation_timestamp or "",
            cluster.metadata.name,
        )

    return sorted(clusters, key=key)


def _deletion_cost(cluster: RayCluster) -> int:
    text = cluster.metadata.annotations.get(names.POD_DELETION_COST, "0")
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) < 11 else 0


@dataclass(slots=True)
class _Pass:
    """One pass: what is known, and what has been decided so far."""

    seen: Observed
    now: datetime
    actions: list[Action] = field(default_factory=list)
    looks: list[float] = field(default_factory=list)
    retired: set[str] = field(default_factory=set)
    """UIDs of clusters that this pass sends away."""
    returned: set[str] = field(default_factory=set)
    """UIDs of clusters that stop draining in this pass, because they are wanted again."""
    unconfirmed: list[RayCluster] = field(default_factory=list)
    """Clusters whose heads have to be read before what is to be done with them can be said."""

    @property
    def _set(self) -> RayClusterReplicaSet:
        return self.seen.replica_set

    @property
    def _deadline_s(self) -> float:
        # Gateways need their time however short the deadline is.
        return max(drain_deadline_s(self._set), SETTLE_S)

    def hold(self) -> None:
        if not is_held(self._set):
            self.actions.append(hold_set(self._set))

    def release(self, why: str) -> None:
        if is_held(self._set):
            self.actions.append(release_set(self._set, why))

    def replace_failed(self) -> None:
        """Send one failed cluster away when KubeRay has been silent about it for long enough.

        One at a time, and after each the wait doubles until some cluster is available for as long as the last wait.
        """
        failed = [c for c in self.seen.staying if is_failed(c)]
        if not failed:
            self._forget_replacements()
            return
        count, last = replacements(self._set)
        grace_s = repair_after_s(self._set)
        earliest = (
            last + timedelta(seconds=grace_s * 2 ** min(count, LONGEST_BACKOFF)) if last is not None else self.now
        )
        due = {c.uid: (unchanged_since(c) or self.now) + timedelta(seconds=grace_s) for c in failed}
        first = min(failed, key=lambda c: (due[c.uid], c.metadata.name))
        moment = max(due[first.uid], earliest)
        if moment > self.now:
            self.looks.append((moment - self.now).total_seconds())
        elif not self.seen.leaving:
            # Before the deletion, so that a crash in between only makes the next one wait longer.
            notes = {names.REPLACEMENTS: str(count + 1), names.LAST_REPLACEMENT: format_rfc3339(self.now)}
            why = f"it was ready, failed, and is not repaired after {grace_s:.0f} s"
            self._note(notes, f"RayCluster {first.metadata.name} is replaced: {why}")
            self.actions.append(
                Emit(self._set, "ReplacingFailed", f"Replacing RayCluster {first.metadata.name}: {why}", type="Warning")
            )
            self._retire(first, why)

    def _forget_replacements(self) -> None:
        count, last = replacements(self._set)
        if not count or last is None or not self.seen.staying:
            return
        calm_s = repair_after_s(self._set) * 2 ** min(count, LONGEST_BACKOFF)
        left_s = (last + timedelta(seconds=calm_s) - self.now).total_seconds()
        if left_s > 0:
            self.looks.append(left_s)
        elif all(is_ready(c) for c in self.seen.staying):
            self._note({names.REPLACEMENTS: None, names.LAST_REPLACEMENT: None}, "no cluster failed for a while")

    def _note(self, annotations: Mapping[str, str | None], why: str) -> None:
        version = self._set.metadata.resource_version
        patch = {"metadata": {"annotations": annotations}}
        self.actions.append(Patch(RayClusterReplicaSet, self._set.key, patch, why, resource_version=version))

    def resize(self) -> None:
        """Create what is missing, send away what is too much."""
        seen = self.seen
        staying = tuple(c for c in seen.staying if c.uid not in self.retired)
        is_leaving = self._set.metadata.is_terminating
        why = "its set is being deleted" if is_leaving else f"{len(staying)}/{seen.replicas} clusters exist"
        surplus = len(staying) - seen.replicas
        if surplus > 0:
            ranked = rank_for_deletion(staying, self._set.spec.min_ready_seconds, self.now)
            for cluster in ranked[: min(surplus, BURST_DELETIONS)]:
                self._retire(cluster, why)
            return
        missing = -surplus
        for cluster in seen.leaving:
            # One that failed would only be sent away again.
            if missing and is_draining(cluster) and not cluster.metadata.is_terminating and is_ready(cluster):
                self._take_back(cluster)
                missing -= 1
        leaving = len(seen.claims.owned) - len(staying) - len(self.returned)
        missing = min(missing - leaving, BURST_REPLICAS)
        if missing > 0:
            manifest = render_cluster(self._set)
            self.actions += [Create(manifest, why, owner=self._set) for _ in range(missing)]

    def _take_back(self, cluster: RayCluster) -> None:
        why = f"RayCluster {cluster.metadata.name} is wanted again"
        self.returned.add(cluster.uid)
        self.actions.append(end_drain(cluster, why))
        head = self.seen.heads.get(cluster.uid)
        if head is not None and (patch := show_head(head.pod, why)) is not None:
            self.actions.append(patch)

    def _retire(self, cluster: RayCluster, why: str) -> None:
        """Begin to drain a cluster; delete one to which no request can come and that has none."""
        self.retired.add(cluster.uid)
        if cluster.uid not in self.seen.confirmed:
            self.unconfirmed.append(cluster)
        elif self._ended(cluster):
            self._delete(cluster, why)
        else:
            text = f"Draining RayCluster {cluster.metadata.name}: {why}"
            self.actions += [begin_drain(cluster, self.now, why), Emit(self._set, "Draining", text)]
            self._go_on(cluster, why)

    def drain(self) -> None:
        """Go on with the clusters that drain; delete those that are done. Also mend what a crash left half done."""
        for cluster in self.seen.staying:
            head = self.seen.heads.get(cluster.uid)
            if cluster.uid not in self.retired and head is not None:
                why = f"RayCluster {cluster.metadata.name} does not drain"
                if (patch := show_head(head.pod, why)) is not None:
                    self.actions.append(patch)
        for cluster in self.seen.leaving:
            if cluster.metadata.is_terminating or cluster.uid in self.returned:
                continue
            ended = self._ended(cluster)
            if cluster.uid not in self.seen.confirmed and (ended or not self._is_hidden(cluster)):
                self.unconfirmed.append(cluster)
            elif ended:
                self._delete(cluster, ended)
            else:
                self._go_on(cluster, "its cluster drains")

    def _is_hidden(self, cluster: RayCluster) -> bool:
        head = self.seen.heads.get(cluster.uid)
        return head is None or hidden_since(head.pod, self.now) is not None

    def _go_on(self, cluster: RayCluster, why: str) -> None:
        """Hide the head of a cluster that drains, then look again when its requests may have ended.

        One that drains for a while may be seen as well: a crash left it so, or KubeRay has made a new one.
        """
        head = self.seen.heads[cluster.uid]
        if (since := hidden_since(head.pod, self.now)) is None:
            self.actions.append(hide_head(head.pod, self.now, why))
            self.looks.append(SETTLE_S)
            return
        elapsed_s = (self.now - since).total_seconds()
        self.looks.append(min(max(SETTLE_S - elapsed_s, POLL_S), self._deadline_s - elapsed_s))

    def _ended(self, cluster: RayCluster) -> str:
        """Say why a cluster may be deleted now; empty while it may not."""
        head = self.seen.heads.get(cluster.uid)
        if head is None:
            return "it has no head"
        out_s = out_for_s(head.pod, self.now)
        if out_s >= SETTLE_S and head.requests == 0:
            return "its head has no request"
        since = hidden_since(head.pod, self.now)
        if since is not None and (self.now - since).total_seconds() >= self._deadline_s:
            left = "an unknown number of" if head.requests is None else str(head.requests)
            return f"the deadline of {self._deadline_s:.0f} s has come, with {left} requests left"
        return ""

    def _delete(self, cluster: RayCluster, why: str) -> None:
        head = self.seen.heads.get(cluster.uid)
        if head is not None and is_named(head.pod):
            # It is not ready. If that changes first, this is a conflict; afterwards nobody finds it.
            self.actions.append(hide_head(head.pod, self.now, why))
        # In the foreground: the object stays until its pods are gone, and so does what they hold.
        version = cluster.metadata.resource_version
        self.actions += [
            Delete(RayCluster, cluster.key, cluster.uid, why, "Foreground", self._set, resource_version=version),
            Emit(self._set, "SuccessfulDelete", f"Deleted RayCluster: {cluster.metadata.name}"),
        ]
