"""Bodies that mean harm: refused with a sentence, and the server stays up."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pybrix.cluster.apiserver.resources import CRD_RESOURCE
from tests.support.apiserver import RunningApiServer, running_api_server
from tests.support.definitions import API_VERSION, GROUP, definition, spec_schema, widget

WIDGETS = f"/apis/{API_VERSION}/namespaces/default/widgets"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
HEAD = f'"apiVersion": "{API_VERSION}", "kind": "Widget", "metadata": {{"name": "w"}}'
YAML_HEAD = f"apiVersion: {API_VERSION}\nkind: Widget\nmetadata: {{name: w}}\n"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningApiServer]:
    async with running_api_server(tmp_path) as running:
        schema = spec_schema(
            {"open": OPEN, "n": {"type": "integer"}, "tags": {"type": "array", "items": {"type": "string"}}}
        )
        running.server.objects.create(CRD_RESOURCE, definition(schema))
        yield running


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)]
    return "\n".join(lines)


def nested(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


def sent(body: Any) -> io.BytesIO:
    return io.BytesIO(json.dumps(body).encode())


JUNK = json.dumps({f"k{i}": [{"x": i, "y": ["junk"] * 3}] for i in range(20_000)})


@pytest.mark.parametrize(
    ("body", "media", "word"),
    [
        pytest.param(f'{{{HEAD}, "spec": {{"open": {nested(150)}}}}}', "json", "nested deeper than", id="deep"),
        pytest.param(f'{{{HEAD}, "spec": {{"open": {nested(100_000)}}}}}', "json", "", id="very deep"),
        pytest.param("[" * 1_000_000, "json", "", id="a million brackets"),
        pytest.param(YAML_HEAD + "spec: " + "{a: " * 150_000, "yaml", "nested deeper than", id="deep flow YAML"),
        pytest.param(
            YAML_HEAD + "spec:\n  " + "- " * 250_000 + "x", "yaml", "nested deeper than", id="deep block YAML"
        ),
        pytest.param(YAML_HEAD + bomb(9), "yaml", "aliases are not supported", id="YAML bomb"),
        pytest.param(YAML_HEAD + "spec: {n: .inf}", "yaml", "finite", id="infinity"),
        pytest.param(f'{{{HEAD}, "spec": {{"n": {"9" * 400}}}}}', "json", "spec.n", id="huge integer"),
        pytest.param(f'{{{HEAD}, "spec": {{"n": {"9" * 10_000}}}}}', "json", "", id="very huge integer"),
        pytest.param(f'{{{HEAD}, "spec": {{"n": 1e999}}}}', "json", "", id="huge exponent"),
        pytest.param(f'{{{HEAD}, "spec": {{"n": "\\ud800"}}}}', "json", "", id="half a character"),
        pytest.param(f'{{{HEAD}, "spec": {{"tags": {JUNK}}}}}', "json", "spec.tags", id="a megabyte of junk"),
    ],
)
async def test_harmful_body_is_refused(server: RunningApiServer, body: str, media: str, word: str) -> None:
    headers = {"Content-Type": f"application/{media}"}
    async with server.session.post(WIDGETS, data=io.BytesIO(body.encode()), headers=headers) as response:
        status = await response.json()
        assert response.status in (400, 413, 422), status
        assert word in status["message"]
        assert len(status["message"]) < 20_000
    async with server.session.get(WIDGETS) as response:
        assert response.status == 200


async def test_megabyte_of_unknown_fields_gives_a_short_warning(server: RunningApiServer) -> None:
    junk = json.loads(JUNK)
    async with server.session.post(WIDGETS, data=sent(widget(spec={"n": 1, **junk}))) as response:
        assert response.status == 201
        assert len(response.headers.getall("Warning")) <= 52
        assert (await response.json())["spec"] == {"n": 1}
    async with server.session.post(f"{WIDGETS}?fieldValidation=Strict", data=sent(widget("v", junk))) as response:
        assert response.status == 400
        assert len((await response.json())["message"]) < 20_000


@pytest.mark.parametrize("name", ["\r\nSet-Cookie: a", "\0", '"; "', "ä€", "k" * 50_000])
async def test_odd_name_of_an_unknown_field_is_warned_about(server: RunningApiServer, name: str) -> None:
    async with server.session.post(WIDGETS, json=widget(spec={name: 1})) as response:
        assert response.status == 201
        assert response.headers["Warning"].startswith('299 - "unknown field \\"spec')
        assert "Set-Cookie" not in response.headers


async def test_megabyte_in_an_open_field_is_kept(server: RunningApiServer) -> None:
    async with server.session.post(WIDGETS, data=sent(widget(spec={"open": json.loads(JUNK)}))) as response:
        assert response.status == 201


async def test_rule_that_runs_for_ever_ends(server: RunningApiServer) -> None:
    rule = {"rule": "self.all(a, self.all(b, self.all(c, self.all(d, a + b + c + d >= 0))))"}
    numbers = {"type": "array", "items": {"type": "integer"}, "x-kubernetes-validations": [rule]}
    schema = spec_schema({"l": numbers})
    async with server.session.post(DEFINITIONS, json=definition(schema, plural="gadgets", kind="Gadget")) as response:
        assert response.status == 201
    body = {"apiVersion": API_VERSION, "kind": "Gadget", "metadata": {"name": "g"}, "spec": {"l": list(range(1000))}}
    async with server.session.post(f"/apis/{GROUP}/v1/namespaces/default/gadgets", json=body) as response:
        assert response.status == 422
        assert "Iteration budget exceeded" in (await response.json())["message"]
