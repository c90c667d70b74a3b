"""Which pods a ReplicaSet adopts, releases, creates and deletes."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.api.apps import ReplicaSet
from pybrix.api.core import Pod
from pybrix.cluster.workloads.naming import name_pod
from pybrix.cluster.workloads.replicaset.plan import BURST_REPLICAS, plan, render_pod, slow_start_batches
from pybrix.cluster.workloads.replicaset.ranking import deletion_cost, rank_for_deletion
from pybrix.cluster.workloads.replicaset.state import observe
from pybrix.cluster.workloads.replicaset.status import Failure, next_status
from pybrix.runtime.actions import Create, Delete, Emit, Patch
from tests.support.workloads import START, World, at, make_pod, make_replica_set

OTHER = make_replica_set("other", uid="uid-other")


def settle(world: World, name: str = "web-abc") -> int:
    """Apply plans until nothing changes; return the number of passes that changed something."""
    for passes in range(10):
        seen = observe(world.get(ReplicaSet, name), world.list(Pod))
        if world.apply(plan(seen, world.now)) == 0:
            return passes
    raise AssertionError("the ReplicaSet does not settle")


@given(
    replicas=st.integers(0, 20),
    own=st.integers(0, 20),
    orphans=st.integers(0, 5),
    foreign=st.integers(0, 5),
    ending=st.integers(0, 3),
)
def test_settles_in_one_pass_and_touches_no_pod_of_others(
    replicas: int, own: int, orphans: int, foreign: int, ending: int
) -> None:
    world = World()
    replica_set = make_replica_set(replicas=replicas)
    world.put(replica_set)
    for i in range(own):
        world.put(make_pod(f"own-{i}", owner=replica_set))
    for i in range(orphans):
        world.put(make_pod(f"orphan-{i}"))
    for i in range(foreign):
        world.put(make_pod(f"foreign-{i}", owner=OTHER))
    for i in range(ending):
        world.put(make_pod(f"ending-{i}", owner=replica_set, terminating=True))
    passes = settle(world)
    owners = [pod.metadata.controller for pod in world.list(Pod) if not pod.metadata.is_terminating]
    assert sum(o is not None and o.uid == replica_set.uid for o in owners) == replicas
    assert sum(o is not None and o.uid == OTHER.uid for o in owners) == foreign
    assert passes <= 1


def test_a_pod_that_no_longer_matches_is_released_and_replaced() -> None:
    world = World()
    replica_set = make_replica_set(replicas=1)
    world.put(replica_set)
    world.put(make_pod("strayed", owner=replica_set, labels={"app": "debug"}))
    settle(world)
    assert world.get(Pod, "strayed").metadata.owner_references == []
    assert len(world.list(Pod)) == 2


def test_a_pod_of_another_namespace_is_another_pod() -> None:
    seen = observe(make_replica_set(replicas=1), [make_pod(namespace="elsewhere")])
    assert [type(a) for a in plan(seen, START).actions] == [Create]


def test_a_pod_of_a_same_named_but_earlier_replica_set_is_not_its_own() -> None:
    earlier = make_replica_set(uid="uid-earlier")
    seen = observe(make_replica_set(replicas=1), [make_pod(owner=earlier)])
    assert [type(a) for a in plan(seen, START).actions] == [Create]


def test_nothing_is_created_twice_while_the_cache_lags() -> None:
    assert plan(observe(make_replica_set(replicas=3), [], is_settled=False), START).actions == ()


def test_a_replica_set_that_is_being_deleted_does_nothing() -> None:
    ending = make_replica_set(replicas=3, terminating=True)
    strayed = make_pod("strayed", owner=ending, labels={"app": "debug"})
    assert plan(observe(ending, [make_pod("orphan"), strayed]), START).actions == ()


def test_adoption_fails_when_the_pod_changed_meanwhile() -> None:
    (action,) = plan(observe(make_replica_set(replicas=1), [make_pod("orphan")]), START).actions
    assert isinstance(action, Patch)
    assert action.resource_version == "1"
    assert action.patch["metadata"]["ownerReferences"][0]["controller"] is True


def test_one_pass_creates_at_most_a_burst() -> None:
    actions = plan(observe(make_replica_set(replicas=2 * BURST_REPLICAS), []), START).actions
    assert len(actions) == BURST_REPLICAS


def test_a_pod_carries_the_template() -> None:
    replica_set = make_replica_set()
    replica_set.spec.template["metadata"] |= {"annotations": {"a": "b"}, "finalizers": ["f/g"]}
    manifest = render_pod(replica_set)
    assert manifest["metadata"] == {
        "generateName": "web-abc-",
        "namespace": "default",
        "labels": {"app": "web"},
        "annotations": {"a": "b"},
        "finalizers": ["f/g"],
    }
    assert manifest["spec"] == replica_set.spec.template["spec"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(make_pod("b", node=""), make_pod("a", phase="Pending"), id="unassigned before pending"),
        pytest.param(make_pod("b", phase="Pending"), make_pod("a"), id="pending before running"),
        pytest.param(make_pod("b"), make_pod("a", ready_since=START), id="not ready before ready"),
        pytest.param(
            make_pod("b", ready_since=at(0), annotations={"controller.kubernetes.io/pod-deletion-cost": "-1"}),
            make_pod("a", ready_since=at(9)),
            id="cheap before dear",
        ),
        pytest.param(
            make_pod("b", ready_since=at(90)), make_pod("a", ready_since=at(0)), id="ready for a short time first"
        ),
        pytest.param(
            make_pod("b", ready_since=START, restarts=2), make_pod("a", ready_since=START), id="often restarted first"
        ),
        pytest.param(
            make_pod("b", ready_since=START, created=at(90)), make_pod("a", ready_since=START), id="young before old"
        ),
    ],
)
def test_who_goes_first(first: Pod, second: Pod) -> None:
    got = rank_for_deletion([second, first], [], at(100))
    assert [p.metadata.name for p in got] == [first.metadata.name, second.metadata.name]


def test_pods_on_a_crowded_node_go_first() -> None:
    alone = make_pod("alone", node="n1", ready_since=at(99))
    pair = [make_pod("pair-1", node="n2", ready_since=START), make_pod("pair-2", node="n2", ready_since=START)]
    got = rank_for_deletion([alone, *pair], [alone, *pair], at(100))
    assert got[-1] is alone


@pytest.mark.parametrize(
    ("text", "want"), [("12", 12), ("-3", -3), ("+3", 0), ("007", 0), ("x", 0), ("99999999999", 0), ("-", 0)]
)
def test_deletion_cost(text: str, want: int) -> None:
    assert deletion_cost(make_pod(annotations={"controller.kubernetes.io/pod-deletion-cost": text})) == want


@given(st.integers(0, 600))
def test_slow_start_doubles_and_adds_up(count: int) -> None:
    sizes = list(slow_start_batches(count))
    assert sum(sizes) == count
    assert sizes[:-1] == [2**i for i in range(len(sizes) - 1)]


def test_status_counts_and_says_when_the_next_pod_is_available() -> None:
    replica_set = make_replica_set(replicas=4, min_ready_seconds=30)
    pods = [
        make_pod("old", owner=replica_set, ready_since=at(0)),
        make_pod("fresh", owner=replica_set, ready_since=at(50)),
        make_pod("unready", owner=replica_set),
        make_pod("ending", owner=replica_set, ready_since=at(0), terminating=True),
    ]
    status, wait_s = next_status(observe(replica_set, pods), None, at(60))
    assert (status.replicas, status.ready_replicas, status.available_replicas) == (3, 2, 1)
    assert status.fully_labeled_replicas == 3
    assert status.observed_generation == 1
    assert wait_s == 20


def test_fully_labeled_means_all_labels_of_the_template() -> None:
    replica_set = make_replica_set()
    replica_set.spec.template["metadata"]["labels"] = {"app": "web", "tier": "front"}
    status, _ = next_status(observe(replica_set, [make_pod(owner=replica_set)]), None, START)
    assert (status.replicas, status.fully_labeled_replicas) == (1, 0)


def test_a_failure_is_a_condition_until_it_is_over() -> None:
    replica_set = make_replica_set(replicas=1)
    failed, _ = next_status(observe(replica_set, []), Failure("FailedCreate", "quota"), at(5))
    assert [(c.type, c.status, c.reason) for c in failed.conditions] == [("ReplicaFailure", "True", "FailedCreate")]
    after = msgspec.structs.replace(replica_set, status=failed)
    healed, _ = next_status(observe(after, []), None, at(9))
    assert healed.conditions == []


def test_surplus_pods_are_deleted_by_uid() -> None:
    replica_set = make_replica_set(replicas=0)
    action, event = plan(observe(replica_set, [make_pod(uid="uid-exact", owner=replica_set)]), START).actions
    assert isinstance(action, Delete)
    assert action.uid == "uid-exact"
    assert isinstance(event, Emit)
    assert event.why == "Deleted pod: web-1"


def test_nothing_is_created_in_a_namespace_that_ends() -> None:
    assert plan(observe(make_replica_set(), [], is_namespace_ending=True), START).actions == ()


def test_a_pod_is_named_as_generate_name_would() -> None:
    (create,) = plan(observe(make_replica_set("x" * 80, 1), []), START).actions
    assert isinstance(create, Create)
    assert name_pod(create, "abcde").manifest["metadata"]["name"] == "x" * 58 + "abcde"
