"""What the gateway makes of pods."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.api.identity import Uid
from pybrix.gateway.indexes.load import LoadTable
from pybrix.gateway.view.facts import ModelKey, PodFacts, read_pod
from pybrix.gateway.view.snapshot import EMPTY, ClusterView, apply, build_view, forget, podless
from tests.support.gateway import facts, make_pod, view_of

M = ModelKey("default", "m")


def test_a_ready_pod_is_an_endpoint_known_by_uid_and_port() -> None:
    view = view_of(facts("a", uid="u1", ip="127.64.0.9"))
    (endpoint,) = view.models[M].endpoints
    assert endpoint.id == ("u1", 8000)
    assert endpoint.host == "127.64.0.9:8000"
    assert view.by_host == {"127.64.0.9:8000": endpoint}


@pytest.mark.parametrize(
    ("pod", "why"),
    [
        pytest.param({"ready": False}, "not ready", id="its condition is false"),
        pytest.param({"terminating": True}, "terminating", id="it is being deleted, though ready"),
        pytest.param({"ip": ""}, "no IP yet", id="it has no IP"),
        pytest.param({"phase": "Succeeded"}, "finished (Succeeded)", id="it has finished"),
        pytest.param({"phase": "Failed"}, "finished (Failed)", id="it has failed"),
        pytest.param({"labels": {"model.aibrix.ai/port": "http"}}, "not a port", id="its port label is a word"),
        pytest.param({"labels": {"model.aibrix.ai/port": "0"}}, "not a port", id="its port label is zero"),
        pytest.param({"labels": {"model.aibrix.ai/port": "65536"}}, "not a port", id="its port label is too large"),
        pytest.param({"labels": {"model.aibrix.ai/port": "８０"}}, "not a port", id="its port label has other digits"),
        pytest.param(
            {"model": "", "annotations": {"model.aibrix.ai/name": "a\r\nb"}}, "control", id="its name breaks lines"
        ),
        pytest.param(
            {"model": "", "annotations": {"model.aibrix.ai/name": "a" * 600}}, "longer", id="its name is long"
        ),
    ],
)
def test_a_pod_is_known_and_no_endpoint_because(pod: dict[str, Any], why: str) -> None:
    got = read_pod(make_pod("a", **pod))
    assert got is not None
    assert why in got.absent_because
    view = build_view([got])
    assert view.by_host == {}
    assert view.models[got.key].endpoints == ()
    assert why in view.models[got.key].condition


@pytest.mark.parametrize(
    "pod",
    [
        pytest.param({"model": ""}, id="it names no model"),
        pytest.param({"labels": {"ray.io/node-type": "worker"}}, id="it is a Ray worker"),
    ],
)
def test_a_pod_is_not_of_the_gateway_when(pod: dict[str, Any]) -> None:
    assert read_pod(make_pod("a", **pod)) is None


def test_a_name_that_is_no_label_value_comes_from_the_annotation() -> None:
    got = read_pod(make_pod("a", model="", annotations={"model.aibrix.ai/name": "org/Model 7B"}))
    assert got is not None
    assert (got.model, got.absent_because) == ("org/Model 7B", "")


def test_port_comes_from_the_label_and_is_8000_without() -> None:
    assert facts("a").port == 8000
    got = read_pod(make_pod("a", labels={"model.aibrix.ai/port": "9001"}, ip="fd00::1"))
    assert got is not None
    assert got.endpoint.host == "[fd00::1]:9001"


def test_two_pods_of_one_name_in_two_namespaces_are_two_endpoints_of_two_models() -> None:
    view = view_of(facts("a", namespace="one", ip="127.64.0.1"), facts("a", namespace="two", ip="127.64.0.2"))
    assert [e.host for e in view.models[ModelKey("one", "m")].endpoints] == ["127.64.0.1:8000"]
    assert [e.host for e in view.models[ModelKey("two", "m")].endpoints] == ["127.64.0.2:8000"]
    assert view.namespaces == {"m": ("one", "two")}


def test_a_pod_recreated_under_its_name_is_another_endpoint_with_nothing_in_flight() -> None:
    old, new = facts("a", uid="old"), facts("a", uid="new")
    loads = LoadTable()
    before = view_of(old)
    loads.add(before.models[M].endpoints[0].id)
    after = apply(before, {old.uid: None, new.uid: new})
    (endpoint,) = after.models[M].endpoints
    assert endpoint.id == ("new", 8000)
    assert loads.of(endpoint.id).requests == 0
    loads.prune(after.endpoint_ids())
    assert loads.of(old.endpoint.id).requests == 1, "what is in flight on the old pod is still counted"
    loads.remove(old.endpoint.id)
    loads.prune(after.endpoint_ids())
    assert len(loads) == 0


def test_an_update_that_changes_nothing_we_read_gives_the_same_view() -> None:
    view = view_of(facts("a"), facts("b"))
    assert apply(view, {facts("a").uid: facts("a")}) is view
    assert apply(view, {Uid("unknown"): None}) is view


def test_models_that_did_not_change_are_the_same_objects() -> None:
    view = view_of(facts("a"), facts("b", model="other"))
    after = apply(view, {facts("a").uid: facts("a", ready=False)})
    other = ModelKey("default", "other")
    assert after.models[other] is view.models[other]
    assert after.version == view.version + 1


def test_a_model_outlives_its_last_pod_until_it_is_forgotten() -> None:
    view = apply(view_of(facts("a")), {facts("a").uid: None})
    assert view.models[M].pods == ()
    assert podless(view) == {M}
    assert forget(view, [M]).models == {}
    kept = view_of(facts("a"))
    assert forget(kept, [M]) is kept


def test_a_pod_that_changes_its_model_moves() -> None:
    view = apply(view_of(facts("a")), {facts("a").uid: facts("a", model="n")})
    assert view.models[M].endpoints == ()
    assert len(view.models[ModelKey("default", "n")].endpoints) == 1


pod_facts = st.builds(
    lambda number, model, namespace, ready: facts(
        f"p{number}", uid=f"u{number}", model=model, namespace=namespace, ready=ready, ip=f"127.64.0.{number}"
    ),
    st.integers(1, 6),
    st.sampled_from("mn"),
    st.sampled_from(["one", "two"]),
    st.booleans(),
)
changes = st.dictionaries(st.integers(1, 6).map(lambda n: Uid(f"u{n}")), st.none() | pod_facts, max_size=6)


def shape(view: ClusterView) -> object:
    models = {k: (m.endpoints, m.pods) for k, m in view.models.items() if m.pods}
    return models, dict(view.pods), dict(view.by_host)


@given(st.lists(changes, max_size=6))
def test_step_by_step_gives_what_all_at_once_gives(steps: list[dict[Uid, PodFacts | None]]) -> None:
    view, world = EMPTY, dict[Uid, PodFacts]()
    for step in steps:
        settled = {uid: f for f in step.values() if f is not None for uid in [f.uid]}
        gone: dict[Uid, PodFacts | None] = {uid: None for uid, f in step.items() if f is None and uid not in settled}
        for uid in gone:
            world.pop(uid, None)
        world |= settled
        view = apply(view, {**gone, **settled})
    assert shape(view) == shape(build_view(world.values()))
