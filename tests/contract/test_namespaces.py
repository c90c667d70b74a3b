"""Namespaces and their end.

https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.contract import Api, config_map
from tests.support.waiting import until

NAMESPACES = "/api/v1/namespaces"


@pytest.fixture
async def other(api: Api) -> AsyncIterator[str]:
    """A second namespace."""
    name = f"{api.namespace}-other"
    made = await api.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    assert made.code == 201, made.body
    yield name
    await api.delete(f"{NAMESPACES}/{name}")


async def until_gone(api: Api, path: str) -> None:
    async def is_gone() -> bool:
        return (await api.get(path)).code == 404

    await until(is_gone)


async def test_namespace_is_active_and_labelled_with_its_name(api: Api, other: str) -> None:
    # #automatic-labelling
    got = (await api.get(f"{NAMESPACES}/{other}")).body
    assert got["status"]["phase"] == "Active"
    assert got["metadata"]["labels"]["kubernetes.io/metadata.name"] == other
    assert got["spec"]["finalizers"] == ["kubernetes"]


async def test_label_of_the_name_cannot_be_removed(api: Api, other: str) -> None:
    await api.patch(f"{NAMESPACES}/{other}", {"metadata": {"labels": {"kubernetes.io/metadata.name": None, "a": "b"}}})
    labels = (await api.get(f"{NAMESPACES}/{other}")).body["metadata"]["labels"]
    assert labels == {"kubernetes.io/metadata.name": other, "a": "b"}


async def test_objects_of_one_name_live_in_different_namespaces(api: Api, other: str) -> None:
    for namespace in (api.namespace, other):
        made = await api.create(f"{NAMESPACES}/{namespace}/secrets", {**config_map("a"), "kind": "Secret", "data": {}})
        assert made.code == 201
    found = (await api.get("/api/v1/secrets", fieldSelector="metadata.name=a")).body["items"]
    assert {api.namespace, other} <= {o["metadata"]["namespace"] for o in found}


async def test_namespace_of_the_body_must_be_that_of_the_path(api: Api, other: str) -> None:
    body = config_map("a")
    body["metadata"]["namespace"] = other
    refused = await api.create(api.at("configmaps"), body)
    assert (refused.code, refused.reason) == (400, "BadRequest")


async def test_deletion_takes_everything_with_it(api: Api, other: str) -> None:
    for plural in ("configmaps", "secrets"):
        kind = {"configmaps": "ConfigMap", "secrets": "Secret"}[plural]
        await api.create(f"{NAMESPACES}/{other}/{plural}", {**config_map("a"), "kind": kind, "data": {}})
    ending = await api.delete(f"{NAMESPACES}/{other}")
    assert ending.body["status"]["phase"] == "Terminating"
    await until_gone(api, f"{NAMESPACES}/{other}")
    assert (await api.get(f"{NAMESPACES}/{other}/configmaps/a")).code == 404


async def test_namespace_waits_for_finalizers_and_says_so(api: Api, other: str) -> None:
    body = config_map("a")
    body["metadata"]["finalizers"] = ["pybrix.dev/wait"]
    path = f"{NAMESPACES}/{other}/configmaps"
    await api.create(path, body)
    await api.delete(f"{NAMESPACES}/{other}")

    async def says_what_is_left() -> bool:
        conditions = (await api.get(f"{NAMESPACES}/{other}")).body["status"].get("conditions", [])
        return any(c["type"] == "NamespaceFinalizersRemaining" and c["status"] == "True" for c in conditions)

    await until(says_what_is_left)
    await api.patch(f"{path}/a", {"metadata": {"finalizers": None}})
    await until_gone(api, f"{NAMESPACES}/{other}")


async def test_nothing_new_comes_into_one_that_ends(api: Api, other: str) -> None:
    body = config_map("a")
    body["metadata"]["finalizers"] = ["pybrix.dev/wait"]
    path = f"{NAMESPACES}/{other}/configmaps"
    await api.create(path, body)
    await api.delete(f"{NAMESPACES}/{other}")
    refused = await api.create(path, config_map("late"))
    assert (refused.code, refused.reason) == (403, "Forbidden")
    assert refused.body["details"]["causes"][0]["reason"] == "NamespaceTerminating"
    await api.patch(f"{path}/a", {"metadata": {"finalizers": None}})


async def test_the_first_namespaces_stay(api: Api) -> None:
    # #initial-namespaces
    for name in ("default", "kube-system", "kube-public"):
        refused = await api.delete(f"{NAMESPACES}/{name}", dryRun="All")
        assert (refused.code, refused.reason) == (403, "Forbidden"), name


@pytest.mark.parametrize("name", ["Upper", "a.b", "-a", "a" * 64, "a_b"])
async def test_name_is_a_dns_label(api: Api, name: str) -> None:
    made = await api.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    assert (made.code, made.reason) == (422, "Invalid")
