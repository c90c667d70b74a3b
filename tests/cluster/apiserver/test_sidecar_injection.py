"""The policies and `pybrix inject` do the same thing, on the embedded API server."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from pybrix.api.crds import render_crds
from pybrix.api.identity import ObjectKey
from pybrix.api.injectionpolicies import VERSIONS, render_injection_policies
from pybrix.api.sidecar import INJECTION, injected, lacks_sidecar, templates
from pybrix.base.clock import SystemClock
from pybrix.cluster.apiserver.catalog import Catalog
from pybrix.cluster.apiserver.objects import Objects
from pybrix.cluster.apiserver.options import WriteOptions
from pybrix.cluster.store.store import Store
from pybrix.kube.errors import StatusError
from pybrix.kube.interface import PatchType
from tests.support.injections import deployment, engine, pod_template, storm_service, workloads

_DROPPED = ("uid", "creationTimestamp", "resourceVersion", "managedFields")


def server(directory: Path, *, has_policies: bool, version: str = "v1") -> Objects:
    clock = SystemClock()
    directory.mkdir()
    store = Store.open(directory / "cluster.db", clock=clock)
    objects = Objects(store, Catalog(), clock=clock, chance=random.Random(1))
    objects.create("namespaces", {"metadata": {"name": "default"}})
    for document in render_crds(["StormService"]):
        objects.create("customresourcedefinitions.apiextensions.k8s.io", document)
    for document in render_injection_policies(version) if has_policies else ():
        kind = "policies" if document["kind"].endswith("Policy") else "policybindings"
        served = objects.catalog.find("admissionregistration.k8s.io", version, f"mutatingadmission{kind}")
        assert served is not None
        objects.create_object(served, "", document, WriteOptions())
    return objects


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Objects, Objects]]:
    """A server with the policies, and one without."""
    directory = tmp_path_factory.mktemp("servers")
    both = server(directory / "with", has_policies=True), server(directory / "without", has_policies=False)
    yield both
    for one in both:
        one.store.close()


def served_of(objects: Objects, obj: dict[str, Any]) -> Any:
    plural = {"Deployment": "deployments.apps", "StormService": "stormservices.orchestration.aibrix.ai"}
    return objects.served(plural[obj["kind"]])


def created(objects: Objects, obj: dict[str, Any]) -> dict[str, Any]:
    """Return what a server makes of an object, without what differs from server to server."""
    options = WriteOptions(is_dry_run=True, field_validation="Strict")
    made = objects.create_object(served_of(objects, obj), "default", copy.deepcopy(obj), options)
    return {**made, "metadata": {k: v for k, v in made["metadata"].items() if k not in _DROPPED}}


@given(obj=workloads())
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_policies_do_what_inject_does(servers: tuple[Objects, Objects], obj: dict[str, Any]) -> None:
    with_policies, without = servers
    want = created(without, injected(obj))
    assert created(with_policies, obj) == want
    # What was injected before stays as it is.
    assert created(with_policies, injected(obj)) == want


KEY = ObjectKey("default", "chat")


@pytest.mark.parametrize("obj", [deployment(), storm_service(pod_template(), pod_template())], ids=lambda o: o["kind"])
def test_applying_again_changes_nothing(tmp_path: Path, obj: dict[str, Any]) -> None:
    objects = server(tmp_path / "s", has_policies=True)
    try:
        served, options = served_of(objects, obj), WriteOptions("kubectl")
        first = objects.patch_object(served, KEY, PatchType.APPLY, copy.deepcopy(obj), options)
        assert not lacks_sidecar(first)
        for patch_type, patch in ((PatchType.APPLY, copy.deepcopy(obj)), (PatchType.MERGE, {})):
            again = objects.patch_object(served, KEY, patch_type, patch, options)
            assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    finally:
        objects.store.close()


@pytest.mark.parametrize("obj", [deployment(asks=None), storm_service(asks=None)], ids=lambda o: o["kind"])
def test_annotation_that_comes_later_counts(tmp_path: Path, obj: dict[str, Any]) -> None:
    objects = server(tmp_path / "s", has_policies=True)
    try:
        served, options = served_of(objects, obj), WriteOptions("kubectl")
        made = objects.create_object(served, "default", obj, options)
        asked = {"metadata": {"annotations": {INJECTION: "true"}}}
        patched = objects.patch_object(served, KEY, PatchType.MERGE, asked, options)
        ((_, before), *_), ((_, after), *_) = templates(made), templates(patched)
        assert len(after["spec"]["containers"]) == len(before["spec"]["containers"]) + 1
        assert patched["metadata"]["generation"] == made["metadata"]["generation"] + 1
    finally:
        objects.store.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_of_the_policies_works(tmp_path: Path, version: str) -> None:
    objects = server(tmp_path / "s", has_policies=True, version=version)
    try:
        for obj in (deployment(), storm_service()):
            assert not lacks_sidecar(created(objects, obj))
    finally:
        objects.store.close()


def test_many_roles_and_containers_are_within_the_budget(servers: tuple[Objects, Objects]) -> None:
    template = pod_template(*(engine(f"c{n}") for n in range(12)))
    obj = storm_service(*(template for _ in range(64)))
    assert created(servers[0], obj) == created(servers[1], injected(obj))


def test_what_is_malformed_is_refused_by_its_schema(servers: tuple[Objects, Objects]) -> None:
    obj = storm_service()
    del obj["spec"]["template"]["spec"]["roles"][0]["template"]["spec"]
    with pytest.raises(StatusError) as refused:
        created(servers[0], obj)
    assert "template.spec is required" in refused.value.message
