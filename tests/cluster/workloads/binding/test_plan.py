"""Which node a waiting pod gets, and what it is told when it gets none."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.api.core import Node, Pod, Taint, Toleration
from pybrix.cluster.workloads.binding.plan import Bind, Refuse, plan
from pybrix.cluster.workloads.binding.state import observe, pod_requests
from tests.support.workloads import at, make_pod


def make_node(name: str = "n1", *, ready: bool = True, unschedulable: bool = False, **more: Any) -> Node:
    labels = more.pop("labels", {})
    return Node.from_dict(
        {
            "metadata": {"name": name, "uid": f"uid-{name}", "labels": labels},
            "spec": {"unschedulable": unschedulable},
            "status": {
                "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110", **more},
                "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            },
        }
    )


def waiting(name: str = "p", *, age: int = 0, requests: dict[str, str] | None = None, **more: Any) -> Pod:
    containers = [{"name": "main", "resources": {"requests": requests or {}}}]
    return make_pod(name, node="", phase="Pending", created=at(age), containers=containers, **more)


def placed(nodes: list[Node], *pods: Pod) -> dict[str, str]:
    placements = plan(observe(nodes, pods, {}))
    return {p.pod.metadata.name: p.node if isinstance(p, Bind) else p.why for p in placements}


def test_a_pod_goes_to_the_emptiest_node() -> None:
    busy = make_pod("busy", node="n1", containers=[{"name": "c", "resources": {"requests": {"cpu": "3"}}}])
    assert placed([make_node("n1"), make_node("n2")], busy, waiting()) == {"p": "n2"}


def test_pods_without_requests_spread() -> None:
    got = placed([make_node("n1"), make_node("n2")], *[waiting(f"p{i}", age=i) for i in range(6)])
    assert Counter(got.values()) == {"n1": 3, "n2": 3}


def test_the_oldest_pod_gets_the_last_room() -> None:
    young, old = waiting("young", age=9, requests={"cpu": "3"}), waiting("old", age=1, requests={"cpu": "3"})
    assert placed([make_node()], young, old) == {"old": "n1", "young": "0/1 nodes are available: 1 Insufficient cpu."}


def test_every_node_is_counted_with_what_is_wrong() -> None:
    nodes = [
        make_node("n1"),
        make_node("n2", ready=False),
        make_node("n3", unschedulable=True),
        make_node("n4", labels={"gpu": "yes"}, memory="1Gi"),
        make_node("n5", labels={"gpu": "yes"}, cpu="1", memory="1Gi"),
    ]
    pod = waiting(requests={"cpu": "2", "memory": "2Gi"}, node_selector={"gpu": "yes"})
    assert placed(nodes, pod)["p"] == (
        "0/5 nodes are available: 1 Insufficient cpu, 2 Insufficient memory, "
        "1 node(s) didn't match Pod's node affinity/selector, 1 node(s) were not ready, 1 node(s) were unschedulable."
    )


def test_without_nodes() -> None:
    assert placed([], waiting()) == {"p": "no nodes available to schedule pods"}


def test_gated_pod_is_not_placed() -> None:
    # https://kubernetes.io/docs/concepts/scheduling-eviction/pod-scheduling-readiness/
    gated = waiting()
    gated.spec.scheduling_gates = [{"name": "example.com/wait"}]
    assert observe([make_node()], [gated], {}).waiting == ()


def test_the_node_selector_holds() -> None:
    nodes = [make_node("n1"), make_node("n2", labels={"zone": "b"})]
    assert placed(nodes, waiting(node_selector={"zone": "b"})) == {"p": "n2"}


def test_a_resource_that_a_node_does_not_offer_is_missing() -> None:
    gpu: dict[str, Any] = {"nvidia.com/gpu": "1"}
    assert placed([make_node()], waiting(requests=gpu))["p"].endswith("1 Insufficient nvidia.com/gpu.")
    assert placed([make_node(**gpu)], waiting(requests=gpu)) == {"p": "n1"}


def test_finished_pods_free_their_room_and_ending_ones_do_not() -> None:
    requests = [{"name": "c", "resources": {"requests": {"cpu": "4"}}}]
    done = make_pod("done", node="n1", phase="Succeeded", containers=requests)
    ending = make_pod("ending", node="n1", terminating=True, containers=requests)
    assert placed([make_node()], done, waiting(requests={"cpu": "4"})) == {"p": "n1"}
    assert "Insufficient cpu" in placed([make_node()], ending, waiting(requests={"cpu": "4"}))["p"]


def test_a_pod_bound_in_an_earlier_pass_holds_its_room_and_is_not_bound_again() -> None:
    first, second = waiting("first", requests={"cpu": "4"}), waiting("second", age=1, requests={"cpu": "4"})
    (placement,) = plan(observe([make_node()], [first, second], {first.uid: "n1"}))
    assert isinstance(placement, Refuse)
    assert placement.pod is second


def test_requests_of_containers_add_up_and_init_containers_count_by_the_largest() -> None:
    def container(cpu: str, **more: Any) -> dict[str, Any]:
        return {"name": "c", "resources": {"requests": {"cpu": cpu}}, **more}

    pod = Pod.from_dict(
        {
            "spec": {
                "containers": [container("1"), {"name": "d", "resources": {"limits": {"cpu": "500m"}}}],
                "initContainers": [container("3"), container("250m", restartPolicy="Always")],
            }
        }
    )
    assert pod_requests(pod) == {"cpu": 3, "pods": 1}


@pytest.mark.parametrize(
    ("tolerations", "want"),
    [
        pytest.param([], "0/1 nodes are available: 1 node(s) had untolerated taint {gpu: yes}.", id="none"),
        pytest.param([{"key": "gpu", "value": "yes", "effect": "NoSchedule"}], "n1", id="the very taint"),
        pytest.param([{"key": "gpu", "operator": "Exists"}], "n1", id="any value and effect"),
        pytest.param([{"operator": "Exists"}], "n1", id="everything"),
        pytest.param([{"key": "gpu", "value": "no"}], None, id="another value"),
        pytest.param([{"key": "gpu", "operator": "Exists", "effect": "NoExecute"}], None, id="another effect"),
    ],
)
def test_taints_and_tolerations(tolerations: list[dict[str, str]], want: str | None) -> None:
    node = make_node()
    node.spec.taints = [Taint(key="gpu", value="yes", effect="NoSchedule"), Taint(key="x", effect="PreferNoSchedule")]
    pod = waiting()
    pod.spec.tolerations = msgspec.convert(tolerations, list[Toleration])
    got = placed([node], pod)["p"]
    assert got == want if want is not None else got != "n1"


@pytest.mark.parametrize(
    ("expression", "want"),
    [
        pytest.param({"key": "zone", "operator": "In", "values": ["a", "b"]}, "n2", id="in"),
        pytest.param({"key": "zone", "operator": "DoesNotExist"}, "n1", id="does not exist"),
        pytest.param({"key": "gpus", "operator": "Gt", "values": ["3"]}, "n2", id="greater"),
        pytest.param({"key": "gpus", "operator": "Lt", "values": ["4"]}, "n1", id="less"),
        pytest.param({"key": "gpus", "operator": "Is", "values": ["4"]}, None, id="unknown operator"),
    ],
)
def test_required_node_affinity(expression: dict[str, Any], want: str | None) -> None:
    nodes = [make_node("n1", labels={"gpus": "2"}), make_node("n2", labels={"gpus": "4", "zone": "b"})]
    pod = waiting()
    terms = [{"matchExpressions": [expression]}, {}]
    pod.spec.affinity = {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    }
    got = placed(nodes, pod)["p"]
    assert got == want if want is not None else "didn't match" in got


def test_what_cannot_be_understood_is_refused_and_not_passed_over() -> None:
    pod = waiting()
    term = {"topologyKey": "zone", "labelSelector": {"matchExpressions": [{"key": "a", "operator": "Like"}]}}
    pod.spec.affinity = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    assert "cannot be understood" in placed([make_node()], pod)["p"]


def test_a_pod_of_another_scheduler_is_left_to_it() -> None:
    pod = waiting()
    pod.spec.scheduler_name = "volcano"
    assert placed([make_node()], pod) == {}


@given(sizes=st.lists(st.integers(0, 5000), max_size=30), capacity=st.lists(st.integers(0, 8), max_size=5))
def test_no_node_is_ever_given_more_than_it_has(sizes: list[int], capacity: list[int]) -> None:
    nodes = [make_node(f"n{i}", cpu=str(cpu)) for i, cpu in enumerate(capacity)]
    pods = [waiting(f"p{i}", age=i, requests={"cpu": f"{size}m"}) for i, size in enumerate(sizes)]
    used: Counter[str] = Counter()
    placements = plan(observe(nodes, pods, {}))
    assert [p.pod for p in placements] == pods
    for size, placement in zip(sizes, placements, strict=True):
        if isinstance(placement, Bind):
            used[placement.node] += size
    assert all(used[f"n{i}"] <= cpu * 1000 for i, cpu in enumerate(capacity))
    for size, placement in zip(sizes, placements, strict=True):
        if isinstance(placement, Refuse):
            assert all(cpu * 1000 - used[f"n{i}"] < size for i, cpu in enumerate(capacity))
