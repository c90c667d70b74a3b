"""Lists in pages.

https://kubernetes.io/docs/reference/using-api/api-concepts/#retrieving-large-results-sets-in-chunks
"""

from __future__ import annotations

import asyncio

from tests.support.contract import TABLE, Api, config_map

NAMES = list("abcdefg")


async def fill(api: Api) -> None:
    await asyncio.gather(*(api.create(api.at("secrets"), secret(name)) for name in NAMES))


def secret(name: str) -> dict[str, object]:
    return {**config_map(name, {"mine": "1"} if name in "ab" else None), "kind": "Secret", "data": {}}


async def test_pages_together_are_the_list(api: Api) -> None:
    await fill(api)
    seen, token, sizes = [], "", []
    while True:
        page = (await api.get(api.at("secrets"), limit="3", **({"continue": token} if token else {}))).body
        seen += [o["metadata"]["name"] for o in page["items"]]
        sizes.append(len(page["items"]))
        token = page["metadata"].get("continue", "")
        if not token:
            break
    assert (seen, sizes) == (NAMES, [3, 3, 1])


async def test_remaining_items_are_counted(api: Api) -> None:
    # /docs/reference/kubernetes-api/common-definitions/list-meta/
    await fill(api)
    first = (await api.get(api.at("secrets"), limit="3")).body["metadata"]
    assert first["remainingItemCount"] == 4
    last = (await api.get(api.at("secrets"), limit="4", **{"continue": first["continue"]})).body["metadata"]
    assert "remainingItemCount" not in last
    assert not last.get("continue")


async def test_remaining_items_of_a_selection_are_not_counted(api: Api) -> None:
    await fill(api)
    page = (await api.get(api.at("secrets"), limit="1", labelSelector="mine")).body
    assert [o["metadata"]["name"] for o in page["items"]] == ["a"]
    assert page["metadata"]["continue"]
    assert "remainingItemCount" not in page["metadata"]


async def test_limit_that_is_larger_than_the_list_has_no_more_pages(api: Api) -> None:
    await fill(api)
    page = (await api.get(api.at("secrets"), limit="500")).body
    assert len(page["items"]) == len(NAMES)
    assert not page["metadata"].get("continue")


async def test_limit_that_is_no_number_is_refused(api: Api) -> None:
    assert (await api.get(api.at("secrets"), limit="many")).code == 400


async def test_version_goes_with_the_token_and_not_beside_it(api: Api) -> None:
    await fill(api)
    first = (await api.get(api.at("secrets"), limit="2")).body["metadata"]
    query = {"continue": first["continue"], "resourceVersion": first["resourceVersion"]}
    refused = await api.get(api.at("secrets"), limit="2", **query)
    assert refused.code == 400
    assert "continue" in refused.body["message"]


async def test_pages_show_the_version_of_the_first(api: Api) -> None:
    await fill(api)
    first = (await api.get(api.at("secrets"), limit="4")).body
    await api.delete(api.at("secrets", "g"))
    await api.patch(api.at("secrets", "e"), {"metadata": {"labels": {"late": "1"}}})
    rest = (await api.get(api.at("secrets"), limit="4", **{"continue": first["metadata"]["continue"]})).body
    assert [o["metadata"]["name"] for o in rest["items"]] == list("efg")
    assert "labels" not in rest["items"][0]["metadata"]
    assert rest["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


async def test_token_that_is_too_old_is_gone_and_brings_another(api: Api) -> None:
    # #410-gone-responses: the answer has a token with which the rest can be had, as it is now.
    await fill(api)
    first = (await api.get(api.at("secrets"), limit="2")).body["metadata"]
    if await api.forget(first["resourceVersion"]) != 410:
        return  # A cluster that keeps every version for minutes has nothing to say here.
    late = await api.get(api.at("secrets"), limit="2", **{"continue": first["continue"]})
    assert (late.code, late.reason) == (410, "Expired")
    rest = await api.get(api.at("secrets"), **{"continue": late.body["metadata"]["continue"]})
    assert [o["metadata"]["name"] for o in rest.body["items"]] == NAMES[2:]


async def test_tables_have_pages_too(api: Api) -> None:
    await fill(api)
    page = (await api.get(api.at("secrets"), TABLE, limit="3")).body
    assert len(page["rows"]) == 3
    assert page["metadata"]["continue"]
    assert page["metadata"]["remainingItemCount"] == 4
