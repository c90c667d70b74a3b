"""Children: after one pass they are as they shall be, and the next pass does nothing."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.api.apps import StatefulSet
from pybrix.api.core import Service
from pybrix.api.kvcache.v1alpha1.kvcachepool import KVCachePool
from pybrix.api.meta import Object
from pybrix.controllers.cachecluster.children import RESTARTED_AT, child_key, covers, plan_children
from pybrix.controllers.cachecluster.templates import overlay
from pybrix.kube.patch import apply_merge_patch
from pybrix.runtime.actions import Create, Delete, Patch

OWNER = KVCachePool.from_dict(
    {"metadata": {"name": "p", "namespace": "d", "uid": "u"}, "spec": {"cache": {"image": "i"}}}
)
texts = st.text("abc", max_size=3)
leaves = st.one_of(texts, st.integers(0, 3), st.booleans())
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=8,
)
templates = st.dictionaries(texts, trees, max_size=4)


def workload(template: dict[str, Any], **spec: Any) -> dict[str, Any]:
    body = {"replicas": 1, "serviceName": "s", "selector": {"matchLabels": {"a": "b"}}, "template": template, **spec}
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "w", "namespace": "d"}, "spec": body}


def service(**selector: str) -> dict[str, Any]:
    ports = [{"name": "p", "port": 1, "targetPort": 1, "protocol": "TCP"}]
    metadata = {"name": "s", "namespace": "d"}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"selector": selector, "ports": ports}}


def stored(manifest: dict[str, Any], cls: type[Object] = StatefulSet) -> Any:
    """Return an object as a server has it after its creation."""
    (create,) = plan_children(OWNER, [manifest], {}).actions
    assert isinstance(create, Create)
    body: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(create.manifest))
    body["metadata"] |= {"uid": "c", "ownerReferences": [msgspec.to_builtins(OWNER.owner_reference())]}
    return cls.from_dict(body)


def settle(manifest: dict[str, Any], found: Any) -> Any:
    """Apply one pass; the second one has nothing to do."""
    for action in plan_children(OWNER, [manifest], {child_key(manifest): found}).actions:
        assert isinstance(action, Patch)
        found = type(found).from_dict(apply_merge_patch(found.to_dict(), action.patch))
    assert plan_children(OWNER, [manifest], {child_key(manifest): found}).actions == ()
    return found


@given(templates, templates)
def test_a_change_of_the_template_is_carried_out_and_is_the_last_one(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    assert covers(after, settle(workload(after), stored(workload(before))).spec.template)


@given(templates, templates)
def test_what_somebody_edits_is_set_right(wanted: dict[str, Any], edited: dict[str, Any]) -> None:
    found = stored(workload(wanted))
    found.spec.template = edited
    found.spec.replicas = 5
    right = settle(workload(wanted), found)
    assert covers(wanted, right.spec.template)
    assert right.spec.replicas == 1


def test_what_the_server_fills_in_is_no_drift() -> None:
    container = {
        "name": "c",
        "resources": {"limits": {"memory": "1024Mi", "cpu": 1}},
        "env": [{"name": "A", "value": ""}],
    }
    found = stored(workload({"spec": {"containers": [container]}}))
    (there,) = found.spec.template["spec"]["containers"]
    there |= {"terminationMessagePath": "/dev/log", "resources": {"limits": {"memory": "1Gi", "cpu": "1"}}}
    del there["env"][0]["value"]
    found.spec.template["spec"]["dnsPolicy"] = "ClusterFirst"
    assert (
        plan_children(OWNER, [workload({"spec": {"containers": [container]}})], {("StatefulSet", "w"): found}).actions
        == ()
    )


def test_a_default_that_is_written_out_is_the_same_as_one_that_is_not() -> None:
    """msgspec leaves a text out only if it is the very default, which one that was read from the wire is not."""
    manifest = workload({}, podManagementPolicy="OrderedReady", updateStrategy={"type": "RollingUpdate"})
    for text in ("", '"podManagementPolicy": "OrderedReady",'):
        body = stored(manifest).to_dict()
        encoded = msgspec.json.encode(body).decode().replace('"spec":{', '"spec":{' + text)
        found = msgspec.json.decode(encoded, type=StatefulSet)
        assert plan_children(OWNER, [manifest], {("StatefulSet", "w"): found}).actions == ()


def test_a_rollout_that_people_ask_for_stays() -> None:
    manifest = workload({"metadata": {"labels": {"a": "b"}, "annotations": {"x": "1"}}})
    found = stored(manifest)
    found.spec.template["metadata"]["annotations"][RESTARTED_AT] = "now"
    changed = workload({"metadata": {"labels": {"a": "b"}, "annotations": {"x": "2"}}})
    assert settle(changed, found).spec.template["metadata"]["annotations"] == {"x": "2", RESTARTED_AT: "now"}


def test_a_label_more_in_a_selector_is_taken_out() -> None:
    found = stored(service(a="b"), Service)
    found.spec.selector["c"] = "d"
    assert settle(service(a="b"), found).spec.selector == {"a": "b"}


@pytest.mark.parametrize(
    ("change", "propagation"),
    [
        ({"serviceName": "other"}, "Orphan"),
        ({"podManagementPolicy": "Parallel"}, "Orphan"),
        ({"selector": {"matchLabels": {"a": "c"}}}, "Foreground"),
        ({"volumeClaimTemplates": [{"metadata": {"name": "v"}}]}, "Foreground"),
    ],
)
def test_what_cannot_change_in_place_is_made_anew(change: dict[str, Any], propagation: str) -> None:
    found = stored(workload({}))
    plan = plan_children(OWNER, [workload({}, **change)], {("StatefulSet", "w"): found})
    (delete,) = plan.actions
    assert isinstance(delete, Delete)
    assert (delete.uid, delete.propagation, plan.is_waiting) == ("c", propagation, True)


def test_a_child_that_is_not_wanted_goes_and_others_stay() -> None:
    mine, other = stored(service(a="b"), Service), stored(service(a="b"), Service)
    other.metadata.owner_references = []
    (delete,) = plan_children(OWNER, [], {("Service", "s"): mine, ("Service", "o"): other}).actions
    assert isinstance(delete, Delete)
    assert plan_children(OWNER, [service(a="b")], {("Service", "s"): other}).taken == ("Service s",)


def test_what_people_write_lies_over_the_template() -> None:
    env = [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    base = {"spec": {"containers": [{"name": "c", "env": env}], "volumes": [{"name": "v", "emptyDir": {}}]}}
    over = {
        "spec": {
            "containers": [{"name": "c", "env": [{"name": "B", "valueFrom": {}}], "command": ["x"]}, {"name": "d"}],
            "tolerations": [{"key": "k"}],
        }
    }
    merged = overlay(base, over)["spec"]
    assert merged["containers"][0]["env"] == [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {}}]
    assert merged["containers"][0]["command"] == ["x"]
    assert [container["name"] for container in merged["containers"]] == ["c", "d"]
    assert merged["volumes"] == base["spec"]["volumes"]
    assert merged["tolerations"] == [{"key": "k"}]
