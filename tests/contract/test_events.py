"""Events, in the core group and in events.k8s.io: one set of objects in two forms.

https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.contract import Api

GROUP = {"group": "events.k8s.io"}
TIME = "2026-01-01T00:00:00.123456Z"


def about(api: Api, name: str = "p") -> dict[str, str]:
    return {"apiVersion": "v1", "kind": "Pod", "name": name, "namespace": api.namespace}


def new_form(api: Api, **change: Any) -> dict[str, Any]:
    said = {"note": "it started", "reason": "Started", "action": "Start", "type": "Normal", "eventTime": TIME}
    by = {"reportingController": "pybrix.dev/test", "reportingInstance": "test-1", "regarding": about(api)}
    return {"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"}, **said, **by, **change}


def old_form(api: Api, name: str = "e", **change: Any) -> dict[str, Any]:
    said = {"message": "it started", "reason": "Started", "type": "Normal", "involvedObject": about(api), **change}
    return {"apiVersion": "v1", "kind": "Event", "metadata": {"name": name}, **said}


async def test_new_form_is_seen_in_the_old_one(api: Api) -> None:
    made = await api.create(api.at("events", **GROUP), new_form(api))
    assert made.code == 201, made.body
    assert (made.body["apiVersion"], made.body["note"]) == ("events.k8s.io/v1", "it started")
    seen = (await api.get(api.at("events", "e"))).body
    assert (seen["apiVersion"], seen["message"], seen["eventTime"]) == ("v1", "it started", TIME)
    assert seen["involvedObject"]["name"] == "p"
    assert (seen["reportingComponent"], seen["reportingInstance"]) == ("pybrix.dev/test", "test-1")
    assert seen["metadata"]["uid"] == made.body["metadata"]["uid"]


async def test_old_form_is_seen_in_the_new_one(api: Api) -> None:
    first, last = "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"
    more: dict[str, Any] = {
        "firstTimestamp": first,
        "lastTimestamp": last,
        "count": 3,
        "source": {"component": "kubelet", "host": "h"},
    }
    assert (await api.create(api.at("events"), old_form(api, **more))).code == 201
    seen = (await api.get(api.at("events", "e", **GROUP))).body
    assert (seen["regarding"]["kind"], seen["note"], seen["deprecatedCount"]) == ("Pod", "it started", 3)
    assert (seen["deprecatedFirstTimestamp"], seen["deprecatedLastTimestamp"]) == (first, last)
    assert seen["deprecatedSource"] == {"component": "kubelet", "host": "h"}


@pytest.mark.parametrize("missing", ["reason", "action", "reportingController", "reportingInstance", "eventTime"])
async def test_new_form_is_complete(api: Api, missing: str) -> None:
    body = {k: v for k, v in new_form(api).items() if k != missing}
    refused = await api.create(api.at("events", **GROUP), body)
    assert (refused.code, refused.reason) == (422, "Invalid")


async def test_type_is_normal_or_warning(api: Api) -> None:
    assert (await api.create(api.at("events", **GROUP), new_form(api, type="Loud"))).code == 422


async def test_series_counts_in_both_forms(api: Api) -> None:
    await api.create(api.at("events", **GROUP), new_form(api))
    series = {"series": {"count": 2, "lastObservedTime": "2026-01-01T00:05:00.000001Z"}}
    patched = await api.patch(api.at("events", "e", **GROUP), series)
    assert (patched.code, patched.body["series"]) == (200, series["series"])
    assert (await api.get(api.at("events", "e"))).body["series"] == series["series"]


async def test_events_are_found_by_what_they_are_about(api: Api) -> None:
    await api.create(api.at("events"), old_form(api, "one", involvedObject=about(api, "a")))
    await api.create(api.at("events"), old_form(api, "two", involvedObject=about(api, "b"), type="Warning"))
    found = (await api.get(api.at("events"), fieldSelector="involvedObject.kind=Pod,involvedObject.name=b")).body
    assert [e["metadata"]["name"] for e in found["items"]] == ["two"]
    assert [
        e["metadata"]["name"] for e in (await api.get(api.at("events"), fieldSelector="type=Normal")).body["items"]
    ] == ["one"]
    found = (await api.get(api.at("events", **GROUP), fieldSelector="regarding.name=b,reason=Started")).body
    assert [e["metadata"]["name"] for e in found["items"]] == ["two"]


async def test_event_lives_in_the_namespace_of_what_it_is_about(api: Api) -> None:
    elsewhere = {**about(api), "namespace": "kube-system"}
    assert (await api.create(api.at("events"), old_form(api, involvedObject=elsewhere))).code == 422


async def test_both_forms_are_watched(api: Api) -> None:
    version = (await api.get(api.at("events"))).body["metadata"]["resourceVersion"]
    await api.create(api.at("events"), old_form(api))
    (event,) = await api.watch(api.at("events", **GROUP), until=1, resourceVersion=version)
    assert (event["object"]["apiVersion"], event["object"]["note"]) == ("events.k8s.io/v1", "it started")
