"""Which pods a StatefulSet creates, deletes and replaces, and in which order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybrix.api import names
from pybrix.api.apps import ControllerRevision, StatefulSet
from pybrix.api.core import PersistentVolumeClaim, Pod
from pybrix.base.clock import format_rfc3339
from pybrix.cluster.workloads.statefulset.plan import plan
from pybrix.cluster.workloads.statefulset.revisions import Revisions, resolve, template_of
from pybrix.cluster.workloads.statefulset.state import Observed, max_unavailable, observe, ordinal_of, problem
from pybrix.cluster.workloads.statefulset.status import next_status
from pybrix.runtime.actions import Create, Delete, PatchStatus, Plan
from pybrix.runtime.differences import status_difference
from tests.support.workloads import LABELS, START, World, make_pod, make_template

CLAIM = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}


def make_set(replicas: int = 3, image: str = "v1", name: str = "web", **spec: Any) -> StatefulSet:
    return StatefulSet.from_dict(
        {
            "metadata": {
                "name": name,
                "namespace": "default",
                "uid": f"uid-{name}",
                "resourceVersion": "1",
                "generation": 1,
            },
            "spec": {
                "replicas": replicas,
                "serviceName": "web",
                "selector": {"matchLabels": LABELS},
                "template": make_template(image),
                **spec,
            },
        }
    )


class Scene:
    """A world with one set; the test is the kubelet."""

    def __init__(self, stateful_set: StatefulSet) -> None:
        self.world = World()
        self.world.put(stateful_set)

    @property
    def pods(self) -> dict[int, Pod]:
        return {ordinal_of(p): p for p in sorted(self.world.list(Pod), key=ordinal_of)}

    @property
    def images(self) -> list[str]:
        return [p.spec.containers[0].image for p in self.pods.values()]

    def observe(self) -> tuple[Observed, Revisions]:
        world = self.world
        claims = world.list(PersistentVolumeClaim)
        seen = observe(world.get(StatefulSet, "web"), world.list(Pod), world.list(ControllerRevision), claims)
        return seen, resolve(seen)

    def step(self) -> Plan:
        """Plan and apply one pass and write the status; deleted pods are gone at once."""
        seen, revisions = self.observe()
        planned = plan(seen, revisions, self.world.now)
        status, _ = next_status(seen, revisions, self.world.now)
        changed = self.world.apply(planned)
        difference = status_difference(seen.stateful_set.status, status)
        written = PatchStatus(StatefulSet, seen.stateful_set.key, difference, "")
        self.world.apply(Plan((written,)))
        return planned if changed else Plan()

    def make_ready(self, *ordinals: int, is_ready: bool = True) -> None:
        condition = {"type": "Ready", "status": "True" if is_ready else "False"}
        condition["lastTransitionTime"] = format_rfc3339(self.world.now)
        for ordinal in ordinals or tuple(self.pods):
            status = {"phase": "Running", "conditions": [condition]}
            self.world.edit(Pod, f"web-{ordinal}", {"status": status})

    def settle(self) -> None:
        for _ in range(60):
            self.make_ready()
            if not self.step().actions and not self.step().actions:
                return
        raise AssertionError("the set does not settle")

    def edit(self, **spec: Any) -> None:
        self.world.edit(StatefulSet, "web", {"spec": spec})


def created(planned: Plan) -> list[str]:
    return [a.manifest["metadata"]["name"] for a in planned.actions if isinstance(a, Create) and _is_pod(a.manifest)]


def deleted(planned: Plan) -> list[str]:
    return [a.key.name for a in planned.actions if isinstance(a, Delete) and a.cls is Pod]


def _is_pod(manifest: Mapping[str, Any]) -> bool:
    return bool(manifest["kind"] == "Pod")


@given(
    replicas=st.integers(0, 6),
    own=st.sets(st.integers(0, 8)),
    start=st.integers(0, 3),
    policy=st.sampled_from(["OrderedReady", "Parallel"]),
    partition=st.integers(0, 4),
    unready=st.sets(st.integers(0, 8)),
)
def test_settles_on_exactly_the_wanted_numbers(
    replicas: int, own: set[int], start: int, policy: str, partition: int, unready: set[int]
) -> None:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}}
    scene = Scene(make_set(replicas, podManagementPolicy=policy, ordinals={"start": start}, updateStrategy=rolling))
    owner = scene.world.get(StatefulSet, "web")
    for ordinal in own:
        scene.world.put(make_pod(f"web-{ordinal}", owner=owner, ready_since=None if ordinal in unready else START))
    scene.settle()
    assert list(scene.pods) == list(range(start, start + replicas))
    # Pods of no known revision are outdated: those above the partition were made anew.
    update = scene.observe()[1].update.name
    outdated = [o for o, p in scene.pods.items() if p.metadata.labels.get(names.CONTROLLER_REVISION_HASH) != update]
    assert all(o in own and o < start + partition for o in outdated)


@settings(max_examples=40)
@given(replicas=st.integers(1, 4), target=st.integers(0, 4), data=st.data())
def test_an_ordered_set_takes_one_step_at_a_time_and_never_one_past_a_pod_that_is_not_ready(
    replicas: int, target: int, data: st.DataObject
) -> None:
    scene = Scene(make_set(replicas))
    for index in range(15):
        if index == 7:
            scene.edit(replicas=target, template=make_template("v2"))
        pods = scene.pods
        if pods:
            for ordinal in data.draw(st.sets(st.sampled_from(sorted(pods)))):
                scene.make_ready(ordinal, is_ready=data.draw(st.booleans()))
        pods = scene.pods
        planned = scene.step()
        assert len(created(planned)) + len(deleted(planned)) <= 1
        for name in created(planned):
            assert all(pods[o].is_ready for o in range(int(name[4:])))
        for name in deleted(planned):
            ordinal = int(name[4:])
            is_condemned = ordinal >= (target if index >= 7 else replicas)
            assert not is_condemned or ordinal == max(pods)


@settings(max_examples=30)
@given(replicas=st.integers(1, 8), most=st.integers(1, 4), partition=st.integers(0, 8))
def test_a_parallel_rollout_never_has_more_pods_away_than_it_may(replicas: int, most: int, partition: int) -> None:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"partition": partition, "maxUnavailable": most}}
    scene = Scene(make_set(replicas, podManagementPolicy="Parallel", updateStrategy=rolling))
    scene.settle()
    scene.edit(template=make_template("v2"))
    for _ in range(40):
        scene.step()
        assert sum(p.is_ready for p in scene.pods.values()) >= replicas - min(most, replicas)
        unready = [o for o, p in scene.pods.items() if not p.is_ready]
        if unready:
            scene.make_ready(unready[-1])
    kept = min(partition, replicas)
    assert scene.images == ["v1"] * kept + ["v2"] * (replicas - kept)


def test_the_current_revision_follows_when_all_pods_are_updated() -> None:
    scene = Scene(make_set(2))
    scene.settle()
    status = scene.world.get(StatefulSet, "web").status
    assert status.current_revision == status.update_revision != ""
    scene.edit(template=make_template("v2"))
    scene.step()
    status = scene.world.get(StatefulSet, "web").status
    assert status.current_revision != status.update_revision
    assert (status.current_replicas, status.updated_replicas) == (2, 0)
    scene.settle()
    status = scene.world.get(StatefulSet, "web").status
    assert status.current_revision == status.update_revision
    assert (status.current_replicas, status.updated_replicas, status.available_replicas) == (2, 2, 2)


def test_going_back_renumbers_the_old_revision_and_old_ones_are_forgotten() -> None:
    scene = Scene(make_set(1, revisionHistoryLimit=1))
    for image in ("v1", "v2", "v3", "v1"):
        scene.edit(template=make_template(image))
        scene.settle()
    revisions = {r.revision: template_of(r) for r in scene.world.list(ControllerRevision)}
    newest = revisions[max(revisions)]
    assert newest["spec"]["containers"][0]["image"] == "v1"
    assert len(revisions) == 2
    assert scene.images == ["v1"]


def test_a_pod_that_has_ended_is_made_anew_and_the_others_wait() -> None:
    scene = Scene(make_set(2))
    scene.settle()
    scene.world.edit(Pod, "web-0", {"status": {"phase": "Failed"}})
    planned = scene.step()
    assert deleted(planned) == ["web-0"]
    assert "RecreatingFailedPod" in [e.reason for e in scene.world.events]
    assert created(scene.step()) == ["web-0"]


def test_the_lowest_unhealthy_pod_holds_up_the_unhealthy_ones_above_it_when_scaled_down() -> None:
    scene = Scene(make_set(3))
    scene.settle()
    scene.make_ready(1, 2, is_ready=False)
    scene.edit(replicas=1)
    assert deleted(scene.step()) == []
    scene.make_ready(1)
    assert deleted(scene.step()) == ["web-2"]


def test_min_ready_seconds_hold_up_the_next_pod_and_say_when_to_look_again() -> None:
    scene = Scene(make_set(2, minReadySeconds=10))
    scene.step()
    scene.make_ready()
    assert created(scene.step()) == []
    seen, revisions = scene.observe()
    assert next_status(seen, revisions, scene.world.now)[1] == 10


def test_a_pod_of_another_set_with_a_longer_name_is_not_its_own() -> None:
    scene = Scene(make_set(1))
    scene.world.put(make_pod("web-a-0"))
    scene.world.put(make_pod("web-x"))
    seen, _ = scene.observe()
    assert seen.claims.adopted == ()


def test_an_orphan_with_a_number_is_adopted_and_gets_its_label() -> None:
    scene = Scene(make_set(1))
    scene.world.put(make_pod("web-0", ready_since=START))
    scene.step()
    scene.step()
    pod = scene.pods[0]
    assert pod.metadata.controller is not None
    assert pod.metadata.labels[names.STATEFUL_POD_NAME] == "web-0"


def test_claims_come_before_their_pod_and_a_claim_that_goes_is_waited_for() -> None:
    scene = Scene(make_set(1, volumeClaimTemplates=[CLAIM]))
    planned = scene.step()
    kinds = [a.manifest["kind"] for a in planned.actions if isinstance(a, Create)]
    assert kinds == ["ControllerRevision", "PersistentVolumeClaim", "Pod"]
    assert [v.name for v in scene.pods[0].spec.volumes] == ["data"]
    stamp = {"metadata": {"deletionTimestamp": format_rfc3339(START)}}
    scene.world.edit(PersistentVolumeClaim, "data-web-0", stamp)
    scene.world.objects = {k: v for k, v in scene.world.objects.items() if k[0] is not Pod}
    assert created(scene.step()) == []


@pytest.mark.parametrize(
    ("given_value", "replicas", "expected"), [(None, 5, 1), (2, 5, 2), ("40%", 5, 2), ("1%", 5, 1), (0, 5, 1)]
)
def test_max_unavailable(given_value: Any, replicas: int, expected: int) -> None:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": given_value}}
    assert max_unavailable(make_set(replicas, updateStrategy=rolling)) == expected


@pytest.mark.parametrize(
    ("spec", "part"),
    [
        ({"selector": {}}, "would select every pod"),
        ({"selector": {"matchLabels": {"other": "x"}}}, "does not match the labels"),
        ({"updateStrategy": {"rollingUpdate": {"maxUnavailable": "many"}}}, "maxUnavailable"),
    ],
)
def test_what_cannot_be_worked_on_says_why(spec: dict[str, Any], part: str) -> None:
    assert part in problem(make_set(1, **spec))
