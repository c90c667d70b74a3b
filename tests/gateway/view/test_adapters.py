"""What the gateway makes of adapters: their slices and ModelAdapters, joined to pods."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.api.identity import Uid
from pybrix.gateway.view.facts import AdapterFacts, ModelKey, PodFacts, SliceFacts, read_pod
from pybrix.gateway.view.snapshot import EMPTY, ClusterView, apply, build_view, forget, podless
from tests.support.gateway import adapter_facts, facts, make_pod, slice_facts, view_of

M, A = ModelKey("default", "m"), ModelKey("default", "lora")


def pods(*names: str, **options: Any) -> list[PodFacts]:
    return [facts(name, uid=f"u-{name}", ip=f"127.64.0.{ord(name[0])}", **options) for name in names]


def names(view: ClusterView, key: ModelKey = A) -> list[str]:
    return [endpoint.pod_name for endpoint in view.models[key].endpoints]


def draining(name: str) -> PodFacts:
    found = read_pod(make_pod(name, uid=f"u-{name}", terminating=True))
    assert found is not None
    return found


def test_an_adapter_is_a_model_on_the_engines_of_its_pods() -> None:
    view = build_view(pods("a", "b"), [slice_facts("lora", "u-a")], [adapter_facts("lora")])
    (endpoint,) = view.models[A].endpoints
    base = next(e for e in view.models[M].endpoints if e.pod_name == "a")
    assert endpoint.id == base.id, "load belongs to the engine"
    assert (endpoint.model, endpoint.adapter, endpoint.base_model, endpoint.host) == ("lora", "lora", "m", base.host)
    assert (base.model, base.adapter) == ("m", "")
    assert view.by_host[base.host] == base
    assert view.namespaces == {"lora": ("default",), "m": ("default",)}
    assert view.models[A].parent == "m"


def test_the_port_is_the_pods() -> None:
    found = read_pod(make_pod("a", uid="u-a", labels={"model.aibrix.ai/port": "9001"}))
    assert found is not None
    assert build_view([found], [slice_facts("lora", "u-a")]).models[A].endpoints[0].host == "127.64.0.1:9001"


def test_several_slices_of_one_adapter_are_one_model() -> None:
    view = build_view(
        pods("a", "b"), [slice_facts("lora", "u-b", uid="s1"), slice_facts("lora", "u-a", "u-b", uid="s2")]
    )
    assert names(view) == ["a", "b"]
    assert names(apply(view, {}, {Uid("s2"): None})) == ["b"]


@pytest.mark.parametrize(
    ("listed", "world", "want"),
    [
        pytest.param(
            slice_facts("lora", "u-a", not_ready=["u-b"]), pods("a", "b"), ["a"], id="the slice says not ready"
        ),
        pytest.param(slice_facts("lora", "u-a", terminating=["u-b"]), pods("a", "b"), ["a"], id="one terminates"),
        pytest.param(slice_facts("lora", terminating=["u-b"]), [draining("b")], ["b"], id="all terminate and serve"),
        pytest.param(slice_facts("lora", "u-b"), [draining("b")], ["b"], id="the slice lags behind the last one"),
        pytest.param(slice_facts("lora", "u-a", "u-b"), [*pods("a"), draining("b")], ["a"], id="the slice lags"),
        pytest.param(slice_facts("lora", not_ready=["u-b"]), [draining("b")], [], id="one that serves no more"),
        pytest.param(slice_facts("lora", "u-a", "u-gone"), pods("a"), ["a"], id="the slice lists a pod that is gone"),
        pytest.param(slice_facts("lora", "u-a"), pods("a", ready=False), [], id="the pod is not ready"),
        pytest.param(slice_facts("lora", addresses=["127.64.0.97"]), pods("a", "b"), ["a"], id="only addresses"),
        pytest.param(slice_facts("lora", addresses=["127.64.0.9"]), pods("a"), [], id="an address of no pod"),
        pytest.param(
            slice_facts("lora", addresses=["127.64.0.97"]), pods("a", namespace="two"), [], id="another namespace's"
        ),
    ],
)
def test_endpoints_are_those_of_ready_pods_that_have_it(
    listed: SliceFacts, world: list[PodFacts], want: list[str]
) -> None:
    assert names(build_view(world, [listed])) == want


def test_an_address_is_the_live_pods_when_a_finished_one_had_it_before() -> None:
    finished = read_pod(make_pod("old", uid="u-1", ip="127.64.0.5", phase="Succeeded"))
    assert finished is not None
    live = facts("new", uid="u-2", ip="127.64.0.5")
    for order in ([finished, live], [live, finished]):
        assert names(build_view(order, [slice_facts("lora", addresses=["127.64.0.5"])])) == ["new"]


def test_a_pod_that_only_takes_adapters_is_an_endpoint_of_them_and_no_model() -> None:
    found = read_pod(make_pod("a", uid="u-a", model="", labels={"adapter.model.aibrix.ai/enabled": "true"}))
    assert found is not None
    view = build_view([found], [slice_facts("lora", "u-a")])
    assert names(view) == ["a"]
    assert set(view.models) == {A}


def test_a_pods_change_reaches_the_adapters_on_it_and_no_other_model() -> None:
    view = build_view(pods("a", "b"), [slice_facts("lora", "u-a"), slice_facts("other", "u-b")])
    after = apply(view, {Uid("u-a"): pods("a", ready=False)[0]})
    assert names(after) == []
    other = ModelKey("default", "other")
    assert after.models[other] is view.models[other]
    assert names(apply(after, {Uid("u-a"): pods("a")[0]})) == ["a"]


def test_without_a_ready_pod_it_is_known_and_says_why() -> None:
    view = build_view([], [], [adapter_facts("lora", ready=False, phase="Failed", message="loading failed: no space")])
    assert names(view) == []
    assert view.models[A].condition == "the adapter is Failed: loading failed: no space"
    assert build_view([], [slice_facts("lora")]).models[A].condition == "no pod that is ready has loaded the adapter"


def test_an_adapter_that_is_deleted_lingers_like_any_model() -> None:
    view = build_view(pods("a"), [slice_facts("lora", "u-a")], [adapter_facts("lora")])
    gone = apply(view, {}, {Uid("slice-default-lora"): None}, {Uid("adapter-default-lora"): None})
    assert podless(gone) == {A}
    assert names(gone) == []
    assert set(forget(gone, [A]).models) == {M}
    assert forget(gone, [A]).at_home.keys() == {"m"}


def test_a_base_model_keeps_its_name_and_the_adapter_waits() -> None:
    view = build_view(pods("a", "b"), [slice_facts("m", "u-a")], [adapter_facts("m")])
    assert names(view, M) == ["a", "b"]
    assert [e.adapter for e in view.models[M].endpoints] == ["", ""]
    assert (view.models[M].is_shadowed, view.models[M].parent) == (True, "")
    left = apply(view, {facts.uid: None for facts in pods("a", "b")})
    assert left.models[M].endpoints == ()
    assert not left.models[M].is_shadowed


def test_equal_names_in_two_namespaces_are_two_models() -> None:
    one, two = facts("a", namespace="one", uid="u-1"), facts("a", namespace="two", uid="u-2", ip="127.64.0.2")
    view = build_view(
        [one, two], [slice_facts("lora", "u-1", namespace="one"), slice_facts("lora", "u-2", namespace="two")]
    )
    assert [e.id.pod_uid for e in view.models[ModelKey("one", "lora")].endpoints] == ["u-1"]
    assert [e.id.pod_uid for e in view.models[ModelKey("two", "lora")].endpoints] == ["u-2"]
    assert view.namespaces["lora"] == ("one", "two")
    assert "lora" not in view.at_home


@pytest.mark.parametrize(
    ("observed_generation", "want"),
    [
        pytest.param(0, ["a"], id="AIBrix's controller: names are all there is"),
        pytest.param(1, [], id="ours: the slices say it, and there is none"),
    ],
)
def test_names_in_the_status_count_only_where_slices_cannot(observed_generation: int, want: list[str]) -> None:
    told = adapter_facts("lora", instances=["a", "gone"], observed_generation=observed_generation)
    assert names(build_view(pods("a", "b"), [], [told])) == want


def test_an_adapter_recreated_under_its_name_keeps_the_new_facts() -> None:
    view = build_view([], [], [adapter_facts("lora", uid="old", ready=False, message="first")])
    new = adapter_facts("lora", uid="new", ready=False, message="second")
    for changes in ({Uid("new"): new, Uid("old"): None}, {Uid("old"): None, Uid("new"): new}):
        assert "second" in apply(view, {}, {}, changes).models[A].condition


worlds_pods = st.builds(
    lambda number, model, ready: facts(
        f"p{number}", uid=f"u{number}", model=model, ready=ready, ip=f"127.64.0.{number}"
    ),
    st.integers(1, 4),
    st.sampled_from(["m", "lora1"]),
    st.booleans(),
)
worlds_slices = st.builds(
    lambda number, adapter, listed, places: slice_facts(
        adapter, *[f"u{n}" for n in listed], uid=f"s{number}", addresses=[f"127.64.0.{n}" for n in places]
    ),
    st.integers(1, 3),
    st.sampled_from(["lora1", "lora2"]),
    st.lists(st.integers(1, 5), max_size=3, unique=True),
    st.lists(st.integers(1, 5), max_size=2, unique=True),
)
worlds_adapters = st.builds(
    lambda number, ready, of_aibrix: adapter_facts(
        f"lora{number}", uid=f"a{number}", ready=ready, instances=["p1"], observed_generation=0 if of_aibrix else 1
    ),
    st.integers(1, 2),
    st.booleans(),
    st.booleans(),
)
steps = st.lists(
    st.tuples(
        st.lists(worlds_pods, max_size=2),
        st.lists(worlds_slices, max_size=2),
        st.lists(worlds_adapters, max_size=1),
        st.sets(st.sampled_from(["u1", "u2", "u3", "u4", "s1", "s2", "s3", "a1", "a2"]), max_size=3),
    ),
    max_size=6,
)


@given(steps)
def test_step_by_step_gives_what_all_at_once_gives(
    history: list[tuple[list[PodFacts], list[SliceFacts], list[AdapterFacts], set[str]]],
) -> None:
    view = EMPTY
    world_pods: dict[Uid, PodFacts] = {}
    world_slices: dict[Uid, SliceFacts] = {}
    world_adapters: dict[Uid, AdapterFacts] = {}
    for some_pods, some_slices, some_adapters, gone in history:
        before = set(world_pods), set(world_slices), set(world_adapters)
        for known in (world_pods, world_slices, world_adapters):
            for uid in gone & set(known):
                del known[Uid(uid)]
        world_pods |= {each.uid: each for each in some_pods}
        world_slices |= {each.uid: each for each in some_slices}
        world_adapters |= {each.uid: each for each in some_adapters}
        view = apply(
            view,
            {uid: world_pods.get(uid) for uid in before[0] | set(world_pods)},
            {uid: world_slices.get(uid) for uid in before[1] | set(world_slices)},
            {uid: world_adapters.get(uid) for uid in before[2] | set(world_adapters)},
        )
    whole = build_view(world_pods.values(), world_slices.values(), world_adapters.values())
    view = forget(view, podless(view))
    assert dict(view.models) == dict(whole.models)
    assert (view.namespaces, view.at_home, view.by_host) == (whole.namespaces, whole.at_home, whole.by_host)
    assert {k: set(v) for k, v in view.joins.pods.items()} == {k: set(v) for k, v in whole.joins.pods.items()}
    assert {k: set(v) for k, v in view.joins.adapters.items()} == {k: set(v) for k, v in whole.joins.adapters.items()}


def test_a_view_without_adapters_has_none() -> None:
    assert view_of(*pods("a")).joins.adapters == {}
