"""What holds for every strategy that there is, whatever happens: two namespaces with the same names, pods that come and
go, retries, failures, requests whose end is never heard of.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybrix.gateway.framework.outcome import AccessRecord
from pybrix.gateway.framework.refusal import Reason, Refusal
from pybrix.gateway.framework.signals import EngineMetrics
from pybrix.gateway.framework.types import Decision, Question
from pybrix.gateway.scheduling.registry import Indexes, build_strategies, strategy_names
from pybrix.gateway.view.facts import ModelKey, PodFacts, read_pod
from tests.support.gateway import World, ask, make_pod, view_of

NAMESPACES = ("here", "there")
TEXTS = [letter * 4000 for letter in "abc"] + ["a" * 4000 + "b" * 2000, "short"]
CONFIG = '{"profiles": {"default": {"routingConfig": {"slos": {"ttft": 0.1, "tpot": 0.05}}}}}'
COMBINATIONS = ("prefix-affinity:2,least-request", "prefix-cache,vtc-basic,session-affinity", "random,lora-affinity:0")
ALL = (*strategy_names(), *COMBINATIONS)
# Draw for themselves: their scores are not the same twice.
DRAWING = {"power-of-two"}


class Steady:
    """Chance that never surprises: ties keep the order of the pods."""

    def random(self) -> float:
        return 0.0


def pods_of(namespace: str, names: str) -> list[PodFacts]:
    """Return ready pods of model `m`, with addresses and UIDs of their own."""
    found = []
    for name in names:
        pod = make_pod(
            name,
            namespace=namespace,
            ip=f"127.64.{NAMESPACES.index(namespace)}.{ord(name)}",
            labels={"odd": str(ord(name) % 2)},
            annotations={"model.aibrix.ai/config": CONFIG},
        )
        facts = read_pod(pod)
        assert facts is not None
        found.append(facts)
    return found


@dataclass
class Life:
    """A gateway to which things happen."""

    strategy: str
    chance: Any = None
    indexes: Indexes = field(default_factory=Indexes)
    world: World = field(init=False)
    pods: dict[str, str] = field(default_factory=lambda: dict.fromkeys(NAMESPACES, "abc"))
    open: list[Decision] = field(default_factory=list)

    def __post_init__(self) -> None:
        strategies = build_strategies(self.chance or random.Random(1), self.indexes)
        self.world = World(view_of(), strategy=self.strategy, strategies=list(strategies.values()), chance=self.chance)
        self._show()

    def _show(self) -> None:
        world = self.world
        world.view = view_of(*(pod for namespace in NAMESPACES for pod in pods_of(namespace, self.pods[namespace])))
        live = world.view.endpoint_ids()
        world.loads.prune(live)
        for index in self.indexes.by_endpoint:
            index.retain(live)

    def do(self, event: Sequence[Any]) -> Decision | Refusal | None:
        kind, namespace, number = event
        if kind == "pods":
            self.pods[namespace] = "abcd"[: number % 5]
            self._show()
        elif kind == "wait":
            self.world.clock.seconds += number
            self.world.director.expire()
            for index in self.indexes.by_endpoint:
                index.collect()
        elif kind == "metrics":
            for pod in pods_of(namespace, self.pods[namespace]):
                metrics = EngineMetrics(
                    self.world.clock.seconds,
                    running=number,
                    kv_cache_ratio=number / 100,
                    kv_capacity_tokens=1 + 500 * number,
                    running_loras=frozenset("xyz"[: number % 4]),
                )
                self.world.metrics.put(pod.endpoint.id, metrics)
        elif kind == "end" and self.open:
            self.end(self.open.pop(number % len(self.open)), number)
        elif kind == "ask":
            return self.ask(namespace, number)
        return None

    def question(self, namespace: str, number: int) -> Question:
        content = TEXTS[number % len(TEXTS)]
        question = ask(
            namespace=namespace, user=f"u{number % 3}" if number % 4 else "",
            stream=number % 2 == 0, messages=[{"role": "user", "content": content}],
        )  # fmt: skip
        question.session_key = f"s{number % 7}" if number % 3 else ""
        question.external_filter = ("", "odd=1", "odd=7")[number % 11 % 3] if number % 5 == 0 else ""
        return question

    def ask(self, namespace: str, number: int) -> Decision | Refusal:
        answer = self.world.director.decide(self.question(namespace, number))
        if isinstance(answer, Decision):
            self.open.append(answer)
        return answer

    def end(self, decision: Decision, number: int) -> None:
        """Let a request end: well, after a retry on the last of its endpoints, with an error, or without an answer."""
        upstream, status, attempts = [
            (decision.endpoints[0].host, 200, 1),
            (decision.endpoints[-1].host, 200, 2),
            (decision.endpoints[0].host, 500, 1),
            ("", 0, 1),
        ][number % 4]
        record = AccessRecord(
            decision.reservation, False, upstream, status, "", float(1 + number % 50), 200.0, 90, 10, 20, attempts, "id"
        )
        self.world.director.account(record)

    def scores(self, namespace: str) -> dict[str, float] | Reason:
        """Return how endpoints look to some more requests there."""
        found = self.world.director.explain(self.question(namespace, 4))
        if isinstance(found, Refusal):
            return found.reason
        return {each.endpoint.id.pod_uid: each.score for each in found.ranking}


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from(NAMESPACES), st.integers(0, 500)),
        st.tuples(st.just("ask"), st.sampled_from(NAMESPACES), st.integers(0, 500)),
        st.tuples(st.just("end"), st.just("here"), st.integers(0, 500)),
        st.tuples(st.just("wait"), st.just("here"), st.integers(0, 40)),
        st.tuples(st.sampled_from(["pods", "metrics"]), st.sampled_from(NAMESPACES), st.integers(0, 100)),
    ),
    max_size=40,
)


@pytest.mark.parametrize("strategy", ALL)
@settings(max_examples=12)
@given(events=EVENTS)
def test_only_endpoints_of_the_view_that_match_are_returned_each_once(
    strategy: str, events: list[tuple[str, str, int]]
) -> None:
    life = Life(strategy)
    for event in events:
        answer = life.do(event)
        if isinstance(answer, Decision):
            namespace, number = event[1], event[2]
            model = life.world.view.models[ModelKey(namespace, "m")]
            wanted = life.question(namespace, number).external_filter
            fitting = [e for e in model.endpoints if not wanted or e.labels["odd"] == wanted[-1]]
            assert {e.id for e in answer.endpoints} <= {e.id for e in fitting}
            assert len({e.id for e in answer.endpoints}) == len(answer.endpoints)
            if strategy != "slo-least-load-pulling":
                assert len(answer.endpoints) == len(fitting)
        elif isinstance(answer, Refusal):
            assert answer.reason in {Reason.NO_READY_ENDPOINTS, Reason.NO_MATCHING_ENDPOINTS, Reason.ENDPOINTS_FULL,
                                     Reason.MODEL_UNKNOWN}  # fmt: skip
            assert answer.reason != Reason.ENDPOINTS_FULL or strategy == "slo-least-load-pulling"


@pytest.mark.parametrize("strategy", ALL)
@settings(max_examples=6)
@given(events=EVENTS)
def test_the_same_seeds_decide_alike(strategy: str, events: list[tuple[str, str, int]]) -> None:
    def told() -> list[object]:
        life = Life(strategy)
        answers = [life.do(event) for event in events]
        return [a.endpoints if isinstance(a, Decision) else a for a in answers]

    assert told() == told()


@pytest.mark.parametrize("strategy", [name for name in ALL if name not in DRAWING])
@settings(max_examples=12)
@given(events=EVENTS)
def test_what_happens_in_one_namespace_is_nothing_to_the_other(
    strategy: str, events: list[tuple[str, str, int]]
) -> None:
    both, alone = Life(strategy, Steady()), Life(strategy, Steady())
    # The end of a request is drawn among those of "here" only, or "there" would change which one it is.
    for kind, namespace, number in events:
        if namespace == "there" and kind == "ask":
            answer = both.ask("there", number)
            if isinstance(answer, Decision):
                both.open.remove(answer)
                if number % 2:
                    both.end(answer, number)
        elif namespace == "there":
            both.do((kind, namespace, number))
        else:
            got, want = both.do((kind, namespace, number)), alone.do((kind, namespace, number))
            if isinstance(want, Decision):
                assert isinstance(got, Decision)
                assert got.endpoints == want.endpoints
            else:
                assert got == want
        assert both.scores("here") == alone.scores("here")


@pytest.mark.parametrize("strategy", ALL)
@settings(max_examples=5)
@given(events=EVENTS)
def test_nothing_is_left_when_every_endpoint_is_gone(strategy: str, events: list[tuple[str, str, int]]) -> None:
    life = Life(strategy)
    for event in events:
        life.do(event)
    for namespace in NAMESPACES:
        life.do(("pods", namespace, 0))
    for decision in life.open:
        life.end(decision, 3)
    life._show()
    life.do(("wait", "here", 40))
    while any(index.collect() for index in life.indexes.by_endpoint):
        pass
    assert len(life.world.reservations) == 0
    assert len(life.world.loads) == 0
    assert [len(each) for each in (life.indexes.backlogs, life.indexes.history, life.indexes.forecaster)] == [0, 0, 0]
    assert (len(life.indexes.prefix), life.indexes.prefix.block_count) == (0, 0)


@settings(max_examples=60)
@given(events=EVENTS)
def test_the_one_that_promises_never_returns_what_is_full_while_another_is_free(
    events: list[tuple[str, str, int]],
) -> None:
    life = Life("slo-least-load-pulling")
    for event in events:
        if event[0] == "ask":
            question = life.question(event[1], event[2])
            seen = life.world.director.explain(question)
            full = set() if isinstance(seen, Refusal) else {e.endpoint.id for e in seen.excluded if e.is_full}
            answer = life.do(event)
            if isinstance(answer, Decision):
                assert not full & {e.id for e in answer.endpoints}
            elif isinstance(answer, Refusal) and answer.reason == Reason.ENDPOINTS_FULL:
                matching = life.world.view.models[ModelKey(event[1], "m")].endpoints
                wanted = question.external_filter
                fitting = [e for e in matching if not wanted or e.labels["odd"] == wanted[-1]]
                assert all(life.world.loads.of(e.id).requests for e in fitting), "an idle endpoint takes anything"
        else:
            life.do(event)
