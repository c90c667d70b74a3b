from __future__ import annotations

import msgspec
import pytest

from pybrix.api.apps import Deployment, DeploymentSpec, ReplicaSet, ReplicaSetSpec
from pybrix.api.core import ContainerStatus, Event, ObjectReference, Pod
from pybrix.api.meta import Condition, ObjectMeta, set_condition
from pybrix.api.scheme import KINDS, decode


def test_a_list_item_without_kind_knows_its_kind() -> None:
    pod = Pod.from_dict({"metadata": {"name": "a", "namespace": "b"}})
    assert (pod.api_version, pod.kind, str(pod.key)) == ("v1", "Pod", "b/a")


def test_zero_replicas_reach_the_wire() -> None:
    assert ReplicaSet(spec=ReplicaSetSpec(replicas=0)).to_dict()["spec"]["replicas"] == 0


def test_a_pod_template_keeps_fields_without_a_type() -> None:
    template = {"spec": {"containers": [], "somethingNew": {"deep": [1]}}}
    deployment = Deployment(spec=DeploymentSpec(template=template))
    assert Deployment.from_dict(deployment.to_dict()).spec.template == template


def test_required_fields_are_written_even_when_empty() -> None:
    status = ContainerStatus(name="a", ready=False, restart_count=0, image="i", image_id="")
    assert msgspec.to_builtins(status) == {"name": "a", "ready": False, "restartCount": 0, "image": "i", "imageID": ""}
    assert "involvedObject" in Event(involved_object=ObjectReference()).to_dict()


def test_a_wrong_type_names_its_path() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"\$\.spec\.replicas"):
        Deployment.from_dict({"spec": {"replicas": "three"}})


def test_the_scheme_decodes_every_kind_it_lists() -> None:
    for cls in KINDS:
        if any(entry.required for entry in msgspec.structs.fields(cls)):
            continue
        assert type(decode({"apiVersion": cls.gvk.api_version, "kind": cls.gvk.kind})) is cls


def test_owner_reference_is_a_controller() -> None:
    owner = Deployment(metadata=ObjectMeta(name="d", namespace="n", uid="u1"))  # type: ignore[arg-type]
    reference = owner.owner_reference()
    assert (reference.kind, reference.uid, reference.controller) == ("Deployment", "u1", True)


def test_transition_time_changes_only_with_the_status() -> None:
    first = set_condition([], Condition(type="Ready", status="False", reason="A"), "t1")
    same = set_condition(first, Condition(type="Ready", status="False", reason="B"), "t2")
    changed = set_condition(same, Condition(type="Ready", status="True"), "t3")
    assert [c.last_transition_time for c in (*first, *same, *changed)] == ["t1", "t1", "t3"]
    assert same[0].reason == "B"
