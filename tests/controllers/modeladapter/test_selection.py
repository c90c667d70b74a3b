"""Which adapters select which pods, change by change, against looking at everything."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pybrix.api.identity import Uid
from pybrix.api.model.v1alpha1.modeladapter import ModelAdapter
from pybrix.api.selectors import compile_label_selector
from pybrix.controllers.modeladapter.selection import Selection
from pybrix.controllers.modeladapter.state import PodFacts, rank_generations, read_pod
from tests.support.adapters import make_adapter, make_pod

labels = st.dictionaries(st.sampled_from(["app", "tier", "x"]), st.sampled_from(["a", "b"]), max_size=3)
expressions = st.lists(
    st.sampled_from(
        [
            {"key": "app", "operator": "In", "values": ["a"]},
            {"key": "app", "operator": "In", "values": ["a", "b"]},
            {"key": "tier", "operator": "NotIn", "values": ["b"]},
            {"key": "x", "operator": "Exists"},
            {"key": "x", "operator": "DoesNotExist"},
        ]
    ),
    max_size=2,
)
namespaces = st.sampled_from(["one", "two"])


class SelectionMachine(RuleBasedStateMachine):
    """Pods and adapters come, change and go in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.selection = Selection()
        self.pods: dict[Uid, PodFacts] = {}
        self.adapters: dict[str, ModelAdapter] = {}

    @rule(number=st.integers(0, 6), namespace=namespaces, chosen=labels, ready=st.booleans())
    def put_pod(self, number: int, namespace: str, chosen: dict[str, str], ready: bool) -> None:
        uid = Uid(f"{namespace}-{number}")
        pod = read_pod(make_pod(f"pod-{number}", uid=uid, namespace=namespace, labels=chosen, ready=ready))
        self.pods[uid] = pod
        self.selection.put_pod(pod)

    @rule(number=st.integers(0, 6), namespace=namespaces)
    def drop_pod(self, number: int, namespace: str) -> None:
        uid = Uid(f"{namespace}-{number}")
        self.pods.pop(uid, None)
        self.selection.drop_pod(uid)

    @rule(
        number=st.integers(0, 4),
        namespace=namespaces,
        chosen=labels,
        more=expressions,
        replicas=st.none() | st.integers(1, 3),
    )
    def put_adapter(
        self, number: int, namespace: str, chosen: dict[str, str], more: list[dict[str, Any]], replicas: int | None
    ) -> None:
        selector = {"matchLabels": chosen, "matchExpressions": more}
        adapter = make_adapter(f"x{number}", namespace=namespace, podSelector=selector, replicas=replicas)
        self.adapters[str(adapter.key)] = adapter
        self.selection.put_adapter(adapter)

    @rule(number=st.integers(0, 4), namespace=namespaces)
    def drop_adapter(self, number: int, namespace: str) -> None:
        key = make_adapter(f"x{number}", namespace=namespace).key
        self.adapters.pop(str(key), None)
        self.selection.drop_adapter(key)

    @invariant()
    def agrees_with_looking_at_everything(self) -> None:
        for adapter in self.adapters.values():
            wanted: set[Uid] = set()
            spec = adapter.spec.pod_selector
            if spec.match_labels or spec.match_expressions:
                selector = compile_label_selector(spec)
                assert selector is not None
                wanted = {
                    uid
                    for uid, pod in self.pods.items()
                    if pod.key.namespace == adapter.metadata.namespace and selector.matches(pod.labels)
                }
            group = self.selection.group_of(adapter.key)
            assert set(group.members) == wanted
            assert all(group.members[uid] == self.pods[uid] for uid in wanted)
            assert group.survey.num_ready == sum(self.pods[uid].is_ready for uid in wanted)
            if wanted:
                assert (adapter.key in group.everywhere) == (adapter.spec.replicas is None)
                assert all(group in self.selection.groups_of(self.pods[uid]) for uid in wanted)


TestSelection = SelectionMachine.TestCase
TestSelection.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_a_thousand_adapters_with_one_selector_are_one_group() -> None:
    selection = Selection()
    for number in range(1000):
        selection.put_adapter(make_adapter(f"x{number}"))
    pod = read_pod(make_pod())
    (group,) = selection.put_pod(pod)
    assert len(group.adapters) == 1000


def test_generations_are_ranked_within_their_workload() -> None:
    def pod(name: str, owner: str, created_at: str, workload: str = "llama") -> PodFacts:
        facts = read_pod(make_pod(name, owner=owner, created_at=created_at))
        return PodFacts(
            uid=facts.uid,
            key=facts.key,
            labels={},
            lineage=workload,
            generation=facts.generation,
            created_at=facts.created_at,
        )

    pods = [
        pod("old", "v1", "2026-01-01T00:00:00Z"),
        pod("new", "v2", "2026-01-02T00:00:00Z"),
        # The old ReplicaSet replaces one of its pods in the middle of the rollout.
        pod("replaced", "v1", "2026-01-03T00:00:00Z"),
        pod("other", "w1", "2025-01-01T00:00:00Z", workload="mistral"),
    ]
    ranks = {facts.key.name: rank for facts in pods for uid, rank in rank_generations(pods).items() if uid == facts.uid}
    assert ranks == {"old": 1, "new": 0, "replaced": 1, "other": 0}


def test_what_is_read_of_a_pod() -> None:
    facts = read_pod(
        make_pod(
            owner="abc12",
            sidecar=True,
            gate=True,
            args=("-c", "vllm serve m --max-loras 4 --max-cpu-loras=16"),
            labels={"model.aibrix.ai/port": "9000", "model.aibrix.ai/engine": "sglang", "app": "x"},
        )
    )
    assert (facts.port, facts.metric_port, facts.engine, facts.protocol) == (9000, 9000, "sglang", "sidecar")
    assert facts.target("k").url == "http://10.0.0.1:8080"
    assert (facts.lineage, facts.generation) == ("ReplicaSet/llama", "abc12")
    assert facts.capacity == 16
    assert facts.has_gate
    assert read_pod(make_pod(args=("--max-loras", "x"))).capacity is None
    assert read_pod(make_pod(ip="fd00::1")).target("").url == "http://[fd00::1]:8000"
