"""Pods that want to be near others, far from them, or spread."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pybrix.api.core import Node, Pod
from pybrix.api.identity import ObjectKey
from pybrix.cluster.workloads.binding.plan import Bind, plan
from pybrix.cluster.workloads.binding.state import observe
from tests.cluster.workloads.binding.test_plan import make_node, placed, waiting
from tests.support.workloads import make_pod

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def zone(name: str, place: str, **more: Any) -> Node:
    return make_node(name, labels={"zone": place, "kubernetes.io/hostname": name}, **more)


def term(app: str, topology: str = "zone", **more: Any) -> dict[str, Any]:
    return {"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": topology, **more}


def wanting(name: str, affinity: dict[str, Any], app: str = "web", age: int = 0) -> Pod:
    pod = waiting(name, labels={"app": app}, age=age)
    pod.spec.affinity = affinity
    return pod


def spread(name: str, age: int = 0, skew: int = 1, hard: bool = True, topology: str = "zone", **more: Any) -> Pod:
    pod = waiting(name, labels={"app": "web"}, age=age)
    constraint = {
        "maxSkew": skew,
        "topologyKey": topology,
        "whenUnsatisfiable": "DoNotSchedule" if hard else "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"app": "web"}},
        **more,
    }
    pod.spec.topology_spread_constraints = [constraint]
    return pod


def running(name: str, node: str, app: str = "db", **more: Any) -> Pod:
    return make_pod(name, node=node, labels={"app": app}, **more)


def busy(node: str) -> Pod:
    return make_pod("busy", node=node, containers=[{"name": "c", "resources": {"requests": {"cpu": "3"}}}])


def test_a_pod_goes_into_the_place_of_the_pods_it_needs() -> None:
    nodes = [zone("a1", "a"), zone("b1", "b"), zone("b2", "b")]
    near = wanting("p", {"podAffinity": {REQUIRED: [term("db")]}})
    assert placed(nodes, running("db", "b1"), near)["p"] in ("b1", "b2")
    assert placed(nodes, near)["p"] == "0/3 nodes are available: 3 node(s) didn't match pod affinity rules."


def test_the_first_pod_of_a_group_that_wants_to_be_together_may_go_anywhere_and_the_others_follow() -> None:
    nodes = [zone("a1", "a"), zone("b1", "b"), make_node("c1")]
    together = {"podAffinity": {REQUIRED: [term("web")]}}
    got = placed(nodes, *(wanting(f"p{i}", together, age=i) for i in range(4)))
    assert len({node[0] for node in got.values()}) == 1
    assert "c1" not in got.values()


def test_a_pod_stays_away_from_what_it_avoids_and_from_what_avoids_it() -> None:
    nodes = [zone("a1", "a"), zone("b1", "b")]
    far = {"podAntiAffinity": {REQUIRED: [term("db")]}}
    assert placed(nodes, running("db", "a1"), wanting("p", far))["p"] == "b1"
    both = [running("db", "a1"), running("db2", "b1")]
    why = placed(nodes, *both, wanting("p", far))["p"]
    assert why == "0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules."
    averse = [running("loner", "a1"), running("loner2", "b1")]
    for pod in averse:
        pod.spec.affinity = {"podAntiAffinity": {REQUIRED: [term("web")]}}
    why = placed(nodes, *averse, waiting(labels={"app": "web"}))["p"]
    assert why == "0/2 nodes are available: 2 node(s) didn't satisfy existing pods anti-affinity rules."


def test_pods_of_one_pass_count_for_each_other() -> None:
    nodes = [zone(f"n{i}", "a") for i in range(3)]
    apart = {"podAntiAffinity": {REQUIRED: [term("web", "kubernetes.io/hostname")]}}
    got = placed(nodes, *(wanting(f"p{i}", apart, age=i) for i in range(4)))
    assert sorted(list(got.values())[:3]) == ["n0", "n1", "n2"]
    assert "anti-affinity" in got["p3"]


def test_namespaces_are_the_pods_own_those_that_are_named_or_those_that_a_selector_finds() -> None:
    nodes = [zone("a1", "a"), zone("b1", "b")]
    elsewhere = running("db", "a1", namespace="other")
    cases: list[tuple[dict[str, Any], bool]] = [
        ({}, False),
        ({"namespaces": ["other"]}, True),
        ({"namespaceSelector": {"matchLabels": {"team": "x"}}}, True),
        ({"namespaceSelector": {"matchLabels": {"team": "y"}}}, False),
        ({"namespaceSelector": {}}, True),
    ]
    for more, is_found in cases:
        pod = wanting("p", {"podAntiAffinity": {REQUIRED: [term("db", **more)]}})
        seen = observe(nodes, [elsewhere, busy("b1"), pod], {}, namespaces={"other": {"team": "x"}})
        (placement,) = plan(seen)
        assert isinstance(placement, Bind)
        assert placement.node == ("b1" if is_found else "a1"), more


def test_preferences_decide_where_rules_do_not() -> None:
    nodes = [zone("a1", "a"), zone("b1", "b")]
    near = {"podAffinity": {PREFERRED: [{"weight": 50, "podAffinityTerm": term("db")}]}}
    assert placed(nodes, busy("b1"), running("db", "b1"), wanting("p", near))["p"] == "b1"
    far = {"podAntiAffinity": {PREFERRED: [{"weight": 50, "podAffinityTerm": term("db")}]}}
    assert placed(nodes, running("db", "a1"), wanting("p", far))["p"] == "b1"
    label = {"key": "zone", "operator": "In", "values": ["b"]}
    at_b = {"nodeAffinity": {PREFERRED: [{"weight": 1, "preference": {"matchExpressions": [label]}}]}}
    assert placed(nodes, busy("b1"), wanting("p", at_b))["p"] == "b1"


def test_a_soft_taint_is_the_last_choice_and_no_obstacle() -> None:
    plain = zone("a1", "a").to_dict()
    tainted = Node.from_dict({**plain, "spec": {"taints": [{"key": "slow", "effect": "PreferNoSchedule"}]}})
    assert placed([tainted, zone("b1", "b")], busy("b1"), waiting())["p"] == "b1"
    assert placed([tainted], waiting())["p"] == "a1"


@given(
    zones=st.lists(st.integers(0, 3), min_size=1, max_size=6),
    pods=st.integers(1, 12),
    skew=st.integers(1, 3),
    unlabelled=st.integers(0, 2),
)
def test_no_place_ever_has_more_than_the_skew_above_the_emptiest(
    zones: list[int], pods: int, skew: int, unlabelled: int
) -> None:
    nodes = [zone(f"n{i}", f"z{z}") for i, z in enumerate(zones)] + [make_node(f"u{i}") for i in range(unlabelled)]
    got = placed(nodes, *(spread(f"p{i}", age=i, skew=skew) for i in range(pods)))
    place_of = {f"n{i}": f"z{z}" for i, z in enumerate(zones)}
    count = Counter(dict.fromkeys(place_of.values(), 0))
    for node in got.values():
        count[place_of[node]] += 1
        assert max(count.values()) - min(count.values()) <= skew
    assert sum(count.values()) == pods


def test_spread_refuses_with_its_reason() -> None:
    nodes = [zone("a1", "a"), zone("b1", "b", cpu="0"), make_node("u")]
    pod = spread("p")
    pod.spec.containers = waiting(requests={"cpu": "1"}).spec.containers
    assert placed(nodes, running("w", "a1", app="web"), pod)["p"] == (
        "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match pod topology spread constraints, "
        "1 node(s) didn't match pod topology spread constraints (missing required label)."
    )


def test_too_few_places_count_the_emptiest_as_empty() -> None:
    there = running("w", "a1", app="web")
    assert placed([zone("a1", "a")], there, spread("p"))["p"] == "a1"
    assert "spread" in placed([zone("a1", "a")], there, spread("p", minDomains=2))["p"]


def test_places_that_the_pod_cannot_have_do_not_hold_it_up() -> None:
    nodes = [zone("a1", "a"), zone("b1", "b")]
    pod = spread("p")
    pod.spec.node_selector = {"zone": "a"}
    assert placed(nodes, running("w", "a1", app="web"), pod)["p"] == "a1"
    ignoring = spread("p", nodeAffinityPolicy="Ignore")
    ignoring.spec.node_selector = {"zone": "a"}
    assert "spread" in placed(nodes, running("w", "a1", app="web"), ignoring)["p"]


def test_a_soft_spread_prefers_the_emptier_place() -> None:
    nodes = [zone("a1", "a"), zone("b1", "b"), zone("b2", "b")]
    there = [running("w1", "b1", app="web"), running("w2", "b2", app="web")]
    assert placed(nodes, *there, busy("a1"), spread("p", hard=False))["p"] == "a1"


def test_a_pod_waits_for_its_claims() -> None:
    plain = waiting().to_dict()
    volumes = [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]
    pod = Pod.from_dict({**plain, "spec": {**plain["spec"], "volumes": volumes}})
    (refused,) = plan(observe([make_node()], [pod], {}, claims=frozenset()))
    assert getattr(refused, "why", "") == '0/1 nodes are available: persistentvolumeclaim "data" not found.'
    (bound,) = plan(observe([make_node()], [pod], {}, claims=frozenset({ObjectKey("default", "data")})))
    assert isinstance(bound, Bind)
