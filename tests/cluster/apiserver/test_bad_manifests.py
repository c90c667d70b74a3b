"""Bad input of every sort, of our own kinds: refused with a field path, and the server stays up. Validation agrees."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from pybrix.api.crds import render_crds
from pybrix.api.policies import render_policies
from pybrix.api.scheme import CUSTOM_KINDS
from tests.support.apiserver import RunningApiServer, running_api_server
from tests.support.manifests import DROP, changed, example
from tests.support.validating import validate

pytestmark = pytest.mark.asyncio(loop_scope="module")
JUNK = [{"k": [{"x": i, "y": ["junk"] * 3}]} for i in range(20_000)]
LONG = "n" * 64

# Kind, changes, field path that the refusal names, a word of its sentence.
REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("PodAutoscaler", {"spec.maxReplicas": "many"}, "spec.maxReplicas", "must be of type integer"),
    ("RoleSet", {"spec": ""}, "spec", "must be of type object"),
    ("StormService", {"spec.template": [1]}, "spec.template", "must be of type object"),
    ("ModelAdapter", {"metadata.labels": {"a": 1}}, "metadata.labels.a", "type string"),
    ("KVCachePool", {"spec.replcas": 1}, "spec.replcas", "unknown field"),
    ("RoleSet", {"spec.roles.0.replica": 1}, "spec.roles[0].replica", "unknown field"),
    ("PodAutoscaler", {"spec.minReplicas": 13}, "spec.maxReplicas", "at least minReplicas"),
    ("PodAutoscaler", {"spec.schedules.0.minReplicas": 9}, "spec.schedules", "not be greater than maxReplicas"),
    ("ModelAdapter", {"metadata.name": LONG}, "metadata.name", "63"),
    ("ModelClaim", {"metadata.name": LONG}, "metadata.name", "63"),
    ("KVCachePool", {"metadata.name": LONG[:47]}, "metadata.name", "46"),
    ("KVCache", {"metadata.name": LONG[:51]}, "metadata.name", "50"),
    ("RayClusterFleet", {"metadata.name": LONG}, "metadata.name", "63"),
    ("StormService", {"metadata.name": LONG}, "metadata.name", "63"),
    ("RoleSet", {"metadata.name": LONG}, "metadata.name", "63"),
    ("PodSet", {"metadata.name": LONG}, "metadata.name", "63"),
    ("StormService", {"spec.selector": {"matchLabels": {"app": "nobody"}}}, "spec.selector", "match"),
    ("RayClusterFleet", {"spec.selector": {"matchLabels": {"app": "nobody"}}}, "spec.selector", "match"),
    ("RayClusterReplicaSet", {"spec.selector": {"matchLabels": {"app": "nobody"}}}, "spec.selector", "match"),
    ("ModelAdapter", {"spec.podSelector": DROP}, "spec.podSelector", "Required"),
    ("RoleSet", {"spec.roles": [{"name": f"r{i}"} for i in range(65)]}, "spec.roles", "at most 64 items"),
    (
        "KVCache",
        {"metadata.annotations": {"kvcache.orchestration.aibrix.ai/backend": "floppy"}},
        "annotations",
        "vineyard",
    ),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningApiServer]:
    directory: Path = tmp_path_factory.mktemp("server")
    async with running_api_server(directory) as running:
        for document in render_crds():
            running.server.objects.create("customresourcedefinitions.apiextensions.k8s.io", document)
        for document in render_policies():
            plural = "policies" if document["kind"].endswith("Policy") else "policybindings"
            running.server.objects.create(f"validatingadmission{plural}.admissionregistration.k8s.io", document)
        yield running


def path_of(kind: str) -> str:
    gvk = next(cls.gvk for cls in CUSTOM_KINDS if cls.gvk.kind == kind)
    return f"/apis/{gvk.api_version}/namespaces/default/{gvk.plural}"


async def post(
    server: RunningApiServer, kind: str, body: Any, query: str = "?fieldValidation=Strict&dryRun=All"
) -> Any:
    headers = {"Content-Type": "application/json"}
    sent = io.BytesIO(json.dumps(body).encode())
    async with server.session.post(path_of(kind) + query, data=sent, headers=headers) as response:
        return response.status, await response.json()


@pytest.mark.parametrize(
    ("kind", "changes", "path", "word"), REFUSED, ids=[f"{k} {next(iter(c))}" for k, c, *_ in REFUSED]
)
async def test_refused_with_a_path(
    server: RunningApiServer, kind: str, changes: dict[str, Any], path: str, word: str
) -> None:
    document = changed(example(kind), changes)
    code, status = await post(server, kind, document)
    assert code in (400, 422), status
    assert path in status["message"]
    assert word in status["message"]
    assert len(status["message"]) < 20_000
    found = validate(json.dumps(document))
    assert not found.is_valid
    assert any(path in f.path and word in f.sentence() for f in found.findings), found.findings
    # The server goes on: the example as it was is taken.
    code, status = await post(server, kind, example(kind))
    assert code == 201, status


@pytest.mark.parametrize("kind", ["StormService", "ModelAdapter"])
async def test_megabyte_of_junk_is_refused(server: RunningApiServer, kind: str) -> None:
    document = {**example(kind), "spec": {**example(kind)["spec"], **{f"junk{i}": v for i, v in enumerate(JUNK)}}}
    code, status = await post(server, kind, document)
    assert code == 400
    assert "spec.junk" in status["message"]
    assert len(status["message"]) < 20_000
    found = validate(json.dumps(document))
    assert not found.is_valid
    assert len(found.findings) <= 60


async def test_empty_namespace_is_the_one_of_the_request(server: RunningApiServer) -> None:
    code, made = await post(server, "ModelClaim", changed(example("ModelClaim"), {"metadata.namespace": ""}))
    assert (code, made["metadata"]["namespace"]) == (201, "default")
