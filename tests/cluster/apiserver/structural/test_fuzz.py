"""Whatever comes in, the server answers: with the object, or with a refusal that says what is wrong."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pybrix.api.identity import ObjectKey
from pybrix.base.clock import SystemClock
from pybrix.cluster.apiserver.bootstrap import ensure_namespaces
from pybrix.cluster.apiserver.catalog import Catalog
from pybrix.cluster.apiserver.objects import Objects
from pybrix.cluster.apiserver.options import WriteOptions
from pybrix.cluster.apiserver.policies import BINDINGS, POLICIES
from pybrix.cluster.apiserver.resources import CRD_RESOURCE
from pybrix.cluster.store.store import Store
from pybrix.kube.errors import StatusError
from pybrix.kube.interface import PatchType
from tests.support.definitions import GROUP, definition, spec_schema, widget

WIDGETS = f"widgets.{GROUP}"
KEY = ObjectKey("default", "w")
NUMBER: dict[str, Any] = {"type": "integer"}
TEXT: dict[str, Any] = {"type": "string"}
ITEM = {"type": "object", "required": ["name"], "properties": {"name": TEXT, "n": {**NUMBER, "default": 1}}}
SCHEMA = spec_schema(
    {
        "replicas": {**NUMBER, "minimum": 0, "maximum": 10, "format": "int32", "default": 1},
        "ratio": {"type": "number", "multipleOf": 0.5},
        "size": {**TEXT, "enum": ["small", "large"], "pattern": "^[a-z]+$"},
        "when": {**TEXT, "format": "date-time", "nullable": True},
        "step": {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]},
        "items": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            "items": ITEM,
        },
        "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": TEXT},
        "labels": {"type": "object", "additionalProperties": TEXT, "maxProperties": 4},
        "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "pod": {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True},
    },
    **{
        "x-kubernetes-validations": [
            {
                "rule": "!has(self.items) || self.items.all(x, x.n <= self.replicas)",
                "messageExpression": "string(self.replicas)",
            },
            {"rule": "!has(oldSelf.size) || has(self.size)", "fieldPath": ".size", "reason": "FieldValueForbidden"},
        ]
    },
)
VALID = widget(
    spec={
        "replicas": 3,
        "ratio": 1.5,
        "size": "small",
        "when": "2024-01-01T00:00:00Z",
        "step": "25%",
        "items": [{"name": "a", "n": 1}, {"name": "b", "n": 2}],
        "tags": ["x", "y"],
        "labels": {"a": "b"},
        "open": {"anything": [1, {"goes": None}]},
        "pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}},
    }
)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8"), max_size=8),
    st.sampled_from(["small", "a", "w", "default", "2024-01-01T00:00:00Z"]),
)
names = st.one_of(
    st.sampled_from(["name", "n", "spec", "items", "replicas", "metadata", "kind", "status", "labels", ""]),
    st.text(st.characters(codec="utf-8"), max_size=5),
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4), max_leaves=12
)


@pytest.fixture
def objects(tmp_path: Path) -> Iterator[Objects]:
    store = Store.open(tmp_path / "cluster.db", clock=SystemClock())
    built = Objects(store, Catalog(), clock=SystemClock(), chance=random.Random(1))
    ensure_namespaces(built)
    built.create(CRD_RESOURCE, definition(SCHEMA))
    built.create(POLICIES, _policy())
    yield built
    store.close()


def _policy() -> dict[str, Any]:
    rule = {"apiGroups": [GROUP], "apiVersions": ["*"], "operations": ["*"], "resources": ["*"]}
    return {
        "metadata": {"name": "p"},
        "spec": {
            "matchConstraints": {"resourceRules": [rule]},
            "validations": [{"expression": "object == null || object.metadata.?annotations.x.orValue('') != 'no'"}],
        },
    }


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from places(part, (*path, key))


def mutated(data: Any, choice: random.Random, new: Any) -> Any:
    """Return the object with one value replaced, removed or added to."""
    built = copy.deepcopy(data)
    *outer, last = choice.choice(list(places(built)))
    holder = built
    for key in outer:
        holder = holder[key]
    match choice.randrange(3):
        case 0:
            holder[last] = new
        case 1:
            del holder[last]
        case 2 if isinstance(holder, dict):
            holder[f"{last}x"] = new
        case _:
            holder.append(new)
    return built


def attempt(call: Any) -> Any:
    """Return what a call gives; a refusal is one of the client's mistakes, and says so."""
    try:
        return call()
    except StatusError as err:
        refusal = err
    assert 400 <= refusal.code < 500, refusal
    assert refusal.message
    if refusal.code == 422:
        assert all(c["message"] for c in refusal.details["causes"])
    return None


in_process = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@in_process
@example(seed=4_294_967_295, new=True)
@given(seed=st.integers(0, 2**32), new=values)
def test_any_mutation_of_an_object_is_taken_or_refused(objects: Objects, seed: int, new: Any) -> None:
    choice = random.Random(seed)
    sent = mutated(VALID, choice, new)
    served = objects.served(WIDGETS)
    options = WriteOptions(is_dry_run=True, field_validation=choice.choice(["Strict", "Warn", "Ignore"]))
    attempt(lambda: objects.create_object(served, "default", sent, options))
    if objects.store.get(WIDGETS, KEY) is None:
        objects.create(WIDGETS, {**VALID, "metadata": {"name": "w", "namespace": "default"}})
    for patch_type in (PatchType.MERGE, PatchType.APPLY):
        attempt(lambda kind=patch_type: objects.patch_object(served, KEY, kind, sent, options))
        attempt(lambda kind=patch_type: objects.patch_object(served, KEY, kind, sent, options, "status"))
    # What is stored stays readable, and fits the schema that took it.
    written = attempt(lambda: objects.patch_object(served, KEY, PatchType.MERGE, sent, WriteOptions()))
    if written is not None:
        assert served.custom is not None
        assert served.custom.check(written) == []
        assert objects.get(WIDGETS, KEY) == written


@in_process
@given(value=values)
def test_any_value_as_a_body_is_taken_or_refused(objects: Objects, value: Any) -> None:
    served = objects.served(WIDGETS)
    for sent in (value, {"spec": value}, {"metadata": value}, {"metadata": {"name": "v"}, "spec": {"items": value}}):
        attempt(lambda body=sent: objects.create_object(served, "default", body, WriteOptions(is_dry_run=True)))


@in_process
@given(seed=st.integers(0, 2**32), new=values)
def test_any_mutation_of_a_definition_is_taken_or_refused(objects: Objects, seed: int, new: Any) -> None:
    crd = definition(SCHEMA, plural="gadgets", kind="Gadget")
    sent = mutated(crd, random.Random(seed), new)
    made = attempt(lambda: objects.create(CRD_RESOURCE, sent))
    if made is None:
        return
    resource = made["metadata"]["name"]
    if objects.catalog.by_storage(resource) is not None:
        served = objects.served(resource)
        body = {**VALID, "apiVersion": served.api_version, "kind": served.kind}
        namespace = "default" if served.is_namespaced else ""
        attempt(lambda: objects.create_object(served, namespace, body, WriteOptions()))
    objects.delete(CRD_RESOURCE, ObjectKey("", resource))


@in_process
@given(seed=st.integers(0, 2**32), new=values)
def test_any_mutation_of_a_policy_is_taken_or_refused(objects: Objects, seed: int, new: Any) -> None:
    sent = mutated({**_policy(), "metadata": {"name": "q"}}, random.Random(seed), new)
    bound = {"metadata": {"name": "q"}, "spec": {"policyName": "q", "validationActions": ["Deny"]}}
    if attempt(lambda: objects.create(POLICIES, sent)) is None:
        return
    binding = attempt(lambda: objects.create(BINDINGS, bound))
    body = {**VALID, "metadata": {"name": "other", "namespace": "default"}}
    attempt(lambda: objects.create_object(objects.served(WIDGETS), "default", body, WriteOptions(is_dry_run=True)))
    for resource, made in ((BINDINGS, binding), (POLICIES, {"metadata": {"name": sent["metadata"].get("name", "q")}})):
        if made is not None:
            attempt(lambda r=resource, m=made: objects.delete(r, ObjectKey("", m["metadata"]["name"])))
