"""How a fleet moves its clusters from one template to the next: tables. The arithmetic is in tests/runtime/rollout."""

from __future__ import annotations

from typing import Any

import pytest

from pybrix.api import names
from pybrix.api.orchestration.v1alpha1.rayclusterfleet import RayClusterFleet
from pybrix.api.orchestration.v1alpha1.rayclusterreplicaset import RayClusterReplicaSet
from pybrix.api.templates import RayClusterTemplate
from pybrix.controllers.rayclusterfleet.plan import plan
from pybrix.controllers.rayclusterfleet.render import is_same_template, new_name, render_replica_set
from pybrix.controllers.rayclusterfleet.state import goal, observe, problem
from pybrix.controllers.rayclusterfleet.status import next_status
from pybrix.kube.patch import apply_merge_patch
from pybrix.runtime.actions import Create, Delete, Emit, Patch
from pybrix.runtime.rollout.progress import Outcome
from pybrix.runtime.rollout.revisions import ROLLBACK_TO
from tests.support.clocks import EPOCH
from tests.support.fleets import LABELS, make_fleet, make_set


def set_of(
    fleet: RayClusterFleet, name: str, replicas: int, image: str, revision: int, **more: Any
) -> RayClusterReplicaSet:
    annotations = {names.DEPLOYMENT_REVISION: str(revision), **more.pop("annotations", {})}
    created = f"2026-01-01T00:00:{revision:02d}Z"
    return make_set(name, replicas, image=image, owner=fleet, annotations=annotations, created=created, **more)


def sizes(
    fleet: RayClusterFleet, sets: list[RayClusterReplicaSet], existing: dict[str, int] | None = None
) -> dict[str, int]:
    """Return the new sizes that a pass asks for, by name of the set; `new` for one that it creates."""
    counted = {s.uid: (existing or {}).get(s.metadata.name, s.status.replicas or 0) for s in sets}
    actions = plan(observe(fleet, sets, counted)).actions
    found = {a.key.name: a.patch["spec"]["replicas"] for a in actions if isinstance(a, Patch) and "spec" in a.patch}
    made = [a.manifest["spec"]["replicas"] for a in actions if isinstance(a, Create)]
    return found | dict.fromkeys(["new"] if made else [], sum(made))


def test_the_hash_is_in_every_label_set_and_selector_it_must_be_in() -> None:
    fleet = make_fleet(2)
    manifest = render_replica_set(fleet, {}, 2)
    name, digest = new_name(fleet)
    hashed = {names.POD_TEMPLATE_HASH: digest}
    assert manifest["metadata"]["name"] == name == f"big-{digest}"
    assert manifest["metadata"]["labels"] == {**LABELS, **hashed}
    assert manifest["spec"]["selector"]["matchLabels"] == {**LABELS, **hashed}
    template = manifest["spec"]["template"]
    assert template["metadata"]["labels"] == {**LABELS, **hashed}
    head = template["spec"]["headGroupSpec"]["template"]["metadata"]["labels"]
    worker = template["spec"]["workerGroupSpecs"][0]["template"]["metadata"]["labels"]
    for labels in (head, worker):
        assert {**hashed, names.RAYCLUSTERFLEET_NAME: "big"}.items() <= labels.items()
    assert head[names.MODEL_NAME] == "big-model"


def test_no_server_owned_metadata_is_sent() -> None:
    data = make_fleet().to_dict()
    spec = data["spec"]["template"]["spec"]
    foreign = {"creationTimestamp": None, "uid": "x", "resourceVersion": "1", "labels": {"a": "b"}, "name": "n"}
    spec["headGroupSpec"]["template"]["metadata"] = foreign
    spec["workerGroupSpecs"][0]["template"]["metadata"] = {"creationTimestamp": None}
    data["spec"]["template"]["metadata"]["creationTimestamp"] = None
    template = render_replica_set(RayClusterFleet.from_dict(data), {}, 1)["spec"]["template"]
    assert set(template["metadata"]) == {"labels"}
    assert set(template["spec"]["headGroupSpec"]["template"]["metadata"]) == {"labels"}
    assert set(template["spec"]["workerGroupSpecs"][0]["template"]["metadata"]) == {"labels"}
    assert "None" not in repr(template)


def test_a_set_made_by_another_version_is_recognised_by_its_template() -> None:
    fleet = make_fleet()
    rendered = render_replica_set(fleet, {}, 1)["spec"]["template"]
    sent = RayClusterTemplate(spec=rendered["spec"])
    assert not is_same_template(sent, fleet.spec.template), "labels of the template count"
    whole = make_set(owner=fleet).to_dict()
    whole["spec"]["template"] = rendered
    theirs = RayClusterReplicaSet.from_dict(whole)
    assert is_same_template(theirs.spec.template, fleet.spec.template)
    assert observe(fleet, [theirs]).new is not None


def test_a_long_name_leaves_room_for_the_hash() -> None:
    name, digest = new_name(make_fleet(name="x" * 63))
    assert len(name) == 63
    assert name.endswith(f"x-{digest}")


@pytest.mark.parametrize(
    ("strategy", "want"),
    [
        pytest.param({}, (True, 1, 1), id="nothing said: a quarter each"),
        pytest.param({"max_surge": 0, "max_unavailable": 2}, (True, 0, 2), id="numbers"),
        pytest.param(
            {"max_surge": "50%", "max_unavailable": "50%"}, (True, 3, 2), id="surge rounds up, unavailable down"
        ),
        pytest.param({"max_surge": 0, "max_unavailable": 0}, (True, 0, 1), id="both zero would stand still"),
        pytest.param({"strategy": "Recreate"}, (False, 0, 0), id="Recreate"),
    ],
)
def test_strategies(strategy: dict[str, Any], want: tuple[bool, int, int]) -> None:
    found = goal(make_fleet(4 if not strategy else 5, **strategy))
    assert (found.is_rolling, found.max_surge, found.max_unavailable) == want


def test_the_first_revision_is_created_at_full_size() -> None:
    actions = plan(observe(make_fleet(3), [])).actions
    (create,) = [a for a in actions if isinstance(a, Create)]
    assert create.manifest["spec"]["replicas"] == 3
    annotations = create.manifest["metadata"]["annotations"]
    assert annotations == {
        names.DEPLOYMENT_REVISION: "1",
        names.DEPLOYMENT_DESIRED_REPLICAS: "3",
        names.DEPLOYMENT_MAX_REPLICAS: "4",
    }
    (noted,) = [a for a in actions if isinstance(a, Patch)]
    assert noted.patch["metadata"]["annotations"] == {names.DEPLOYMENT_REVISION: "1"}


def test_without_surge_the_next_comes_when_the_last_is_really_gone() -> None:
    fleet = make_fleet(2, image="v2", max_surge=0, max_unavailable=1)
    old = set_of(fleet, "old", 2, "v1", 1, available=2)
    new = set_of(fleet, "new-set", 0, "v2", 2)
    assert sizes(fleet, [old, new]) == {"old": 1}
    smaller = set_of(fleet, "old", 1, "v1", 1, available=1)
    assert sizes(fleet, [smaller, new], {"old": 2}) == {}, "the second cluster still ends"
    assert sizes(fleet, [smaller, new], {"old": 1}) == {"new-set": 1}


def test_recreate_waits_until_no_old_cluster_exists() -> None:
    fleet = make_fleet(2, image="v2", strategy="Recreate")
    assert sizes(fleet, [set_of(fleet, "old", 2, "v1", 1, available=2)]) == {"old": 0}
    empty = set_of(fleet, "old", 0, "v1", 1)
    assert sizes(fleet, [empty], {"old": 1}) == {}
    assert sizes(fleet, [empty], {"old": 0}) == {"new": 2}


def test_more_replicas_wait_for_room_too() -> None:
    fleet = make_fleet(3, max_surge=0, max_unavailable=1)
    memory = {names.DEPLOYMENT_DESIRED_REPLICAS: "2", names.DEPLOYMENT_MAX_REPLICAS: "2"}
    new = set_of(fleet, "new-set", 2, "v1", 2, available=2, annotations=memory)
    old = set_of(fleet, "old", 0, "v0", 1)
    assert sizes(fleet, [old, new], {"old": 1}) == {}
    assert sizes(fleet, [old, new], {"old": 0}) == {"new-set": 3}


def test_paused_fleets_are_scaled_and_not_rolled() -> None:
    fleet = make_fleet(3, image="v2", paused=True)
    memory = {names.DEPLOYMENT_DESIRED_REPLICAS: "2", names.DEPLOYMENT_MAX_REPLICAS: "3"}
    assert sizes(fleet, [set_of(fleet, "old", 2, "v1", 1, available=2, annotations=memory)]) == {"old": 3}


def test_a_set_whose_labels_no_longer_match_is_still_the_fleets() -> None:
    fleet = make_fleet(1, image="v2")
    data = set_of(fleet, "old", 1, "v1", 1, available=1).to_dict()
    data["metadata"]["labels"] = {"app": "else"}
    seen = observe(fleet, [RayClusterReplicaSet.from_dict(data)])
    assert [s.metadata.name for s in seen.old] == ["old"]
    assert not any(isinstance(a, Patch) and "ownerReferences" in str(a.patch) for a in plan(seen).actions)


def test_old_revisions_beyond_the_limit_are_deleted_when_they_are_empty() -> None:
    done = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}
    fleet = make_fleet(1, image="v4", revisionHistoryLimit=1, status=done)
    memory = {names.DEPLOYMENT_DESIRED_REPLICAS: "1", names.DEPLOYMENT_MAX_REPLICAS: "2"}
    old = [set_of(fleet, f"r{n}", 0, f"v{n}", n) for n in (1, 2, 3)]
    new = set_of(fleet, "r4", 1, "v4", 4, available=1, annotations=memory)
    counted = {old[0].uid: 1}
    actions = plan(observe(fleet, [*old, new], counted)).actions
    assert [a.key.name for a in actions if isinstance(a, Delete)] == ["r2"], "r1 has a cluster on its way out"


class TestRollback:
    """The annotation that kubectl's predecessor used, and that AIBrix's controller reads."""

    def fleet(self, to: str, image: str = "v3") -> RayClusterFleet:
        return make_fleet(1, image=image, annotations={ROLLBACK_TO: to})

    def roll_back(self, fleet: RayClusterFleet) -> tuple[dict[str, Any], str]:
        sets = [set_of(fleet, f"r{n}", int(n == 3), f"v{n}", n) for n in (1, 2, 3)]
        patch, event = plan(observe(fleet, sets)).actions
        assert isinstance(patch, Patch)
        assert isinstance(event, Emit)
        return dict(patch.patch), event.reason

    @pytest.mark.parametrize(("to", "image"), [("1", "v1"), ("2", "v2"), ("0", "v2")])
    def test_the_template_of_the_revision_comes_back(self, to: str, image: str) -> None:
        fleet = self.fleet(to)
        patch, reason = self.roll_back(fleet)
        assert reason == "DeploymentRollback"
        after = RayClusterFleet.from_dict(apply_merge_patch(fleet.to_dict(), patch))
        assert is_same_template(after.spec.template, make_fleet(image=image).spec.template)
        assert ROLLBACK_TO not in after.metadata.annotations

    def test_what_only_the_present_template_has_goes(self) -> None:
        data = self.fleet("1").to_dict()
        data["spec"]["template"]["spec"]["enableInTreeAutoscaling"] = True
        data["spec"]["template"]["metadata"]["annotations"] = {"only": "here"}
        fleet = RayClusterFleet.from_dict(data)
        patch, _ = self.roll_back(fleet)
        after = RayClusterFleet.from_dict(apply_merge_patch(data, patch))
        assert is_same_template(after.spec.template, make_fleet(image="v1").spec.template)

    @pytest.mark.parametrize(
        ("to", "want"),
        [
            ("9", "DeploymentRollbackRevisionNotFound"),
            ("x", "DeploymentRollbackRevisionNotFound"),
            ("3", "DeploymentRollbackTemplateUnchanged"),
        ],
    )
    def test_what_cannot_be_done_is_told_once(self, to: str, want: str) -> None:
        patch, reason = self.roll_back(self.fleet(to))
        assert reason == want
        assert patch == {"metadata": {"annotations": {ROLLBACK_TO: None}}}


def test_status_adds_up_and_names_the_heads() -> None:
    fleet = make_fleet(3, image="v2")
    sets = [set_of(fleet, "old", 2, "v1", 1, available=2), set_of(fleet, "new", 2, "v2", 2, available=1)]
    status, _ = next_status(observe(fleet, sets), Outcome(), EPOCH)
    assert (status.replicas, status.updated_replicas, status.available_replicas) == (4, 2, 3)
    assert status.unavailable_replicas == 1
    assert status.scaling_target_selector == "orchestration.aibrix.ai/raycluster-fleet-name=big,ray.io/node-type=head"
    assert {c.type: c.status for c in status.conditions} == {"Available": "True", "Progressing": "True"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"selector": {}}, "empty"),
        ({"selector": {"matchLabels": {"app": "else"}}}, "does not match"),
        ({"strategy": {"type": "Blue"}}, "neither"),
        ({"strategy": {"rollingUpdate": {"maxSurge": "a lot"}}}, "rollingUpdate"),
    ],
)
def test_what_cannot_be_worked_on_is_told(change: dict[str, Any], says: str) -> None:
    data = make_fleet().to_dict()
    data["spec"] |= change
    assert says in problem(RayClusterFleet.from_dict(data))
