"""What a resourceVersion means when an object is read, listed or watched.

https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions
"""

from __future__ import annotations

import pytest

from tests.support.contract import Api, config_map

FUTURE = str(2**62)


async def version_now(api: Api) -> str:
    return str((await api.get(api.at("configmaps"))).body["metadata"]["resourceVersion"])


async def names(api: Api, **query: str) -> list[str]:
    found = (await api.get(api.at("configmaps"), labelSelector="mine", **query)).body
    return [o["metadata"]["name"] for o in found["items"]]


async def make(api: Api, name: str) -> str:
    made = await api.create(api.at("configmaps"), config_map(name, {"mine": "1"}))
    return str(made.body["metadata"]["resourceVersion"])


async def test_every_write_has_a_newer_version(api: Api) -> None:
    first = await make(api, "a")
    patched = await api.patch(api.at("configmaps", "a"), {"data": {"x": "1"}})
    assert int(patched.body["metadata"]["resourceVersion"]) > int(first)
    assert int(await version_now(api)) >= int(patched.body["metadata"]["resourceVersion"])


# #semantics-for-get-and-list


@pytest.mark.parametrize("version", ["", "0", "as written"])
async def test_get_may_ask_for_any_or_a_not_older_version(api: Api, version: str) -> None:
    written = await make(api, "a")
    got = await api.get(api.at("configmaps", "a"), resourceVersion=written if version == "as written" else version)
    assert (got.code, got.body["metadata"]["resourceVersion"]) == (200, written)


@pytest.mark.parametrize("plural", ["object", "list"])
async def test_a_version_of_the_future_times_out(api: Api, plural: str) -> None:
    # #unavailable-resource-versions
    await make(api, "a")
    path = api.at("configmaps", "a" if plural == "object" else "")
    late = await api.get(path, resourceVersion=FUTURE)
    assert (late.code, late.reason) == (504, "Timeout")
    assert "Too large resource version" in late.body["message"]


async def test_what_is_no_version_is_a_bad_request(api: Api) -> None:
    for query in ({"resourceVersion": "x1"}, {"resourceVersion": "-1"}, {"resourceVersion": "x", "watch": "true"}):
        refused = await api.get(api.at("configmaps"), **query)
        assert refused.code in (400, 422), query


async def test_list_of_any_version_and_of_one_not_older(api: Api) -> None:
    version = await make(api, "a")
    assert await names(api, resourceVersion="0") in ([], ["a"])
    assert await names(api, resourceVersion=version) == ["a"]
    assert await names(api, resourceVersion=version, resourceVersionMatch="NotOlderThan") == ["a"]


async def test_list_of_an_exact_version_shows_that_state(api: Api) -> None:
    version = await make(api, "a")
    await make(api, "b")
    await api.delete(api.at("configmaps", "a"))
    exact = await api.get(
        api.at("configmaps"), labelSelector="mine", resourceVersion=version, resourceVersionMatch="Exact"
    )
    assert [o["metadata"]["name"] for o in exact.body["items"]] == ["a"]
    assert exact.body["metadata"]["resourceVersion"] == version
    assert await names(api) == ["b"]


@pytest.mark.parametrize(
    "query",
    [
        {"resourceVersionMatch": "Exact"},
        {"resourceVersionMatch": "NotOlderThan"},
        {"resourceVersionMatch": "Exact", "resourceVersion": "0"},
        {"resourceVersionMatch": "Newest", "resourceVersion": "1"},
    ],
)
async def test_matches_that_mean_nothing_are_refused(api: Api, query: dict[str, str]) -> None:
    refused = await api.get(api.at("configmaps"), **query)
    assert refused.code in (400, 422)
    assert "resourceVersionMatch" in refused.body["message"]


async def test_writes_of_one_kind_do_not_disturb_the_version_of_another(api: Api) -> None:
    # API conventions, "Concurrency Control and Consistency": a version is of the object, not of its neighbours.
    version = await make(api, "a")
    await make(api, "b")
    assert (await api.get(api.at("configmaps", "a"))).body["metadata"]["resourceVersion"] == version


# #semantics-for-watch


async def test_watch_without_a_version_begins_with_the_state(api: Api) -> None:
    await make(api, "a")
    for query in ({}, {"resourceVersion": "0"}):
        events = await api.watch(api.at("configmaps"), until=1, labelSelector="mine", **query)
        assert [(e["type"], e["object"]["metadata"]["name"]) for e in events] == [("ADDED", "a")]


async def test_watch_from_a_version_leaves_out_what_was_before(api: Api) -> None:
    version = await make(api, "a")
    await make(api, "b")
    events = await api.watch(api.at("configmaps"), until=1, labelSelector="mine", resourceVersion=version)
    assert [e["object"]["metadata"]["name"] for e in events] == ["b"]


async def test_version_that_is_too_old_is_gone_and_a_new_list_goes_on(api: Api) -> None:
    # #410-gone-responses
    await make(api, "a")
    assert await api.forget("1") == 410
    version = await version_now(api)
    await make(api, "b")
    events = await api.watch(api.at("configmaps"), until=1, labelSelector="mine", resourceVersion=version)
    assert [e["object"]["metadata"]["name"] for e in events] == ["b"]
