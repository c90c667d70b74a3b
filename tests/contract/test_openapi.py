"""OpenAPI documents, as clients use them.

https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-interface-definition
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.contract import Api
from tests.support.customkinds import widgets
from tests.support.definitions import spec_schema


async def document(api: Api, path: str) -> dict[str, Any]:
    index = (await api.get("/openapi/v3")).body["paths"]
    got: dict[str, Any] = (await api.get(index[path]["serverRelativeURL"])).body
    return got


async def test_index_names_a_document_with_its_hash(api: Api) -> None:
    paths = (await api.get("/openapi/v3")).body["paths"]
    assert {"api/v1", "apis/apps/v1", "apis/events.k8s.io/v1"} <= set(paths)
    assert "hash=" in paths["api/v1"]["serverRelativeURL"]


@pytest.mark.parametrize(("path", "plural"), [("api/v1", "configmaps"), ("apis/apps/v1", "deployments")])
async def test_patch_takes_validation_and_dry_run(api: Api, path: str, plural: str) -> None:
    # From this a client learns that the server validates fields.
    paths = (await document(api, path))["paths"]
    operation = paths[f"/{path}/namespaces/{{namespace}}/{plural}/{{name}}"]["patch"]
    assert {"fieldValidation", "dryRun"} <= {p["name"] for p in operation["parameters"]}
    kind = operation["x-kubernetes-group-version-kind"]
    assert kind["version"] == "v1"
    assert {"application/merge-patch+json", "application/apply-patch+yaml"} <= set(operation["requestBody"]["content"])


async def test_references_lead_somewhere(api: Api) -> None:
    built = await document(api, "apis/apps/v1")
    schemas = built["components"]["schemas"]
    pending: list[Any] = [built]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                assert value["$ref"].removeprefix("#/components/schemas/") in schemas
            pending += value.values()
        elif isinstance(value, list):
            pending += value


async def test_custom_kind_is_described_by_its_schema(api: Api) -> None:
    schema = spec_schema({"color": {"type": "string", "description": "what it looks like", "enum": ["red", "blue"]}})
    async with widgets(api, schema) as kind:

        async def is_described() -> bool:
            return f"apis/{kind.group}/v1" in (await api.get("/openapi/v3")).body["paths"]

        await api.until(is_described)
        schemas = (await document(api, f"apis/{kind.group}/v1"))["components"]["schemas"]
        gvk = [{"group": kind.group, "version": "v1", "kind": "Widget"}]
        (found,) = [s for s in schemas.values() if s.get("x-kubernetes-group-version-kind") == gvk]
        color = found["properties"]["spec"]["properties"]["color"]
        assert (color["description"], color["enum"]) == ("what it looks like", ["red", "blue"])


async def test_older_document_has_everything_in_one(api: Api) -> None:
    got = (await api.get("/openapi/v2")).body
    assert got["swagger"] == "2.0"
    assert "/apis/apps/v1/namespaces/{namespace}/deployments/{name}" in got["paths"]
    kinds = {
        (kind["group"], kind["kind"])
        for schema in got["definitions"].values()
        for kind in schema.get("x-kubernetes-group-version-kind", ())
    }
    assert {("", "Pod"), ("apps", "Deployment"), ("rbac.authorization.k8s.io", "Role")} <= kinds
    pod = next(s for n, s in got["definitions"].items() if n.endswith(".PodSpec"))
    assert pod["properties"]["containers"]["items"]["$ref"].startswith("#/definitions/")
