"""How a Deployment moves pods from one template to the next: tables, and properties of whole rollouts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybrix.api import names
from pybrix.api.apps import Deployment, ReplicaSet
from pybrix.api.core import Pod
from pybrix.cluster.workloads.deployment import plan as deployment_plan
from pybrix.cluster.workloads.deployment import state, status
from pybrix.cluster.workloads.deployment.revisions import new_name
from pybrix.cluster.workloads.deployment.state import max_surge, max_unavailable, problem
from pybrix.cluster.workloads.pods import is_active
from pybrix.cluster.workloads.replicaset import plan as pods_plan
from pybrix.cluster.workloads.replicaset import state as pods_state
from pybrix.cluster.workloads.replicaset import status as pods_status
from pybrix.runtime.actions import Create, Delete, Emit, Patch, PatchStatus, Plan
from pybrix.runtime.claims import claim, compile_selector
from pybrix.runtime.differences import status_difference
from pybrix.runtime.rollout.progress import Outcome
from pybrix.runtime.rollout.revisions import REVISION_HISTORY
from tests.support.workloads import LABELS, World, at, make_deployment, make_pod, make_replica_set, make_template


class Cluster:
    """A Deployment with the real planners of both controllers; the test is the kubelet."""

    def __init__(self, deployment: Deployment) -> None:
        self.world = World()
        self.world.put(deployment)

    @property
    def deployment(self) -> Deployment:
        return self.world.get(Deployment, "web")

    @property
    def pods(self) -> list[Pod]:
        return [p for p in self.world.list(Pod) if is_active(p)]

    @property
    def ready(self) -> int:
        return sum(p.is_ready for p in self.pods)

    def observe(self) -> state.Observed:
        return state.observe(self.deployment, self.world.list(ReplicaSet), self.world.list(Pod))

    def deployment_pass(self) -> int:
        """Let the Deployment controller work once; return how many objects it changed."""
        seen = self.observe()
        plan = deployment_plan.plan(seen)
        changed = self.world.apply(plan)
        created = next((a.manifest["metadata"]["name"] for a in plan.actions if isinstance(a, Create)), "")
        new, _ = status.next_status(seen, Outcome(created=created), self.world.now)
        return changed + self._write_status(Deployment, "web", status_difference(seen.deployment.status, new))

    def replica_set_passes(self) -> int:
        changed = 0
        for replica_set in self.world.list(ReplicaSet):
            seen = pods_state.observe(replica_set, self.world.list(Pod))
            changed += self.world.apply(pods_plan.plan(seen, self.world.now))
            replica_set = self.world.get(ReplicaSet, replica_set.metadata.name)
            seen = pods_state.observe(replica_set, self.world.list(Pod))
            new, _ = pods_status.next_status(seen, None, self.world.now)
            difference = status_difference(replica_set.status, new)
            changed += self._write_status(ReplicaSet, replica_set.metadata.name, difference)
        return changed

    def make_ready(self, number: int, image: str | None = None) -> int:
        """Let up to `number` pods become ready (of one image)."""
        waiting = [p for p in self.pods if not p.is_ready and image in (None, p.spec.containers[0].image)]
        for pod in waiting[:number]:
            condition = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
            patch = {"spec": {"nodeName": "n"}, "status": {"phase": "Running", "conditions": [condition]}}
            self.world.edit(Pod, pod.metadata.name, patch)
        return len(waiting[:number])

    def settle(self, broken: str = "") -> None:
        """Work until nothing changes. Pods of the `broken` image never get ready."""
        for _ in range(500):
            images = {p.spec.containers[0].image for p in self.pods} - {broken}
            changed = sum(self.make_ready(1000, image) for image in images)
            if changed + self.replica_set_passes() + self.deployment_pass() == 0:
                return
        raise AssertionError("the Deployment does not settle")

    def edit(self, **spec: Any) -> None:
        self.world.edit(Deployment, "web", {"spec": spec})

    def sizes(self) -> dict[str, int]:
        return {s.spec.template["spec"]["containers"][0]["image"]: state.size(s) for s in self.world.list(ReplicaSet)}

    def _write_status(self, cls: type[Deployment] | type[ReplicaSet], name: str, difference: dict[str, Any]) -> int:
        if not difference:
            return 0
        return self.world.apply(Plan((PatchStatus(cls, self.world.get(cls, name).key, difference, why="test"),)))


limits = st.one_of(st.integers(0, 4), st.sampled_from(["0%", "10%", "25%", "50%", "100%"]))


@given(replicas=st.integers(0, 12), surge=limits, unavailable=limits, steps=st.lists(st.integers(0, 6), max_size=40))
@settings(max_examples=60, deadline=None)
def test_a_rollout_keeps_its_promises_whatever_the_order_of_events(
    replicas: int, surge: int | str, unavailable: int | str, steps: list[int]
) -> None:
    cluster = Cluster(make_deployment(replicas, max_surge=surge, max_unavailable=unavailable))
    cluster.settle()
    assert (len(cluster.pods), cluster.ready) == (replicas, replicas)
    most = replicas + max_surge(cluster.deployment)
    least = replicas - max_unavailable(cluster.deployment)
    cluster.edit(template=make_template("v2"))
    for step in steps:
        if step <= 1:
            cluster.deployment_pass()
        elif step == 2:
            cluster.replica_set_passes()
        elif step == 6:
            cluster.edit(template=make_template("v3"))
        else:
            cluster.make_ready(step - 2)
        assert sum(cluster.sizes().values()) <= most
        assert len(cluster.pods) <= max(most, replicas)
        assert cluster.ready >= least
    cluster.settle()
    wanted = cluster.deployment.spec.template["spec"]["containers"][0]["image"]
    assert [p.spec.containers[0].image for p in cluster.pods] == [wanted] * replicas
    assert cluster.deployment_pass() == 0, "a settled Deployment must not be written again"
    progressing = [c for c in cluster.deployment.status.conditions if c.type == "Progressing"]
    assert [(c.status, c.reason) for c in progressing] == [("True", "NewReplicaSetAvailable")]


@given(replicas=st.integers(1, 12), surge=limits, unavailable=limits)
@settings(max_examples=30, deadline=None)
def test_a_template_that_never_gets_ready_leaves_the_promised_number_serving(
    replicas: int, surge: int | str, unavailable: int | str
) -> None:
    cluster = Cluster(make_deployment(replicas, max_surge=surge, max_unavailable=unavailable))
    cluster.settle()
    cluster.edit(template=make_template("broken"))
    cluster.settle(broken="broken")
    assert cluster.ready >= replicas - max_unavailable(cluster.deployment)
    cluster.edit(template=make_template("v1"))
    cluster.settle()
    assert cluster.sizes() == {"v1": replicas, "broken": 0}


@given(sizes=st.lists(st.integers(0, 30), min_size=1, max_size=6), progress=st.integers(0, 6))
@settings(max_examples=60, deadline=None)
def test_scaling_in_mid_rollout_ends_at_the_last_size(sizes: list[int], progress: int) -> None:
    cluster = Cluster(make_deployment(6))
    cluster.settle()
    cluster.edit(template=make_template("v2"))
    for wanted in sizes:
        for _ in range(progress):
            cluster.deployment_pass()
            cluster.replica_set_passes()
            cluster.make_ready(1)
        cluster.edit(replicas=wanted)
        cluster.deployment_pass()
        assert sum(cluster.sizes().values()) <= max(wanted + max_surge(cluster.deployment), 0)
    cluster.settle()
    assert cluster.sizes() == {"v1": 0, "v2": sizes[-1]}


@given(replicas=st.integers(0, 8))
@settings(max_examples=20, deadline=None)
def test_recreate_never_runs_two_templates_at_once(replicas: int) -> None:
    cluster = Cluster(make_deployment(replicas, strategy="Recreate"))
    cluster.settle()
    cluster.edit(template=make_template("v2"))
    for _ in range(10):
        cluster.deployment_pass()
        assert len({p.spec.containers[0].image for p in cluster.pods}) <= 1
        cluster.replica_set_passes()
        assert len({p.spec.containers[0].image for p in cluster.pods}) <= 1
    cluster.settle()
    assert [p.spec.containers[0].image for p in cluster.pods] == ["v2"] * replicas


def test_recreate_waits_for_pods_that_are_still_ending() -> None:
    deployment = make_deployment(1, strategy="Recreate", image="v2")
    old = make_replica_set("web-old", 0, owner=deployment, current=0)
    ending = make_pod(owner=old, terminating=True)
    assert deployment_plan.plan(state.observe(deployment, [old], [ending])).actions == ()
    assert isinstance(deployment_plan.plan(state.observe(deployment, [old], [])).actions[0], Create)


def test_a_first_replica_set_is_named_by_its_hash_and_has_the_full_size() -> None:
    deployment = make_deployment(5, annotations={"team": "a", "kubectl.kubernetes.io/last-applied-configuration": "{}"})
    create, event, note = deployment_plan.plan(state.observe(deployment, [])).actions
    assert isinstance(create, Create)
    assert isinstance(event, Emit)
    assert isinstance(note, Patch)
    name, digest = new_name(deployment)
    assert name == f"web-{digest}"
    metadata, spec = create.manifest["metadata"], create.manifest["spec"]
    assert metadata["name"] == name
    assert metadata["labels"] == LABELS | {names.POD_TEMPLATE_HASH: digest}
    assert metadata["annotations"] == {
        "team": "a",
        names.DEPLOYMENT_REVISION: "1",
        names.DEPLOYMENT_DESIRED_REPLICAS: "5",
        names.DEPLOYMENT_MAX_REPLICAS: "7",
    }
    assert spec["replicas"] == 5
    assert spec["selector"]["matchLabels"] == LABELS | {names.POD_TEMPLATE_HASH: digest}
    assert spec["template"]["metadata"]["labels"] == LABELS | {names.POD_TEMPLATE_HASH: digest}
    assert event.why == f"Scaled up replica set {name} from 0 to 5"
    assert note.patch == {"metadata": {"annotations": {names.DEPLOYMENT_REVISION: "1"}}}


def test_nulls_and_the_hash_label_do_not_make_another_revision() -> None:
    deployment = make_deployment(3)
    own = make_replica_set(owner=deployment)
    own.spec.template["metadata"] |= {"creationTimestamp": None, "labels": LABELS | {names.POD_TEMPLATE_HASH: "abc"}}
    assert state.observe(deployment, [own]).new is own


def test_a_rollback_takes_the_old_replica_set_with_a_new_revision() -> None:
    cluster = Cluster(make_deployment(2))
    cluster.settle()
    cluster.edit(template=make_template("v2"))
    cluster.settle()
    cluster.edit(template=make_template("v1"))
    cluster.settle()
    sets = {s.spec.template["spec"]["containers"][0]["image"]: s for s in cluster.world.list(ReplicaSet)}
    assert sets["v1"].metadata.annotations[names.DEPLOYMENT_REVISION] == "3"
    assert sets["v1"].metadata.annotations[REVISION_HISTORY] == "1"
    assert sets["v2"].metadata.annotations[names.DEPLOYMENT_REVISION] == "2"
    assert cluster.deployment.metadata.annotations[names.DEPLOYMENT_REVISION] == "3"
    assert cluster.sizes() == {"v1": 2, "v2": 0}


def test_old_revisions_beyond_the_limit_go_the_oldest_first() -> None:
    cluster = Cluster(make_deployment(1, revisionHistoryLimit=2))
    for image in ("v1", "v2", "v3", "v4", "v5"):
        cluster.edit(template=make_template(image))
        cluster.settle()
    assert cluster.sizes() == {"v3": 0, "v4": 0, "v5": 1}


def test_a_paused_deployment_is_scaled_but_not_rolled() -> None:
    cluster = Cluster(make_deployment(4))
    cluster.settle()
    cluster.edit(paused=True, template=make_template("v2"), replicas=6)
    cluster.settle()
    assert cluster.sizes() == {"v1": 6}
    cluster.edit(paused=False)
    cluster.settle()
    assert cluster.sizes() == {"v1": 0, "v2": 6}


def test_an_active_replica_set_of_the_right_size_but_an_old_memory_does_not_hold_up_the_rollout() -> None:
    cluster = Cluster(make_deployment(3))
    cluster.settle()
    (name,) = (s.metadata.name for s in cluster.world.list(ReplicaSet))
    cluster.world.edit(ReplicaSet, name, {"spec": {"replicas": 5}})
    cluster.edit(replicas=5, template=make_template("v2"))
    cluster.settle()
    assert cluster.sizes() == {"v1": 0, "v2": 5}


def test_unhealthy_old_pods_go_first() -> None:
    deployment = make_deployment(4, image="v3", max_surge=1, max_unavailable=0)
    v1 = make_replica_set("web-1", 2, owner=deployment, image="v1", available=2, created=at(0))
    v2 = make_replica_set("web-2", 2, owner=deployment, image="v2", available=0, created=at(1))
    v3 = make_replica_set("web-3", 1, owner=deployment, image="v3", available=1, created=at(2))
    for s in (v1, v2, v3):
        s.metadata.annotations |= {names.DEPLOYMENT_DESIRED_REPLICAS: "4", names.DEPLOYMENT_REVISION: "9"}
    patches = [a for a in deployment_plan.plan(state.observe(deployment, [v1, v2, v3])).actions if isinstance(a, Patch)]
    sized = {p.key.name: p.patch["spec"]["replicas"] for p in patches if "spec" in p.patch}
    assert sized == {"web-2": 1}


def test_sizes_are_spread_in_proportion() -> None:
    deployment = make_deployment(30, image="v2", max_surge=3, max_unavailable=2)
    memory = {names.DEPLOYMENT_DESIRED_REPLICAS: "10", names.DEPLOYMENT_MAX_REPLICAS: "13"}
    v1 = make_replica_set("web-1", 8, owner=deployment, image="v1", available=8, annotations=memory)
    v2 = make_replica_set("web-2", 5, owner=deployment, image="v2", annotations=memory, created=at(1))
    actions = deployment_plan.plan(state.observe(deployment, [v1, v2])).actions
    sized = {a.key.name: a.patch["spec"]["replicas"] for a in actions if isinstance(a, Patch) and "spec" in a.patch}
    assert sized == {"web-1": 20, "web-2": 13}


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "want"),
    [
        pytest.param(10, None, None, (3, 2), id="defaults are a quarter, surge rounds up and unavailable down"),
        pytest.param(1, None, None, (1, 0), id="one replica is replaced before it goes"),
        pytest.param(4, 0, 0, (0, 1), id="both zero would be a standstill"),
        pytest.param(4, "0%", "10%", (0, 1), id="both rounding to zero too"),
        pytest.param(2, 0, 9, (0, 2), id="never more unavailable than there are"),
        pytest.param(0, None, None, (0, 0), id="zero replicas"),
    ],
)
def test_limits(replicas: int, surge: int | str | None, unavailable: int | str | None, want: tuple[int, int]) -> None:
    deployment = make_deployment(replicas, max_surge=surge, max_unavailable=unavailable)
    assert (max_surge(deployment), max_unavailable(deployment)) == want


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        pytest.param({"selector": None}, "empty", id="no selector"),
        pytest.param({"selector": {"matchLabels": {}}}, "empty", id="empty selector"),
        pytest.param({"selector": {"matchLabels": {"app": "db"}}}, "does not match", id="selects other pods"),
        pytest.param({"selector": {"matchExpressions": [{"key": "a", "operator": "Is"}]}}, "operator", id="operator"),
        pytest.param({"strategy": "BlueGreen"}, "BlueGreen", id="unknown strategy"),
        pytest.param({"max_surge": "lots"}, "lots", id="surge is no number"),
        pytest.param({"max_surge": -1}, "negative", id="negative surge"),
    ],
)
def test_what_cannot_be_worked_on_says_why(spec: dict[str, Any], words: str) -> None:
    assert words in problem(make_deployment(1, **spec))


def test_a_deployment_that_is_being_deleted_does_nothing() -> None:
    deployment = make_deployment(3)
    deployment.metadata.deletion_timestamp = "2026-01-01T00:00:00Z"
    assert deployment_plan.plan(state.observe(deployment, [])) == Plan()


def test_an_orphan_of_the_template_is_adopted_in_place_of_a_new_one() -> None:
    deployment = make_deployment(3)
    orphan = make_replica_set("web-orphan", 3)
    actions = deployment_plan.plan(state.observe(deployment, [orphan])).actions
    assert not any(isinstance(a, Create | Delete) for a in actions)
    first = actions[0]
    assert isinstance(first, Patch)
    assert first.patch["metadata"]["ownerReferences"][0]["uid"] == deployment.uid


def test_claims_keep_replica_sets_of_a_same_named_deployment_apart() -> None:
    deployment = make_deployment(3)
    stranger = make_replica_set(owner=make_deployment(3, name="web-2"))
    claims = claim(deployment, compile_selector(deployment.spec.selector), [stranger])
    assert claims.owned == claims.released == ()
