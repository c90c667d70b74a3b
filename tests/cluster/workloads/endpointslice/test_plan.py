"""Which EndpointSlices a Service gets, and that as few as possible change."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pybrix.api import names
from pybrix.api.core import EndpointSlice, Pod, Service
from pybrix.cluster.workloads.endpointslice.plan import HEADLESS, MAX_ENDPOINTS, plan
from pybrix.cluster.workloads.endpointslice.state import MANAGER, Observed
from tests.support.workloads import START, World, make_pod, make_service


def endpoint_pod(number: int, *, ready: bool = True, terminating: bool = False, **more: Any) -> Pod:
    ip = f"127.64.{number // 250}.{number % 250 + 1}"
    since = START if ready else None
    return make_pod(f"pod-{number}", ip=ip, ready_since=since, terminating=terminating, **more)


def step(world: World, service: Service, pods: list[Pod]) -> int:
    slices = world.list(EndpointSlice)
    taken = frozenset(s.metadata.name for s in slices)
    return world.apply(plan(Observed(service, tuple(pods), tuple(slices), taken)))


def addresses(world: World) -> list[str]:
    return sorted(e.addresses[0] for s in world.list(EndpointSlice) for e in s.endpoints)


def test_a_slice_of_one_ready_pod() -> None:
    world = World()
    step(world, make_service(), [endpoint_pod(1)])
    (piece,) = world.list(EndpointSlice)
    assert piece.metadata.name.startswith("web-")
    assert len(piece.metadata.name) == len("web-") + 5
    assert piece.metadata.generate_name == "web-"
    assert piece.metadata.labels == {names.SERVICE_NAME: "web", names.MANAGED_BY_ENDPOINTSLICE: MANAGER}
    assert piece.metadata.owner_references == [make_service().owner_reference()]
    assert piece.to_dict()["endpoints"] == [
        {
            "addresses": ["127.64.0.2"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "targetRef": {"kind": "Pod", "namespace": "default", "name": "pod-1", "uid": "uid-default-pod-1"},
            "nodeName": "node-1",
        }
    ]
    assert piece.to_dict()["ports"] == [{"name": "http", "port": 8000, "protocol": "TCP"}]
    assert piece.address_type == "IPv4"


def test_conditions_tell_ready_serving_and_terminating_apart() -> None:
    world = World()
    pods = [
        endpoint_pod(1),
        endpoint_pod(2, ready=False),
        endpoint_pod(3, terminating=True),
        endpoint_pod(4, ready=False, terminating=True),
        endpoint_pod(5, phase="Succeeded"),
        make_pod("no-ip", ip=""),
    ]
    step(world, make_service(), pods)
    (piece,) = world.list(EndpointSlice)
    got = {e.target_ref.name: e.conditions for e in piece.endpoints if e.target_ref is not None}
    assert {name: (c.ready, c.serving, c.terminating) for name, c in got.items()} == {
        "pod-1": (True, True, False),
        "pod-2": (False, False, False),
        "pod-3": (False, True, True),
        "pod-4": (False, False, True),
    }


def test_publish_not_ready_addresses() -> None:
    world = World()
    step(world, make_service(publishNotReadyAddresses=True), [endpoint_pod(1, ready=False)])
    (endpoint,) = world.list(EndpointSlice)[0].endpoints
    assert (endpoint.conditions.ready, endpoint.conditions.serving) == (True, False)


def test_a_named_target_port_is_looked_up_in_each_pod() -> None:
    world = World()

    def naming(number: int, port: int) -> Pod:
        ports = [{"name": "serve", "containerPort": port}]
        return endpoint_pod(number, containers=[{"name": "main", "ports": ports}])

    service = make_service(ports=[{"name": "http", "port": 80, "targetPort": "serve"}])
    step(world, service, [naming(1, 8000), naming(2, 8000), naming(3, 9000)])
    got = sorted((s.ports[0].port, len(s.endpoints)) for s in world.list(EndpointSlice))
    assert got == [(8000, 2), (9000, 1)]


def test_a_target_port_that_no_container_names_is_left_out() -> None:
    world = World()
    ports = [{"name": "a", "port": 80, "targetPort": "absent"}, {"name": "b", "port": 81}]
    step(world, make_service(ports=ports), [endpoint_pod(1)])
    (piece,) = world.list(EndpointSlice)
    assert [(p.name, p.port) for p in piece.ports] == [("b", 81)]


def test_a_headless_service_without_ports() -> None:
    world = World()
    step(world, make_service(ports=[], clusterIP="None"), [endpoint_pod(1)])
    (piece,) = world.list(EndpointSlice)
    assert (piece.ports, len(piece.endpoints)) == ([], 1)
    assert piece.metadata.labels[HEADLESS] == ""


def test_a_service_without_pods_has_one_empty_slice_that_is_then_used() -> None:
    world = World()
    assert step(world, make_service(ports=[]), []) == 1
    assert step(world, make_service(ports=[]), []) == 0
    (placeholder,) = world.list(EndpointSlice)
    assert (placeholder.endpoints, placeholder.ports) == ([], [])
    step(world, make_service(ports=[]), [endpoint_pod(1)])
    assert [s.uid for s in world.list(EndpointSlice)] == [placeholder.uid]


def test_a_service_without_a_selector_is_left_to_whoever_made_it() -> None:
    assert plan(Observed(make_service(selector={}), (endpoint_pod(1),))).actions == ()


def test_a_slice_of_a_deleted_service_of_that_name_is_replaced() -> None:
    world = World()
    step(world, make_service(), [endpoint_pod(1)])
    (before,) = world.list(EndpointSlice)
    service = make_service()
    service.metadata.uid = type(service.uid)("uid-recreated")
    step(world, service, [endpoint_pod(1)])
    (after,) = world.list(EndpointSlice)
    assert after.metadata.name != before.metadata.name
    assert after.metadata.owner_references[0].uid == "uid-recreated"


def test_labels_follow_the_service() -> None:
    world = World()
    service = make_service()
    service.metadata.labels = {"team": "a"}
    step(world, service, [endpoint_pod(1)])
    service.metadata.labels = {"tier": "b"}
    assert step(world, service, [endpoint_pod(1)]) == 1
    (piece,) = world.list(EndpointSlice)
    assert "team" not in piece.metadata.labels
    assert piece.metadata.labels["tier"] == "b"


def test_one_change_among_many_writes_one_slice() -> None:
    world = World()
    pods = [endpoint_pod(i) for i in range(250)]
    step(world, make_service(), pods)
    assert sorted(len(s.endpoints) for s in world.list(EndpointSlice)) == [50, 100, 100]
    pods[7] = endpoint_pod(7, ready=False)
    assert step(world, make_service(), pods) == 1
    assert step(world, make_service(), [*pods, endpoint_pod(250)]) == 1
    assert len(world.list(EndpointSlice)) == 3


def test_a_recreated_pod_of_the_same_name_and_address_is_another_endpoint() -> None:
    world = World()
    step(world, make_service(), [endpoint_pod(1)])
    step(world, make_service(), [endpoint_pod(1, uid="uid-again")])
    (piece,) = world.list(EndpointSlice)
    assert [e.target_ref.uid for e in piece.endpoints if e.target_ref is not None] == ["uid-again"]


@given(rounds=st.lists(st.sets(st.integers(0, 400), max_size=320), min_size=1, max_size=5))
@settings(max_examples=40, deadline=None)
def test_every_pod_is_in_exactly_one_slice_and_a_second_pass_moves_nothing(rounds: list[set[int]]) -> None:
    world = World()
    for numbers in rounds:
        pods = [endpoint_pod(i) for i in sorted(numbers)]
        step(world, make_service(), pods)
        assert addresses(world) == sorted(p.status.pod_ip for p in pods)
        assert all(len(s.endpoints) <= MAX_ENDPOINTS for s in world.list(EndpointSlice))
        assert step(world, make_service(), pods) == 0
        assert len(world.list(EndpointSlice)) >= 1
