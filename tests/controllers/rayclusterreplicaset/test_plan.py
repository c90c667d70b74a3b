"""Which clusters a RayClusterReplicaSet creates, drains and deletes: tables."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import pytest

from pybrix.api import names
from pybrix.api.core import Pod
from pybrix.api.orchestration.v1alpha1.rayclusterreplicaset import RayClusterReplicaSet
from pybrix.api.ray import RayCluster
from pybrix.base.clock import format_rfc3339, format_rfc3339_micro
from pybrix.controllers.rayclusterreplicaset.plan import BURST_DELETIONS, SETTLE_S, Confirm, plan, rank_for_deletion
from pybrix.controllers.rayclusterreplicaset.state import Head, confirm, observe, problem
from pybrix.controllers.rayclusterreplicaset.status import Failure, next_status
from pybrix.runtime.actions import Create, Delete, Emit, Patch, Plan
from tests.support.clocks import EPOCH
from tests.support.fleets import LABELS, MODEL, make_cluster, make_head, make_set, ready_status


def at(seconds: float) -> datetime:
    return EPOCH + timedelta(seconds=seconds)


def text(seconds: float) -> str:
    return format_rfc3339(at(seconds))


def ready(name: str, owner: RayClusterReplicaSet, *, created: float = 0, **more: Any) -> RayCluster:
    return make_cluster(name, owner=owner, created=text(created), status=ready_status(text(10)), **more)


def failed(name: str, owner: RayClusterReplicaSet, since: float, **more: Any) -> RayCluster:
    return make_cluster(name, owner=owner, status=ready_status(text(since), ready_workers=0), **more)


def draining(since: float) -> dict[str, str]:
    return {names.DRAINING_SINCE: text(since)}


def planned(
    replica_set: RayClusterReplicaSet,
    clusters: Iterable[RayCluster],
    now: float = 100,
    heads: Iterable[Head] = (),
    *,
    is_settled: bool = True,
) -> Plan:
    """Return the plan when the API server has the same heads as the cache."""
    by_cluster = {owner.uid: head for head in heads if (owner := head.pod.metadata.controller) is not None}
    seen = observe(replica_set, clusters, by_cluster, is_settled=is_settled)
    while isinstance(step := plan(seen, at(now)), Confirm):
        uids = frozenset(c.uid for c in step.clusters)
        seen = confirm(seen, uids, {uid: head for uid, head in by_cluster.items() if uid in uids})
    return step


def created(step: Plan) -> int:
    return sum(isinstance(a, Create) for a in step.actions)


def deleted(step: Plan) -> list[str]:
    return [a.key.name for a in step.actions if isinstance(a, Delete)]


def patches(step: Plan, cls: type[Any] = RayCluster) -> list[dict[str, Any]]:
    return [dict(a.patch["metadata"]) for a in step.actions if isinstance(a, Patch) and a.cls is cls]


@pytest.mark.parametrize(("replicas", "present", "want"), [(2, 0, 2), (2, 2, 0), (3, 1, 2), (0, 0, 0)])
def test_what_is_missing_is_created(replicas: int, present: int, want: int) -> None:
    replica_set = make_set(replicas=replicas)
    step = planned(replica_set, [ready(f"c{n}", replica_set) for n in range(present)])
    assert (created(step), deleted(step)) == (want, [])


def test_a_cluster_is_made_from_the_template_alone() -> None:
    (create,) = [a for a in planned(make_set(replicas=1), []).actions if isinstance(a, Create)]
    assert create.manifest["metadata"] == {"generateName": "big-1-", "namespace": "default", "labels": LABELS}
    assert create.manifest["apiVersion"] == "ray.io/v1"
    assert create.owner is not None


def test_nothing_is_made_or_deleted_while_the_cache_is_behind() -> None:
    replica_set = make_set(replicas=3)
    assert planned(replica_set, [], is_settled=False).actions == ()


@pytest.mark.parametrize("is_draining", [True, False])
def test_a_cluster_on_its_way_out_keeps_its_place_until_it_is_gone(is_draining: bool) -> None:
    replica_set = make_set(replicas=2)
    annotations = draining(99) if is_draining else {}
    leaving = make_cluster("b", owner=replica_set, annotations=annotations, is_terminating=not is_draining)
    step = planned(replica_set, [ready("a", replica_set), leaving], heads=[Head(make_head(leaving))])
    assert created(step) == 0
    assert created(planned(replica_set, [ready("a", replica_set)])) == 1


def test_the_order_of_deletion() -> None:
    replica_set = make_set(replicas=0)
    cheap, dear = {names.POD_DELETION_COST: "-5"}, {names.POD_DELETION_COST: "7"}
    clusters = (
        ready("dear", replica_set, annotations=dear),
        ready("young", replica_set, created=50),
        ready("old", replica_set, created=5),
        ready("cheap", replica_set, annotations=cheap, created=90),
        make_cluster("starting", owner=replica_set, created=text(95)),
        make_cluster("just-ready", owner=replica_set, status=ready_status(text(99)), annotations=dear),
    )
    ranked = [c.metadata.name for c in rank_for_deletion(clusters, 30, at(100))]
    assert ranked == ["starting", "just-ready", "cheap", "old", "young", "dear"]


def test_many_are_sent_away_some_at_a_time() -> None:
    replica_set = make_set(replicas=1)
    clusters = [make_cluster(f"c{number:02}", owner=replica_set) for number in range(30)]
    went = deleted(planned(replica_set, clusters))
    assert len(went) == BURST_DELETIONS
    assert len(deleted(planned(replica_set, [c for c in clusters if c.metadata.name not in went]))) == 9


def test_clusters_of_others_are_left_alone_orphans_adopted_and_strangers_released() -> None:
    replica_set, other = make_set(replicas=1), make_set("other", 1)
    own = ready("own", replica_set)
    orphan = make_cluster("orphan")
    stranger = make_cluster("stranger", owner=replica_set, labels={"app": "else"})
    step = planned(replica_set, [own, orphan, stranger, ready("foreign", other)])
    changed = [a.key.name for a in step.actions if isinstance(a, Patch)]
    assert changed[:2] == ["orphan", "stranger"]
    # The orphan is one too many now, and starts only.
    assert deleted(step) == ["orphan"]


class TestDraining:
    """A cluster that serves leaves in two steps."""

    replica_set = make_set(replicas=0)

    def cluster(self, since: float | None = None) -> RayCluster:
        return ready("a", self.replica_set, annotations=draining(since) if since is not None else {})

    def hidden(self, cluster: RayCluster, requests: int | None, since: float = 100) -> Head:
        head = make_head(cluster)
        labels = {k: v for k, v in head.metadata.labels.items() if k != names.MODEL_NAME}
        data = head.to_dict()
        data["metadata"] |= {
            "labels": labels,
            "annotations": {names.DRAINED_MODEL: f"label:{MODEL}", names.HIDDEN_SINCE: text(since)},
        }
        return Head(Pod.from_dict(data), requests)

    def test_its_head_is_hidden_first(self) -> None:
        cluster = self.cluster()
        step = planned(self.replica_set, [cluster], heads=[Head(make_head(cluster))])
        assert deleted(step) == []
        assert patches(step)[0]["annotations"] == draining(100)
        (hidden,) = patches(step, Pod)
        assert hidden["labels"] == {names.MODEL_NAME: None}
        noted = {names.DRAINED_MODEL: f"label:{MODEL}", names.HIDDEN_SINCE: format_rfc3339_micro(at(100))}
        assert hidden["annotations"] == noted
        assert step.requeue_after_s == SETTLE_S

    @pytest.mark.parametrize(
        ("elapsed", "requests", "want"),
        [
            pytest.param(1, 0, [], id="idle, but gateways may not have heard yet"),
            pytest.param(5, 0, ["a"], id="idle"),
            pytest.param(5, 2, [], id="busy"),
            pytest.param(5, None, [], id="it does not say, which is not idleness"),
            pytest.param(31, 2, ["a"], id="the deadline has come"),
        ],
    )
    def test_it_is_deleted_when_nothing_is_left_or_the_deadline_has_come(
        self, elapsed: float, requests: int | None, want: list[str]
    ) -> None:
        cluster = self.cluster(since=100)
        step = planned(self.replica_set, [cluster], 100 + elapsed, [self.hidden(cluster, requests)])
        assert deleted(step) == want
        assert (step.requeue_after_s is None) == bool(want)

    def test_the_whole_cluster_goes_at_once_and_stays_visible_until_it_is_gone(self) -> None:
        cluster = self.cluster(since=100)
        step = planned(self.replica_set, [cluster], 110, [self.hidden(cluster, 0)])
        (delete,) = [a for a in step.actions if isinstance(a, Delete)]
        assert delete.propagation == "Foreground"
        assert delete.resource_version == cluster.metadata.resource_version, "only as it was seen"

    def test_a_head_that_is_seen_again_is_hidden_again_before_anything_else(self) -> None:
        # Longer than any deadline: what counts is since when this head is out of sight.
        cluster = self.cluster(since=0)
        step = planned(self.replica_set, [cluster], 100, [Head(make_head(cluster), 0)])
        assert deleted(step) == []
        assert patches(step, Pod)[0]["labels"] == {names.MODEL_NAME: None}

    @pytest.mark.parametrize("since", ["", "yesterday", text(101)])
    def test_a_time_that_cannot_be_is_noted_again(self, since: str) -> None:
        cluster = self.cluster(since=0)
        data = self.hidden(cluster, 0).pod.to_dict()
        data["metadata"]["annotations"][names.HIDDEN_SINCE] = since
        step = planned(self.replica_set, [cluster], 100, [Head(Pod.from_dict(data), 0)])
        assert deleted(step) == []
        assert patches(step, Pod)[0]["annotations"][names.HIDDEN_SINCE] == format_rfc3339_micro(at(100))

    def test_gateways_get_their_time_however_short_the_deadline_is(self) -> None:
        replica_set = make_set(replicas=0, annotations={names.DRAIN_DEADLINE: "0"})
        cluster = ready("a", replica_set, annotations=draining(100))
        step = planned(replica_set, [cluster], 100 + SETTLE_S - 1, [self.hidden(cluster, 2)])
        assert (deleted(step), step.requeue_after_s) == ([], 1)
        assert deleted(planned(replica_set, [cluster], 100 + SETTLE_S, [self.hidden(cluster, 2)])) == ["a"]

    def test_workers_outlive_a_head_that_ends_by_itself(self) -> None:
        cluster = self.cluster(since=100)
        data = self.hidden(cluster, 1).pod.to_dict()
        data["metadata"]["deletionTimestamp"] = text(130)
        ending = Pod.from_dict(data)
        assert deleted(planned(self.replica_set, [cluster], 105, [Head(ending, 1)])) == []
        assert deleted(planned(self.replica_set, [cluster], 105, [Head(ending, 0)])) == ["a"]

    @pytest.mark.parametrize("is_draining", [True, False])
    def test_nothing_is_hidden_or_deleted_by_a_cached_head(self, is_draining: bool) -> None:
        cluster = self.cluster(since=100 if is_draining else None)
        for heads in ({}, {cluster.uid: Head(make_head(cluster, is_ready=False), 0)}):
            step = plan(observe(self.replica_set, [cluster], heads), at(200))
            assert step == Confirm((cluster,))

    def test_the_deadline_is_an_annotation(self) -> None:
        replica_set = make_set(replicas=0, annotations={names.DRAIN_DEADLINE: "600"})
        cluster = ready("a", replica_set, annotations=draining(100))
        assert deleted(planned(replica_set, [cluster], 200, [self.hidden(cluster, 1)])) == []
        assert deleted(planned(replica_set, [cluster], 701, [self.hidden(cluster, 1)])) == ["a"]

    def test_a_head_that_a_crash_left_hidden_is_shown_again(self) -> None:
        replica_set = make_set(replicas=1)
        cluster = ready("a", replica_set)
        step = planned(replica_set, [cluster], 200, [self.hidden(cluster, 0)])
        (shown,) = patches(step, Pod)
        assert shown["labels"] == {names.MODEL_NAME: MODEL}
        assert shown["annotations"] == {names.DRAINED_MODEL: None, names.HIDDEN_SINCE: None}

    def test_what_is_wanted_again_serves_again(self) -> None:
        replica_set = make_set(replicas=1)
        cluster = ready("a", replica_set, annotations=draining(99))
        step = planned(replica_set, [cluster], 100, [self.hidden(cluster, 3)])
        assert (created(step), deleted(step)) == (0, [])
        assert patches(step)[0]["annotations"] == {names.DRAINING_SINCE: None}
        (shown,) = patches(step, Pod)
        assert shown["labels"] == {names.MODEL_NAME: MODEL}

    @pytest.mark.parametrize(
        ("since", "ip", "requests", "want"),
        [
            pytest.param(90, "127.64.0.9", 0, ["a"], id="not ready for long, idle"),
            pytest.param(99, "127.64.0.9", 0, [], id="gateways may not have heard yet"),
            pytest.param(90, "127.64.0.9", 2, [], id="requests of before"),
            pytest.param(90, "127.64.0.9", None, [], id="it does not say"),
            pytest.param(99, "", 0, ["a"], id="it never had an address"),
        ],
    )
    def test_a_head_that_is_not_ready_and_has_nothing_to_do_goes_at_once(
        self, since: float, ip: str, requests: int | None, want: list[str]
    ) -> None:
        cluster = self.cluster()
        head = make_head(cluster, is_ready=False, ip=ip, since=text(since))
        step = planned(self.replica_set, [cluster], heads=[Head(head, requests)])
        assert deleted(step) == want
        # Either way it is not to be found if it gets ready after all, and a ready one would be a conflict.
        (hide,) = [a for a in step.actions if isinstance(a, Patch) and a.cls is Pod]
        assert hide.resource_version == head.metadata.resource_version
        assert hide.patch["metadata"]["labels"] == {names.MODEL_NAME: None}
        deletes = [n for n, a in enumerate(step.actions) if isinstance(a, Delete)]
        assert all(step.actions.index(hide) < n for n in deletes)


def deleted_set(*finalizers: str) -> RayClusterReplicaSet:
    data = make_set(replicas=2).to_dict()
    data["metadata"] |= {"deletionTimestamp": text(90), "finalizers": [names.DRAIN_FINALIZER, *finalizers]}
    return RayClusterReplicaSet.from_dict(data)


class TestDeletion:
    """A set that is being deleted."""

    def test_a_set_is_held_from_the_beginning(self) -> None:
        replica_set = make_set(replicas=1)
        replica_set.metadata.finalizers = ["another"]
        (held,) = patches(planned(replica_set, []), RayClusterReplicaSet)
        assert held["finalizers"] == ["another", names.DRAIN_FINALIZER]

    def test_its_clusters_are_drained_while_it_stays(self) -> None:
        replica_set = deleted_set()
        cluster = ready("a", replica_set)
        step = planned(replica_set, [cluster], heads=[Head(make_head(cluster), 1)])
        assert (created(step), deleted(step)) == (0, [])
        assert patches(step)[0]["annotations"] == draining(100)
        assert patches(step, RayClusterReplicaSet) == []

    def test_it_stays_until_the_last_is_gone(self) -> None:
        replica_set = deleted_set("another")
        ending = make_cluster("a", owner=replica_set, is_terminating=True)
        assert planned(replica_set, [ending]).actions == ()
        assert planned(replica_set, [], is_settled=False).actions == ()
        (released,) = patches(planned(replica_set, []), RayClusterReplicaSet)
        assert released["finalizers"] == ["another"]

    @pytest.mark.parametrize("decided", [names.FOREGROUND_DELETION, names.ORPHAN])
    def test_garbage_collection_may_decide_otherwise(self, decided: str) -> None:
        replica_set = deleted_set(decided)
        step = planned(replica_set, [ready("a", replica_set)])
        assert (deleted(step), patches(step)) == ([], [])
        (released,) = patches(step, RayClusterReplicaSet)
        assert released["finalizers"] == [decided]


class TestFailed:
    """A cluster that was ready and is not any more."""

    def test_kuberay_gets_its_time(self) -> None:
        replica_set = make_set(replicas=1)
        step = planned(replica_set, [failed("a", replica_set, since=100)], 150)
        assert step.actions == ()
        assert step.requeue_after_s == 250

    def test_then_it_is_deleted_before_another_is_made(self) -> None:
        replica_set = make_set(replicas=1)
        step = planned(replica_set, [failed("a", replica_set, since=100)], 401)
        assert (deleted(step), created(step)) == (["a"], 0)
        assert any(isinstance(a, Emit) and a.reason == "ReplacingFailed" for a in step.actions)
        (noted,) = patches(step, RayClusterReplicaSet)
        assert noted["annotations"] == {names.REPLACEMENTS: "1", names.LAST_REPLACEMENT: text(401)}

    def test_one_at_a_time(self) -> None:
        replica_set = make_set(replicas=2)
        clusters = [failed(name, replica_set, since=100) for name in ("a", "b")]
        assert deleted(planned(replica_set, clusters, 500)) == ["a"]
        ending = make_cluster("c", owner=replica_set, is_terminating=True)
        assert deleted(planned(replica_set, [clusters[1], ending], 500)) == []

    def test_the_next_waits_twice_as_long(self) -> None:
        notes = {names.REPLACEMENTS: "1", names.LAST_REPLACEMENT: text(1000)}
        replica_set = make_set(replicas=1, annotations=notes)
        cluster = failed("a", replica_set, since=1010)
        assert deleted(planned(replica_set, [cluster], 1590)) == []
        assert deleted(planned(replica_set, [cluster], 1601)) == ["a"]

    def test_a_calm_set_forgets(self) -> None:
        notes = {names.REPLACEMENTS: "1", names.LAST_REPLACEMENT: text(1000)}
        replica_set = make_set(replicas=1, annotations=notes)
        step = planned(replica_set, [ready("a", replica_set)], 1601)
        (noted,) = patches(step, RayClusterReplicaSet)
        assert noted["annotations"] == {names.REPLACEMENTS: None, names.LAST_REPLACEMENT: None}

    def test_one_that_never_started_is_left_to_the_progress_deadline(self) -> None:
        replica_set = make_set(replicas=1)
        assert planned(replica_set, [make_cluster("a", owner=replica_set)], 99_999).actions == ()


def test_status_counts_what_stays_and_says_when_the_next_is_available() -> None:
    replica_set = make_set(replicas=4, min_ready_seconds=30)
    clusters = [
        ready("available", replica_set),
        make_cluster("ready", owner=replica_set, status=ready_status(text(90))),
        failed("failed", replica_set, since=50, labels={**LABELS, "x": "y"}),
        ready("leaving", replica_set, annotations=draining(95)),
    ]
    status, again_s = next_status(observe(replica_set, clusters), None, at(100))
    assert (status.replicas, status.fully_labeled_replicas) == (3, 3)
    assert (status.ready_replicas, status.available_replicas) == (2, 1)
    assert again_s == 20


def test_a_failure_is_told_and_taken_back() -> None:
    replica_set = make_set(replicas=1)
    seen = observe(replica_set, [])
    told, _ = next_status(seen, Failure("FailedCreate", "quota"), at(5))
    (condition,) = told.conditions
    assert (condition.type, condition.status, condition.reason) == ("ReplicaFailure", "True", "FailedCreate")
    replica_set.status = told
    again, _ = next_status(seen, Failure("FailedCreate", "quota"), at(50))
    assert again == told, "the same failure is no change"
    assert next_status(seen, None, at(60))[0].conditions == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"selector": None}, "selector"),
        ({"selector": {}}, "empty"),
        ({"selector": {"matchLabels": {"app": "else"}}}, "does not match"),
        ({"template": None}, "template"),
        ({"template": {"metadata": {"labels": LABELS}, "spec": {"workerGroupSpecs": []}}}, "headGroupSpec"),
    ],
)
def test_what_cannot_be_worked_on_is_told(change: dict[str, Any], says: str) -> None:
    data = make_set().to_dict()
    data["spec"] |= change
    assert says in problem(RayClusterReplicaSet.from_dict(data))
