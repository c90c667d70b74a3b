"""The Service and the slices of an adapter: what they say, and that little of them changes."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from pybrix.api.core import EndpointSlice, Service
from pybrix.api.identity import ObjectKey, Uid
from pybrix.api.meta import ObjectMeta
from pybrix.controllers.modeladapter.plan import EndpointFacts
from pybrix.controllers.modeladapter.render import is_label_value, plan_service, plan_slices
from pybrix.controllers.modeladapter.state import Observed, PodFacts, survey
from pybrix.kube.patch import apply_merge_patch
from pybrix.runtime.actions import Action, Create, Delete, Patch
from pybrix.runtime.apply import owned_manifest
from tests.support.adapters import make_adapter

ADAPTER = make_adapter()


def pod(number: int, *, port: int = 8000, families: str = "4", terminating: bool = False) -> PodFacts:
    addresses = {"4": f"10.0.{number // 250}.{number % 250 + 1}", "6": f"fd00::{number + 1:x}"}
    return PodFacts(
        uid=Uid(f"uid-{number}"),
        key=ObjectKey("default", f"pod-{number:04d}"),
        labels={},
        addresses=tuple(addresses[f] for f in families),
        port=port,
        is_ready=True,
        is_terminating=terminating,
        node_name=f"node-{number % 3}",
    )


def carried_out(slices: Iterable[EndpointSlice], actions: Iterable[Action]) -> list[EndpointSlice]:
    """Return the slices after the actions, as a server would have them."""
    now = {piece.metadata.name: piece.to_dict() for piece in slices}
    for action in actions:
        match action:
            case Create():
                manifest = owned_manifest(action.manifest, action.owner)
                name = manifest["metadata"]["name"]
                assert name not in now
                manifest["metadata"] |= {"uid": f"slice-{name}", "resourceVersion": "1"}
                now[name] = manifest
            case Patch():
                now[action.key.name] = apply_merge_patch(now[action.key.name], action.patch)
            case Delete():
                del now[action.key.name]
            case _:
                raise AssertionError(action)
    return [EndpointSlice.from_dict(data) for data in now.values()]


def planned(slices: Iterable[EndpointSlice], pods: Iterable[PodFacts]) -> list[Action]:
    return plan_slices(
        Observed(ADAPTER, slices=tuple(slices)), [EndpointFacts(p) for p in pods], {"node-0": "z0", "node-1": "z1"}
    )


pods = st.lists(
    st.builds(
        pod,
        st.integers(0, 400),
        port=st.sampled_from([8000, 8000, 8000, 9000]),
        families=st.sampled_from(["4", "4", "6", "46"]),
    ),
    max_size=260,
    unique_by=lambda p: p.uid,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(pods, min_size=1, max_size=4))
def test_slices_list_exactly_the_endpoints_whatever_came_before(courses: list[list[PodFacts]]) -> None:
    slices: list[EndpointSlice] = []
    for wanted in courses:
        slices = carried_out(slices, planned(slices, wanted))
        listed = sorted(
            (e.target_ref.uid, e.addresses[0], piece.address_type, piece.ports[0].port)
            for piece in slices
            for e in piece.endpoints
            if e.target_ref is not None
        )
        assert listed == sorted(
            (p.uid, address, "IPv6" if ":" in address else "IPv4", p.port) for p in wanted for address in p.addresses
        )
        assert all(len(piece.endpoints) <= 100 for piece in slices)
        # Nothing is left to do.
        assert planned(slices, wanted) == []
        # An empty slice is there only when it is the only one.
        assert all(piece.endpoints for piece in slices) or len(slices) == 1


@settings(max_examples=40, deadline=None)
@given(pods, st.data())
def test_a_change_of_one_pod_touches_one_slice_of_each_family(wanted: list[PodFacts], data: st.DataObject) -> None:
    slices = carried_out([], planned([], wanted))
    if not wanted:
        return
    gone = data.draw(st.sampled_from(wanted))
    rest = [p for p in wanted if p.uid != gone.uid]
    assert len(planned(slices, rest)) <= len(gone.addresses)


def test_names_and_contents() -> None:
    actions = planned([], [pod(n) for n in range(250)])
    names = [a.manifest["metadata"]["name"] for a in actions if isinstance(a, Create)]
    assert names == ["sql", "sql-2", "sql-3"]
    slices = carried_out([], actions)
    first = slices[0].endpoints[0]
    assert (first.node_name, first.zone) == ("node-0", "z0")
    assert first.target_ref is not None
    assert msgspec.to_builtins(first.target_ref) == {
        "kind": "Pod",
        "namespace": "default",
        "name": "pod-0000",
        "uid": "uid-0",
    }


def test_an_endpoint_on_its_way_out_says_so() -> None:
    facts = EndpointFacts(pod(1, terminating=True), is_ready=False)
    (create,) = plan_slices(Observed(ADAPTER), [facts], {})
    assert isinstance(create, Create)
    (endpoint,) = create.manifest["endpoints"]
    assert endpoint["conditions"] == {"ready": False, "serving": True, "terminating": True}


def test_a_slice_of_a_deleted_adapter_of_the_name_is_replaced() -> None:
    (create,) = planned([], [pod(1)])
    (piece,) = carried_out([], [create])
    other = make_adapter(uid="another")
    actions = plan_slices(Observed(other, slices=(piece,)), [EndpointFacts(pod(1))], {})
    assert [type(a).__name__ for a in actions] == ["Create", "Delete"]
    assert isinstance(actions[0], Create)
    assert actions[0].manifest["metadata"]["name"] == "sql-2"


def test_no_slice_is_made_for_nothing_and_the_last_one_stays() -> None:
    assert planned([], []) == []
    slices = carried_out([], planned([], [pod(n) for n in range(150)]))
    slices = carried_out(slices, planned(slices, []))
    assert [(s.metadata.name, len(s.endpoints)) for s in slices] == [("sql", 0)]


def test_the_service_is_aibrixs() -> None:
    members = {p.uid: p for p in [pod(1)]}
    seen = Observed(ADAPTER, members=members, survey=survey(members.values()))
    (create,) = plan_service(seen, is_wanted=True)
    assert isinstance(create, Create)
    assert create.manifest == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "sql",
            "namespace": "default",
            "labels": {"adapter.model.aibrix.ai/name": "sql", "model.aibrix.ai/name": "llama"},
        },
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "ports": [{"name": "http", "protocol": "TCP", "port": 8000, "targetPort": 8000}],
        },
    }
    service = Service.from_dict(create.manifest)
    service = msgspec.structs.replace(service, metadata=ObjectMeta(**msgspec.structs.asdict(service.metadata)))
    assert plan_service(msgspec_replace(seen, service), is_wanted=True) == []
    assert plan_service(seen, is_wanted=False) == []


def msgspec_replace(seen: Observed, service: Service) -> Observed:
    return Observed(seen.adapter, members=seen.members, survey=seen.survey, service=service)


def test_a_base_model_that_is_no_label_value_is_left_out() -> None:
    seen = Observed(make_adapter(baseModel="meta-llama/Llama-3"))
    (create,) = plan_service(seen, is_wanted=True)
    assert isinstance(create, Create)
    assert create.manifest["metadata"]["labels"] == {"adapter.model.aibrix.ai/name": "sql"}
    assert is_label_value("llama-3.1_8b")
    assert not is_label_value("-x")
    assert not is_label_value("x" * 64)
    assert not is_label_value("")
