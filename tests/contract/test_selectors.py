"""Which objects labels and fields select.

https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors and
https://kubernetes.io/docs/concepts/overview/working-with-objects/field-selectors/
"""

from __future__ import annotations

import asyncio

import pytest

from tests.support.contract import Api, config_map, pod
from tests.support.customkinds import widgets
from tests.support.definitions import spec_schema

LABELS = {
    "a": {"env": "prod", "tier": "front"},
    "b": {"env": "prod", "tier": "back"},
    "c": {"env": "test", "tier": ""},
    "d": {"env": "test", "canary": "true"},
}


@pytest.mark.parametrize(
    ("selector", "want"),
    [
        ("env=prod", "ab"),
        ("env==prod", "ab"),
        ("env!=prod", "cd"),
        ("env in (prod, test)", "abcd"),
        ("tier in (front)", "a"),
        ("tier notin (front,back)", "cd"),
        ("tier", "abc"),
        ("!tier", "d"),
        ("tier=", "c"),
        ("env,env!=prod,!canary", "c"),
        ("env in (prod),tier notin (back)", "a"),
    ],
)
async def test_labels(api: Api, selector: str, want: str) -> None:
    await asyncio.gather(
        *(api.create(api.at("secrets"), {**config_map(n, labels), "kind": "Secret"}) for n, labels in LABELS.items())
    )
    found = (await api.get(api.at("secrets"), labelSelector=selector)).body["items"]
    assert "".join(o["metadata"]["name"] for o in found) == want


@pytest.mark.parametrize("selector", ["env in", "env in (a", "=x", "a=b=c=d", "env notin ()x", "-bad-=1", "a=-b-"])
async def test_malformed_label_selector_is_a_bad_request(api: Api, selector: str) -> None:
    assert (await api.get(api.at("secrets"), labelSelector=selector)).code == 400


@pytest.mark.parametrize(
    ("selector", "want"),
    [
        ("metadata.name=b", "b"),
        ("metadata.name!=b", "ac"),
        ("spec.restartPolicy=Never", "c"),
        ("spec.restartPolicy!=Never,metadata.name!=a", "b"),
        ("status.phase=Running", ""),
        ("spec.nodeName=", "abc"),
        ("spec.serviceAccountName=default", "abc"),
    ],
)
async def test_fields_of_pods(api: Api, selector: str, want: str) -> None:
    await api.ready()
    for name in "ab":
        await api.create(api.at("pods"), pod(name))
    await api.create(api.at("pods"), pod("c", restartPolicy="Never"))
    found = (await api.get(api.at("pods"), fieldSelector=selector)).body["items"]
    assert "".join(o["metadata"]["name"] for o in found) == want


@pytest.mark.parametrize(("plural", "field"), [("configmaps", "data.x"), ("pods", "spec.priority"), ("services", "x")])
async def test_field_that_selects_nothing_is_a_bad_request(api: Api, plural: str, field: str) -> None:
    refused = await api.get(api.at(plural), fieldSelector=f"{field}=1")
    assert refused.code == 400
    assert "field label not supported" in refused.body["message"]


async def test_fields_of_custom_kinds_are_those_that_the_definition_names(api: Api) -> None:
    # /docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#crd-selectable-fields
    schema = spec_schema({"color": {"type": "string"}, "size": {"type": "string"}})
    async with widgets(api, schema, selectableFields=[{"jsonPath": ".spec.color"}]) as kind:
        for name, color in (("a", "red"), ("b", "blue")):
            await kind.create({"color": color}, name=name)
        found = (await api.get(kind.path(), fieldSelector="spec.color=blue")).body["items"]
        assert [o["metadata"]["name"] for o in found] == ["b"]
        assert (await api.get(kind.path(), fieldSelector="spec.size=1")).code == 400


async def test_collection_is_deleted_by_both_selectors(api: Api) -> None:
    for name, labels in LABELS.items():
        await api.create(api.at("configmaps"), config_map(name, labels))
    gone = await api.delete(api.at("configmaps"), labelSelector="env=prod", fieldSelector="metadata.name!=a")
    assert gone.code == 200
    left = (await api.get(api.at("configmaps"), labelSelector="env")).body["items"]
    assert [o["metadata"]["name"] for o in left] == ["a", "c", "d"]
