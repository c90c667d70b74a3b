"""What holds for any object of our kinds, and for any change of a valid manifest."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pybrix.api.markers import CustomResource
from pybrix.api.scheme import CUSTOM_KINDS, decode
from pybrix.cluster.apiserver.structural.paths import item, join
from tests.support.manifests import admit, custom_schema, example
from tests.support.structs import JSON, of_struct

KINDS = [cls.gvk.kind for cls in CUSTOM_KINDS]
SLOW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("cls", CUSTOM_KINDS, ids=KINDS)
def test_any_object_round_trips_through_json(cls: type[CustomResource]) -> None:
    @SLOW
    @given(of_struct(cls))
    def round_trips(built: CustomResource) -> None:
        text = json.dumps(built.to_dict())
        assert decode(json.loads(text)) == built

    round_trips()


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value below the root."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def printed(value: Any, path: str = "") -> Iterator[str]:
    """Yield the path of every value as errors print it."""
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from printed(inner, join(path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from printed(inner, item(path, index))


def exists(document: Any, path: str) -> bool:
    """Say whether a field of an error is in the manifest; a missing one counts where its parent is there."""
    known = set(printed(document))
    return path in known or path.rpartition(".")[0] in known


@st.composite
def mutated(draw: st.DrawFn, kind: str) -> dict[str, Any]:
    """Return the example with one value taken away, replaced, or with an unknown field beside it."""
    document = example(kind)
    where = draw(st.sampled_from([path for path in places(document) if path[0] in ("metadata", "spec")]))
    parent: Any = document
    for key in where[:-1]:
        parent = parent[key]
    match draw(st.sampled_from(["drop", "replace", "swap", "add"])):
        case "drop":
            del parent[where[-1]]
        case "replace":
            parent[where[-1]] = draw(JSON)
        case "swap":
            others = [path for path in places(document) if path[0] == "spec"]
            value: Any = document
            for key in draw(st.sampled_from(others or [("kind",)])):
                value = value[key]
            parent[where[-1]] = copy.deepcopy(value)
        case _ if isinstance(parent, dict) and where[0] == "spec":
            parent["unheardOf"] = draw(JSON)
    return document


@pytest.mark.parametrize("kind", KINDS)
def test_any_change_is_accepted_or_refused_at_a_path_that_exists(kind: str) -> None:
    @SLOW
    @given(mutated(kind))
    def holds(document: dict[str, Any]) -> None:
        if not isinstance(document.get("metadata"), dict) or not isinstance(document["metadata"].get("name"), str):
            return  # metadata is the server's own to check
        causes = admit(document)
        for cause in causes:
            assert cause.message
            assert exists(document, cause.field), (cause, document)
        if not causes:
            stored = custom_schema(kind).defaulted(document)
            stored["metadata"] = {"name": document["metadata"]["name"]}
            typed = decode(stored)
            written = typed.to_dict()
            del written["status"]  # a server ignores it on creation
            assert admit(written) == []
            assert decode(custom_schema(kind).defaulted(written)) == typed

    holds()
