"""Operations in the process: deletion, finalizers, definitions, namespaces, binding, as the collector sees them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pybrix.api.identity import ObjectKey, Uid
from pybrix.base.clock import SystemClock
from pybrix.cluster.apiserver.bootstrap import ensure_namespaces
from pybrix.cluster.apiserver.catalog import Catalog, version_priority
from pybrix.cluster.apiserver.deletion import plan_deletion
from pybrix.cluster.apiserver.kinds.addresses import SERVICE_NETWORK, NetworkFull, choose_address
from pybrix.cluster.apiserver.kinds.defaults import default_pull_policy, qos_class
from pybrix.cluster.apiserver.objects import Objects
from pybrix.cluster.apiserver.options import WriteOptions
from pybrix.cluster.apiserver.resources import CRD_RESOURCE
from pybrix.cluster.store.store import Store
from pybrix.kube.errors import Conflict, Forbidden, Invalid, NotFound, StatusError
from pybrix.kube.interface import PatchType

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


def open_objects(directory: Path) -> Objects:
    store = Store.open(directory / "cluster.db", clock=SystemClock())
    objects = Objects(store, Catalog(), clock=SystemClock(), chance=random.Random(7))
    ensure_namespaces(objects)
    return objects


@pytest.fixture
def objects(tmp_path: Path) -> Iterator[Objects]:
    opened = open_objects(tmp_path)
    yield opened
    opened.store.close()


def pod(name: str, **metadata: Any) -> dict[str, Any]:
    spec = {"containers": [{"name": "main", "image": "x:1"}]}
    return {"metadata": {"name": name, "namespace": "default", **metadata}, "spec": spec}


def key(name: str, namespace: str = "default") -> ObjectKey:
    return ObjectKey(namespace, name)


def bind(objects: Objects, name: str, node: str = "n") -> None:
    objects.bind(key(name), {"metadata": {"name": name}, "target": {"name": node}}, WriteOptions())


def test_recreated_object_has_another_uid_and_the_old_uid_deletes_nothing(objects: Objects) -> None:
    first = objects.create("pods", pod("p"))
    objects.delete("pods", key("p"))
    objects.create("pods", pod("p"))
    with pytest.raises(Conflict):
        objects.delete("pods", key("p"), uid=Uid(first["metadata"]["uid"]))
    assert objects.get("pods", key("p"))["metadata"]["uid"] != first["metadata"]["uid"]


def test_bound_pod_is_marked_and_goes_when_the_node_says_so(objects: Objects) -> None:
    objects.create("pods", pod("p"))
    bind(objects, "p")
    with pytest.raises(Conflict, match='already assigned to node "n"'):
        bind(objects, "p", "other")
    objects.delete("pods", key("p"))
    marked = objects.get("pods", key("p"))["metadata"]
    assert marked["deletionGracePeriodSeconds"] == 30
    objects.delete("pods", key("p"), grace_period_seconds=60)
    assert objects.get("pods", key("p"))["metadata"]["deletionTimestamp"] == marked["deletionTimestamp"]
    objects.delete("pods", key("p"), grace_period_seconds=0)
    with pytest.raises(NotFound):
        objects.get("pods", key("p"))


def test_node_name_of_a_pod_is_set_by_binding_only(objects: Objects) -> None:
    objects.create("pods", pod("p"))
    with pytest.raises(Invalid):
        objects.patch("pods", key("p"), {"spec": {"nodeName": "n"}})
    bind(objects, "p")
    got = objects.get("pods", key("p"))
    assert got["spec"]["nodeName"] == "n"
    assert [(c["type"], c["status"]) for c in got["status"]["conditions"]] == [("PodScheduled", "True")]


@pytest.mark.parametrize(("policy", "finalizer"), [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")])
def test_policies_leave_a_finalizer_for_the_collector(objects: Objects, policy: str, finalizer: str) -> None:
    objects.create("configmaps", {"metadata": {"name": "c", "namespace": "default"}})
    objects.delete("configmaps", key("c"), propagation=policy)
    held = objects.get("configmaps", key("c"))["metadata"]
    assert held["finalizers"] == [finalizer]
    assert held["deletionTimestamp"]
    objects.patch("configmaps", key("c"), {"metadata": {"finalizers": []}})
    assert objects.store.get("configmaps", key("c")) is None


def test_namespace_goes_when_it_is_finalized(objects: Objects) -> None:
    objects.create("namespaces", {"metadata": {"name": "team"}})
    assert objects.store.get("serviceaccounts", key("default", "team")) is not None
    objects.delete("namespaces", key("team", ""))
    held = objects.get("namespaces", key("team", ""))
    assert (held["status"]["phase"], held["spec"]["finalizers"]) == ("Terminating", ["kubernetes"])
    objects.update("namespaces", {**held, "spec": {"finalizers": []}}, subresource="finalize")
    assert objects.store.get("namespaces", key("team", "")) is None


def test_namespaces_that_every_cluster_has_stay(objects: Objects) -> None:
    with pytest.raises(Forbidden):
        objects.delete("namespaces", key("kube-system", ""))


def widgets(version: str = "v1", plural: str = "widgets", kind: str = "Widget") -> dict[str, Any]:
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    versions = [{"name": version, "served": True, "storage": True, "schema": schema}]
    names = {"plural": plural, "kind": kind, "shortNames": ["wd"]}
    spec = {"group": "example.com", "scope": "Namespaced", "names": names, "versions": versions}
    return {"metadata": {"name": f"{plural}.example.com"}, "spec": spec}


def widget(name: str, **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default", **metadata}, "spec": {"anything": [1]}}


def test_definition_is_deleted_with_its_objects_but_waits_for_their_finalizers(objects: Objects) -> None:
    objects.create(CRD_RESOURCE, widgets())
    objects.create("widgets.example.com", widget("free"))
    objects.create("widgets.example.com", widget("held", finalizers=["a.b/c"]))
    objects.delete(CRD_RESOURCE, key("widgets.example.com", ""))
    assert [s.key.name for s in objects.store.list("widgets.example.com")] == ["held"]
    with pytest.raises(StatusError, match="terminating"):
        objects.create("widgets.example.com", widget("late"))
    objects.patch("widgets.example.com", key("held"), {"metadata": {"finalizers": None}})
    assert objects.store.get(CRD_RESOURCE, key("widgets.example.com", "")) is None
    with pytest.raises(NotFound):
        objects.get("widgets.example.com", key("held"))


def test_definition_is_served_again_after_a_restart(tmp_path: Path) -> None:
    first = open_objects(tmp_path)
    first.create(CRD_RESOURCE, widgets())
    first.create("widgets.example.com", widget("w"))
    first.store.close()
    second = open_objects(tmp_path)
    assert second.get("widgets.example.com", key("w"))["spec"] == {"anything": [1]}
    second.store.close()


def test_second_definition_of_a_name_is_stored_but_not_served(objects: Objects) -> None:
    objects.create(CRD_RESOURCE, widgets())
    clash = objects.create(CRD_RESOURCE, widgets(plural="gadgets", kind="Gadget"))
    conditions = {c["type"]: c["status"] for c in clash["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "False", "Established": "False"}
    assert objects.catalog.find("example.com", "v1", "gadgets") is None


def test_versions_of_a_custom_kind_show_the_same_object(objects: Objects) -> None:
    crd = widgets()
    crd["spec"]["versions"].append({**crd["spec"]["versions"][0], "name": "v1beta1", "storage": False})
    objects.create(CRD_RESOURCE, crd)
    objects.create("widgets.example.com", widget("w"))
    old = objects.catalog.find("example.com", "v1beta1", "widgets")
    assert old is not None
    stored = objects.read(old, key("w"))
    assert objects.view(old, stored.data)["apiVersion"] == "example.com/v1beta1"
    assert stored.data["apiVersion"] == "example.com/v1"


def test_long_generated_prefix_is_cut(objects: Objects) -> None:
    body = {"metadata": {"generateName": "x" * 80, "namespace": "default"}}
    assert len(objects.create("configmaps", body)["metadata"]["name"]) == 63


def test_object_without_managed_fields_is_owned_by_what_was_before(objects: Objects) -> None:
    body = {"metadata": {"name": "c", "namespace": "default"}, "data": {"x": "1"}}
    objects.create("configmaps", body)
    objects.patch("configmaps", key("c"), {"metadata": {"managedFields": []}})
    assert "managedFields" not in objects.get("configmaps", key("c"))["metadata"]
    applied = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"x": "2"}}
    with pytest.raises(Conflict, match="before-first-apply"):
        objects.patch("configmaps", key("c"), applied, patch_type=PatchType.APPLY, field_manager="one")


@pytest.mark.parametrize(
    ("pod_", "grace_s", "want"),
    [
        pytest.param({"spec": {}}, None, (True, 0), id="bound nowhere"),
        pytest.param({"spec": {"nodeName": "n"}}, None, (False, 30), id="default period"),
        pytest.param(
            {"spec": {"nodeName": "n", "terminationGracePeriodSeconds": 5}}, None, (False, 5), id="own period"
        ),
        pytest.param({"spec": {"nodeName": "n"}}, 7, (False, 7), id="asked for"),
        pytest.param({"spec": {"nodeName": "n"}}, 0, (True, 0), id="at once"),
        pytest.param({"spec": {"nodeName": "n"}, "status": {"phase": "Failed"}}, None, (True, 0), id="finished"),
    ],
)
def test_grace_period_of_a_pod(pod_: dict[str, Any], grace_s: int | None, want: tuple[bool, int]) -> None:
    doom = plan_deletion("Pod", {"metadata": {"name": "p"}, **pod_}, NOW, propagation=None, grace_period_s=grace_s)
    assert (doom.is_removed, doom.data["metadata"]["deletionGracePeriodSeconds"]) == want


def test_second_deletion_may_shorten_the_period() -> None:
    data = {"metadata": {"name": "p"}, "spec": {"nodeName": "n"}}
    first = plan_deletion("Pod", data, NOW, propagation=None, grace_period_s=30).data
    second = plan_deletion("Pod", first, NOW, propagation=None, grace_period_s=3).data
    assert second["metadata"]["deletionGracePeriodSeconds"] == 3
    assert second["metadata"]["deletionTimestamp"] == "2026-11-22T12:00:03Z"


@pytest.mark.parametrize(
    ("image", "want"),
    [
        ("nginx", "Always"), ("nginx:latest", "Always"), ("nginx:1", "IfNotPresent"),
        ("host:5000/nginx", "Always"), ("host:5000/nginx:1", "IfNotPresent"), ("nginx@sha256:ab", "IfNotPresent"),
    ],
)  # fmt: skip
def test_pull_policy(image: str, want: str) -> None:
    assert default_pull_policy(image) == want


def test_quality_of_service() -> None:
    both = {"cpu": "1", "memory": "1Gi"}
    assert qos_class({"containers": [{}]}) == "BestEffort"
    assert qos_class({"containers": [{"resources": {"requests": {"cpu": "1"}}}]}) == "Burstable"
    assert qos_class({"containers": [{"resources": {"limits": both, "requests": both}}]}) == "Guaranteed"
    assert qos_class({"containers": [{"resources": {"limits": both, "requests": both}}, {}]}) == "Burstable"


def test_service_addresses_are_distinct_until_none_is_left() -> None:
    taken: set[str] = set()
    for number in range(300):
        address = choose_address(str(number), taken)
        assert address not in taken
        taken.add(address)
    everything = {str(address) for address in SERVICE_NETWORK}
    with pytest.raises(NetworkFull):
        choose_address("x", everything)


def test_versions_are_ordered_as_clients_prefer_them() -> None:
    versions = ["v1beta1", "foo", "v2", "v1", "v11alpha2", "v1beta2", "v10"]
    assert sorted(versions, key=version_priority) == ["v10", "v2", "v1", "v1beta2", "v1beta1", "v11alpha2", "foo"]
