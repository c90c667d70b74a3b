"""Sets of fields: the algebra behind server-side apply."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pybrix.cluster.apiserver import fieldsets, managed
from pybrix.cluster.apiserver.resources import TYPES
from pybrix.cluster.apiserver.schema.shape import Field

POD_SPEC = Field("", TYPES["PodSpec"])
NAMES = st.sampled_from(["a", "b", "c"])


def _name(container: Any) -> str:
    return str(container["name"])


SPECS = st.fixed_dictionaries(
    {},
    optional={
        "hostname": NAMES,
        "nodeSelector": st.dictionaries(NAMES, NAMES, min_size=1, max_size=2),
        "containers": st.lists(
            st.fixed_dictionaries(
                {"name": NAMES},
                optional={
                    "image": NAMES,
                    "args": st.lists(NAMES, max_size=2),
                    "env": st.just([{"name": "E", "value": "1"}]),
                },
            ),
            min_size=1,
            max_size=3,
            unique_by=_name,
        ),
    },
)


def fields(spec: dict[str, Any]) -> fieldsets.FieldSet:
    return fieldsets.fields_of(spec, POD_SPEC)


def test_field_set_names_items_by_their_keys() -> None:
    spec = {"containers": [{"name": "a", "ports": [{"containerPort": 80}]}], "hostname": "h"}
    port = 'k:{"containerPort":80,"protocol":"TCP"}'
    assert fields(spec) == {
        "f:containers": {
            'k:{"name":"a"}': {".": {}, "f:name": {}, "f:ports": {port: {".": {}, "f:containerPort": {}}}}
        },
        "f:hostname": {},
    }
    assert list(fieldsets.leaves(fields({"containers": [{"name": "a"}]}))) == ['.containers[name="a"].name']


@given(SPECS, SPECS)
def test_sets_obey_the_algebra(left: dict[str, Any], right: dict[str, Any]) -> None:
    a, b = fields(left), fields(right)
    assert fieldsets.difference(a, a) == {}
    assert fieldsets.intersection(a, a) == a
    assert fieldsets.union(a, b) == fieldsets.union(b, a)
    assert fieldsets.union(fieldsets.difference(a, b), fieldsets.intersection(a, b)) == a
    assert fieldsets.intersection(fieldsets.difference(a, b), b) == {}


@given(SPECS, SPECS)
def test_changed_fields_are_exactly_what_differs(old: dict[str, Any], new: dict[str, Any]) -> None:
    changed, removed = fieldsets.changed_fields(old, new, POD_SPEC)
    assert fieldsets.difference(changed, fields(new)) == {}
    assert fieldsets.intersection(removed, fields(new)) == {}
    if old == new:
        assert (changed, removed) == ({}, {})


def config(spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}


ONE = managed.Manager("one", managed.APPLY, "v1")
TWO = managed.Manager("two", managed.APPLY, "v1")
POD = TYPES["Pod"]


@given(SPECS, SPECS)
def test_applying_twice_changes_nothing_more(live: dict[str, Any], applied: dict[str, Any]) -> None:
    owners = managed.own_update({}, None, config(live), managed.Manager("m", managed.UPDATE, "v1"), POD)
    once = managed.apply(owners, config(live), config(applied), ONE, POD, force=True)
    again = managed.apply(once.owners, once.data, config(applied), ONE, POD, force=False)
    assert (again.data, again.conflicts) == (once.data, ())


@given(SPECS, SPECS, SPECS)
def test_what_only_one_manager_applied_is_gone_when_it_lets_go(
    base: dict[str, Any], mine: dict[str, Any], later: dict[str, Any]
) -> None:
    first = managed.apply({}, None, config(base), TWO, POD, force=False)
    owned = managed.apply(first.owners, first.data, config(mine), ONE, POD, force=True)
    left = managed.apply(owned.owners, owned.data, config(later), ONE, POD, force=True)
    abandoned = fieldsets.difference(fields(mine), fieldsets.union(fields(later), fields(base)))
    assert fieldsets.intersection(fields(left.data.get("spec", {})), abandoned) == {}


def test_malformed_managed_fields_are_read_as_nothing() -> None:
    assert managed.parse_owners("x") == {}
