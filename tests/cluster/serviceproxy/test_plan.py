"""Which addresses are listened on, and where connections go."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pybrix.api.core import EndpointSlice, Service, ServicePort
from pybrix.cluster.serviceproxy.plan import backends, plan
from pybrix.cluster.serviceproxy.table import Address

HTTP = {"name": "http", "port": 80, "protocol": "TCP"}


def service(name: str = "web", *ports: dict[str, Any], address: str = "127.128.0.5", **spec: Any) -> Service:
    metadata = {"name": name, "namespace": "default", "uid": f"uid-{name}"}
    return Service.from_dict({"metadata": metadata, "spec": {"clusterIP": address, "ports": ports or [HTTP], **spec}})


def piece(
    *endpoints: dict[str, Any], of: str = "web", ports: list[dict[str, Any]] | None = None, namespace: str = "default"
) -> EndpointSlice:
    metadata = {"name": f"{of}-x", "namespace": namespace, "labels": {"kubernetes.io/service-name": of}}
    return EndpointSlice.from_dict(
        {
            "metadata": metadata,
            "addressType": "IPv4",
            "endpoints": list(endpoints),
            "ports": ports or [{"name": "http", "port": 8000, "protocol": "TCP"}],
        }
    )


def endpoint(ip: str, **conditions: bool) -> dict[str, Any]:
    return {"addresses": [ip], "conditions": conditions}


def test_each_named_port_goes_to_the_port_of_its_name_on_every_slice() -> None:
    metrics = {"name": "metrics", "port": 9090, "protocol": "TCP"}
    slices = [
        piece(endpoint("127.64.0.1"), ports=[{"name": "http", "port": 1}, {"name": "metrics", "port": 2}]),
        piece(endpoint("127.64.0.2"), ports=[{"name": "http", "port": 3}]),
        piece(endpoint("127.64.0.3"), of="other"),
        piece(endpoint("127.64.0.4"), namespace="elsewhere"),
    ]
    planned = plan([service("web", HTTP, metrics)], slices)
    assert {str(a): [str(b) for b in r.backends] for a, r in planned.routes.items()} == {
        "127.128.0.5:80": ["127.64.0.1:1", "127.64.0.2:3"],
        "127.128.0.5:9090": ["127.64.0.1:2"],
    }


def test_headless_external_and_pending_services_have_no_route() -> None:
    slices = [piece(endpoint("127.64.0.1"))]
    services = [
        service("web", address="None"),
        service("web", address=""),
        service("web", type="ExternalName", externalName="example.com"),
    ]
    assert not plan(services, slices).routes


def test_udp_is_told_and_tcp_beside_it_is_served() -> None:
    udp = {"name": "dns", "port": 53, "protocol": "UDP"}
    planned = plan([service("web", HTTP, udp)], [piece(endpoint("127.64.0.1"))])
    assert [a.port for a in planned.routes] == [80]
    assert [u.why.split(":")[0] for u in planned.unserved] == ["port 53 is UDP"]


def test_a_node_port_is_on_this_machine_and_the_first_service_has_it() -> None:
    port = {**HTTP, "nodePort": 30080}
    services = [
        service("a", port, address="127.128.0.5", type="NodePort"),
        service("b", port, address="127.128.0.6", type="NodePort"),
    ]
    planned = plan(services, [piece(endpoint("127.64.0.1"), of=name) for name in "ab"])
    assert planned.owners[Address("127.0.0.1", 30080)].metadata.name == "a"
    assert [(u.service.metadata.name, u.why) for u in planned.unserved] == [
        ("b", "127.0.0.1:30080 is that of Service default/a")
    ]


def test_a_client_stays_where_it_was_for_as_long_as_the_service_says() -> None:
    config = {"clientIP": {"timeoutSeconds": 60}}
    sticky = service("web", sessionAffinity="ClientIP", sessionAffinityConfig=config)
    (route,) = plan([sticky], [piece(endpoint("127.64.0.1"))]).routes.values()
    assert route.affinity_s == 60


@given(
    endpoints=st.lists(
        st.tuples(st.integers(1, 250), st.sampled_from([None, True, False]), st.booleans(), st.booleans()), max_size=12
    )
)
def test_ready_endpoints_are_used_and_only_without_any_those_that_still_serve_while_they_end(
    endpoints: list[tuple[int, bool | None, bool, bool]],
) -> None:
    listed: list[dict[str, Any]] = []
    ready, serving = set(), set()
    for number, is_ready, is_serving, is_terminating in endpoints:
        ip = f"127.64.0.{number}"
        conditions: dict[str, bool] = {"serving": is_serving, "terminating": is_terminating}
        if is_ready is not None:
            conditions["ready"] = is_ready
        listed.append(endpoint(ip, **conditions))
        if is_ready is not False:
            ready.add(ip)
        elif is_serving and is_terminating:
            serving.add(ip)
    found = {b.ip for b in backends(ServicePort(port=80, name="http"), [piece(*listed)])}
    assert found == (ready or serving)
