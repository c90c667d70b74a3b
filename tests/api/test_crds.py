"""The definitions as documents: found by name, structural, described, deterministic."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, get_args

import msgspec
import pytest

from pybrix.api.crds import find_kind, render_crd, render_crds
from pybrix.api.markers import UNSET, CustomResource, Field, doc
from pybrix.api.meta import Wire
from pybrix.api.scheme import CUSTOM_KINDS
from pybrix.api.structural import schema_of
from pybrix.cluster.apiserver.kinds.definitions import check_definition
from pybrix.cluster.apiserver.structural.definition import check_schema

KINDS = [cls.gvk.kind for cls in CUSTOM_KINDS]
DEFINITIONS = render_crds()


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every node of a schema below the root."""
    for name, node in schema.get("properties", {}).items():
        yield f"{path}.{name}", node
        yield from nodes(node, f"{path}.{name}")
    for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if key in schema:
            yield f"{path}{mark}", schema[key]
            yield from nodes(schema[key], f"{path}{mark}")


def schema_in(definition: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


@pytest.mark.parametrize("definition", DEFINITIONS, ids=KINDS)
def test_a_server_takes_the_definition(definition: dict[str, Any]) -> None:
    assert check_definition(definition) == []
    assert check_schema(schema_in(definition), "schema") == []


@pytest.mark.parametrize("definition", DEFINITIONS, ids=KINDS)
def test_every_field_is_typed_and_described(definition: dict[str, Any]) -> None:
    for path, node in nodes(schema_in(definition)):
        assert node.get("type") or node.get("x-kubernetes-int-or-string"), path
        assert not {"$ref", "title", "nullable", "anyOf", "definitions"} & set(node), path
        assert not ("properties" in node and "additionalProperties" in node), path
        # The metadata itself may have no text: an API server describes it.
        if path != ".metadata" and not path.endswith(("[]", "{}")):
            assert node.get("description"), path


@pytest.mark.parametrize("definition", DEFINITIONS, ids=KINDS)
def test_what_rules_look_at_is_bounded(definition: dict[str, Any]) -> None:
    """An unbounded list or text is taken to be as long as a request may be, and its rules to cost as much."""
    for path, node in nodes(schema_in(definition)):
        holds_rules = node.get("x-kubernetes-validations") or any(
            inner.get("x-kubernetes-validations") for _, inner in nodes(node)
        )
        if holds_rules and node["type"] == "array":
            assert "maxItems" in node, path
        if holds_rules and node["type"] == "string":
            assert "maxLength" in node, path


def structs_in(annotation: Any) -> Iterator[type[msgspec.Struct]]:
    """Yield every struct that a type is made of."""
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        yield annotation
        for entry in msgspec.structs.fields(annotation):
            yield from structs_in(entry.type)
    for inner in get_args(annotation):
        yield from structs_in(inner)


@pytest.mark.parametrize("cls", CUSTOM_KINDS, ids=KINDS)
def test_a_default_of_the_schema_is_the_types_own(cls: type[CustomResource]) -> None:
    """Otherwise an object would change its meaning on its way through a server."""
    for struct in structs_in(cls):
        for entry in msgspec.structs.fields(struct):
            for note in (
                note for note in get_args(entry.type) if isinstance(note, Field) and note.default is not UNSET
            ):
                own = entry.default if entry.default_factory is msgspec.NODEFAULT else entry.default_factory()
                assert msgspec.convert(note.default, entry.type) == own, f"{struct.__name__}.{entry.name}"


def test_definitions_are_the_same_every_time() -> None:
    assert json.dumps(DEFINITIONS) == json.dumps(render_crds())
    assert [definition["spec"]["names"]["kind"] for definition in DEFINITIONS] == KINDS


@pytest.mark.parametrize(
    "text", ["KVCachePool", "kvcachepools", "kvp", "kvcachepool", "kvcachepools.kvcache.aibrix.ai"]
)
def test_a_kind_is_found_by_each_of_its_names(text: str) -> None:
    found = find_kind(text)
    assert found is not None
    assert found.gvk.kind == "KVCachePool"
    assert render_crds([text]) == [render_crd(found)]


def test_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown kind 'Pod'; there are PodAutoscaler"):
        render_crds(["Pod"])


def test_a_field_without_a_description_is_no_schema() -> None:
    class Half(Wire):
        named: Annotated[str, doc("A field.")] = ""
        nameless: str = ""

    with pytest.raises(TypeError, match=r"Half\.nameless has no description"):
        schema_of(Half)


def test_a_type_that_json_does_not_have_is_no_schema() -> None:
    with pytest.raises(TypeError, match="has no structural schema"):
        schema_of(Annotated[bytes, doc("Bytes.")])
