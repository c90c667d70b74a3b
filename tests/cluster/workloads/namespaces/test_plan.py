"""How a namespace gets empty."""

from __future__ import annotations

from typing import Any

from pybrix.api.identity import ObjectKey, Uid
from pybrix.cluster.workloads.namespaces.plan import Item, Plan, observe, plan, read_item
from tests.support.workloads import START, at


def namespace(*, terminating: bool = True, finalizers: tuple[str, ...] = ("kubernetes",), **status: Any) -> Any:
    metadata = {"name": "team", "uid": "u", **({"deletionTimestamp": "t"} if terminating else {})}
    return {"metadata": metadata, "spec": {"finalizers": list(finalizers)}, "status": status}


def item(name: str, *, terminating: bool = False, finalizers: tuple[str, ...] = ()) -> Item:
    return Item("pods", ObjectKey("team", name), Uid(name), terminating, finalizers)


def test_a_living_namespace_is_left_alone() -> None:
    assert plan(observe(namespace(terminating=False), (item("a"),)), START) == Plan()


def test_everything_in_it_is_deleted_once() -> None:
    got = plan(observe(namespace(), (item("a"), item("b", terminating=True, finalizers=("x/y",)))), START)
    assert [i.key.name for i in got.remove] == ["a"]
    assert not got.is_done
    assert got.conditions is not None
    assert {c.type: (c.status, c.message) for c in got.conditions} == {
        "NamespaceContentRemaining": ("True", "Some resources are remaining: pods has 2 resource instances"),
        "NamespaceFinalizersRemaining": (
            "True",
            "Some content in the namespace has finalizers remaining: x/y in 1 resource instances",
        ),
    }


def test_a_second_look_at_the_same_writes_nothing() -> None:
    items = (item("a", terminating=True),)
    first = plan(observe(namespace(), items), START)
    assert first.conditions is not None
    told = [{"type": c.type, "status": c.status, "reason": c.reason, "message": c.message} for c in first.conditions]
    with_times = [{**c, "lastTransitionTime": "2026-01-01T00:00:00Z"} for c in told]
    assert plan(observe(namespace(conditions=with_times), items), at(60)) == Plan()


def test_an_empty_namespace_may_go() -> None:
    assert plan(observe(namespace(), ()), START) == Plan(is_done=True)


def test_a_namespace_without_our_finalizer_is_somebody_elses_work() -> None:
    assert plan(observe(namespace(finalizers=("other",)), ()), START) == Plan()


def test_reading_an_object() -> None:
    metadata = {"namespace": "team", "name": "a", "uid": "u", "deletionTimestamp": "t", "finalizers": ["f"]}
    assert read_item("pods", {"metadata": metadata}) == Item("pods", ObjectKey("team", "a"), Uid("u"), True, ("f",))
