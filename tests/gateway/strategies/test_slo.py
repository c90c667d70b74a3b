"""Strategies that keep what a model promises: forecasts, order, refusals."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from pybrix.gateway.framework.modelconfig import ConfigProfile, Targets
from pybrix.gateway.framework.outcome import AccessRecord, Outcome
from pybrix.gateway.framework.plugins import Strategy
from pybrix.gateway.framework.refusal import Reason, Refusal
from pybrix.gateway.framework.signals import EngineMetrics, Signals
from pybrix.gateway.framework.types import Decision, Endpoint, InferenceRequest
from pybrix.gateway.indexes.backlog import PrefillBacklogs
from pybrix.gateway.indexes.forecast import Forecaster
from pybrix.gateway.indexes.load import LoadTable, Weight
from pybrix.gateway.indexes.prefix import PrefixIndex
from pybrix.gateway.scheduling.profile import Profile
from pybrix.gateway.strategies.slo import Slo
from pybrix.gateway.strategies.slo_least_load import SloLeastLoad
from pybrix.gateway.strategies.slo_least_load_pulling import SloLeastLoadPulling
from pybrix.gateway.strategies.slo_pack_load import SloPackLoad
from pybrix.gateway.view.facts import read_pod
from tests.support.gateway import NOW_S, UNIX_S, World, ask, make_endpoint, make_pod, make_request, view_of

A, B, C = ENDPOINTS = [make_endpoint(name) for name in "abc"]
TTFT = Targets(ttft=1.0)


def prompt(text: str, targets: Targets = TTFT, **fields: Any) -> InferenceRequest:
    """Return a request whose blocks are the text's letters, of 1000 tokens each; it generates 100."""
    chain = [hash(text[: n + 1]) for n in range(len(text))]
    known: dict[str, Any] = {"prompt_tokens": 1000 * len(text), "decode_tokens": 100, "is_stream": True, **fields}
    return make_request(known_chain=chain, profile=ConfigProfile("p", targets=targets), **known)


class Setup:
    """A forecaster and what it looks at: 8000 tokens a second while nothing is learnt."""

    def __init__(self) -> None:
        self.loads = LoadTable()
        self.metrics: dict[str, EngineMetrics] = {}
        self.backlogs = PrefillBacklogs()
        self.forecaster = Forecaster(PrefixIndex(), self.backlogs)
        self.strategies: dict[str, Strategy] = {
            "slo": Slo(self.forecaster),
            "pack": SloPackLoad(self.forecaster),
            "least": SloLeastLoad(self.forecaster),
            "pulling": SloLeastLoadPulling(self.forecaster),
        }

    def signals(self, seconds: float = 0.0) -> Signals:
        metrics = {make_endpoint(name).id: each for name, each in self.metrics.items()}
        return Signals(NOW_S + seconds, UNIX_S + seconds, self.loads.of, metrics.get)

    def route(self, request: InferenceRequest, endpoint: Endpoint, seconds: float = 0.0) -> None:
        self.forecaster.routed(request, endpoint, self.signals(seconds))
        self.loads.add(endpoint.id, Weight(request.prompt_tokens, request.prompt_tokens, request.decode_tokens))

    def learn(self, endpoint: Endpoint, tpot_ms: float) -> None:
        record = AccessRecord("r", False, endpoint.host, 200, "", 100, 100 + 10 * tpot_ms, 100, 11, 0, 1, "id")
        self.loads.entry(endpoint.id).learnt.add(record, NOW_S)

    def ranked(self, name: str, request: InferenceRequest) -> str:
        got = self.strategies[name].score(request, ENDPOINTS, self.signals())
        return "".join(e.pod_name for _, e in sorted(zip(got, ENDPOINTS, strict=True), key=lambda pair: -pair[0]))


@pytest.fixture
def setup() -> Setup:
    return Setup()


class TestForecast:
    def test_time_to_first_token_is_backlog_and_what_is_not_cached(self, setup: Setup) -> None:
        setup.route(prompt("wxyz"), A)
        got = setup.forecaster.foretell(prompt("wxab"), ENDPOINTS, setup.signals(), TTFT)
        assert [each.ttft_s for each in got] == pytest.approx([0.75, 0.5, 0.5])
        assert [each.pressure for each in got] == pytest.approx([0.75, 0.5, 0.5])
        assert [each.is_idle for each in got] == [False, True, True]

    def test_time_per_token_grows_with_the_batch(self, setup: Setup) -> None:
        for _ in range(4):
            setup.route(prompt("w"), A)
        # The usual number of requests was (1 + 2 + 3 + 4) / 4.
        setup.learn(A, 20.0)
        targets = Targets(tpot=0.06)
        got = setup.forecaster.foretell(prompt("w"), ENDPOINTS, setup.signals(), targets)
        assert [each.tpot_s for each in got] == pytest.approx([0.03] * 3), "the mean of the others, where none is known"
        assert got[0].pressure == pytest.approx(0.5)

    def test_an_engines_own_time_per_token_counts_where_none_was_learnt(self, setup: Setup) -> None:
        setup.metrics["b"] = EngineMetrics(NOW_S, tpot_s=0.04)
        got = setup.forecaster.foretell(prompt("w"), ENDPOINTS, setup.signals(), Targets(e2e=11.0, tpat=0.01))
        assert got[1].e2e_s == pytest.approx(0.125 + 4.0)
        assert got[1].pressure == pytest.approx(max(4.125 / 11.0, 4.125 / 1100 / 0.01))

    def test_a_kv_cache_that_is_full_counts_as_well(self, setup: Setup) -> None:
        setup.metrics["a"] = EngineMetrics(NOW_S, kv_capacity_tokens=2200)
        setup.route(prompt("w"), A)
        got = setup.forecaster.foretell(prompt("xy"), [A], setup.signals(), Targets(ttft=100.0))
        assert got[0].kv_ratio == got[0].pressure == pytest.approx(3200 / 2200)

    def test_it_learns_how_fast_an_engine_prefills_and_forgets_those_that_go(self, setup: Setup) -> None:
        request = prompt("wxyz")
        setup.route(request, A)
        record = AccessRecord("r", False, A.host, 200, "", 2000, 9000, 4000, 9, 0, 1, "id")
        setup.forecaster.ended(Outcome(request, A, A, record, NOW_S + 9))
        assert setup.backlogs.rate(A.id, request) == pytest.approx(2000)
        setup.forecaster.retain({B.id})
        assert (len(setup.forecaster), setup.forecaster.collect()) == (0, False)

    def test_a_retry_takes_the_backlog_away(self, setup: Setup) -> None:
        request = prompt("wxyz")
        setup.route(request, A)
        record = AccessRecord("r", False, B.host, 200, "", 2000, 9000, 4000, 9, 0, 2, "id")
        setup.forecaster.ended(Outcome(request, A, B, record, NOW_S))
        assert setup.backlogs.tokens(A.id, NOW_S) == 0
        got = setup.forecaster.foretell(prompt("wxyz"), [B], setup.signals(), TTFT)
        assert got[0].ttft_s == 0.0


class TestOrder:
    """a: 5000 tokens wait, b: 1000, c: 9000. A request of 2000: 0.875 s, 0.375 s, 1.375 s."""

    @pytest.fixture(autouse=True)
    def _routed(self, setup: Setup) -> None:
        for endpoint, text in ((A, "abcde"), (B, "f"), (C, "ghijklmno")):
            setup.route(prompt(text), endpoint)

    @pytest.mark.parametrize(
        ("name", "targets", "want"),
        [
            pytest.param("slo", TTFT, "bac", id="slo: the soonest of those in time"),
            pytest.param("pack", TTFT, "abc", id="pack: the fullest that is still in time"),
            pytest.param("least", TTFT, "bac", id="least load"),
            pytest.param("pack", Targets(ttft=0.2), "bac", id="pack: nothing is in time, the least late"),
            pytest.param("slo", Targets(ttft=0.2), "bac", id="slo: nothing is in time, the least late"),
        ],
    )
    def test_by_targets(self, setup: Setup, name: str, targets: Targets, want: str) -> None:
        assert setup.ranked(name, prompt("yz", targets)) == want

    def test_slo_prefers_the_sooner_answer_to_the_emptier_endpoint(self, setup: Setup) -> None:
        setup.learn(A, 10.0)
        setup.learn(B, 100.0)
        request, signals = prompt("yz", Targets(ttft=1.0, e2e=100.0)), setup.signals()
        assert setup.strategies["slo"].score(request, [A, B], signals) == [1.0, 0.5]
        assert setup.strategies["least"].score(request, [A, B], signals) == [0.0, 1.0]

    @pytest.mark.parametrize("name", ["slo", "pack", "least", "pulling"])
    def test_without_targets_requests_in_flight_decide(self, setup: Setup, name: str) -> None:
        setup.route(prompt("x"), A)
        request = make_request()
        assert setup.strategies[name].score(request, ENDPOINTS, setup.signals()) == [0.0, 1.0, 1.0]
        assert setup.strategies[name].reasons(request, ENDPOINTS, setup.signals())[0] == (
            "nothing is promised, 2 requests in flight"
        )

    @pytest.mark.parametrize("name", ["slo", "pack", "least", "pulling"])
    def test_reasons_say_what_is_expected(self, setup: Setup, name: str) -> None:
        assert setup.strategies[name].reasons(prompt("yz"), ENDPOINTS, setup.signals())[1] == (
            "expected: first token in 0.38 s, 0 ms a token, 0.4 s in all: 38% of what is promised"
        )


class TestPulling:
    def pulling(self, setup: Setup) -> SloLeastLoadPulling:
        return SloLeastLoadPulling(setup.forecaster)

    def test_endpoints_that_would_be_late_take_no_part(self, setup: Setup) -> None:
        strategy = self.pulling(setup)
        setup.route(prompt("abcdefgh"), A)
        profile = Profile({strategy.name: strategy})
        kept, excluded = profile.admit(prompt("z", strategy=strategy.name), ENDPOINTS, setup.signals())
        assert [e.pod_name for e in kept] == ["b", "c"]
        assert [(e.endpoint.pod_name, e.is_full) for e in excluded] == [("a", True)]
        assert excluded[0].why.startswith("full: expected: first token in 1.12 s, ")

    def test_an_idle_endpoint_takes_what_is_too_large_for_every_promise(self, setup: Setup) -> None:
        strategy = self.pulling(setup)
        huge = prompt("abcdefghijklmnop")
        assert strategy.why_full(huge, [A], setup.signals()) == [""]
        setup.route(prompt("z"), A)
        assert strategy.why_full(huge, [A], setup.signals()) != [""]

    def test_when_to_come_back(self, setup: Setup) -> None:
        strategy = self.pulling(setup)
        setup.route(prompt("abcdefghijklmnopqrstuvwx"), A)
        setup.route(prompt("ABCDEFGHIJKLMNOP"), B)
        # b needs 16000 + 1000 tokens at 8000 a second, 1 s of it is promised.
        assert strategy.retry_after_s(prompt("z"), [A, B], setup.signals()) == pytest.approx(1.125)

    def test_what_only_ends_with_a_request_is_a_requests_time(self, setup: Setup) -> None:
        strategy = self.pulling(setup)
        for _ in range(4):
            setup.route(prompt("a"), A)
        setup.learn(A, 100.0)
        request = prompt("z", Targets(tpot=0.01))
        assert strategy.why_full(request, [A], setup.signals()) != [""]
        assert strategy.retry_after_s(request, [A], setup.signals()) == pytest.approx(1.1 / 4)

    def test_when_all_are_full_the_client_is_told_when_to_retry(self) -> None:
        config = {"profiles": {"default": {"routingConfig": {"slos": {"ttft": 0.01}}}}}
        pods = [
            read_pod(make_pod(name, ip=ip, annotations={"model.aibrix.ai/config": json.dumps(config)}))
            for name, ip in (("a", "127.64.0.1"), ("b", "127.64.0.2"))
        ]
        world = World(view_of(*[pod for pod in pods if pod is not None]), strategy="slo-least-load-pulling")
        messages = [{"role": "user", "content": "x" * 64_000}]
        chosen = [world.director.decide(ask(messages=messages)) for _ in range(2)]
        assert all(isinstance(each, Decision) for each in chosen)
        assert world.in_flight() == {"a": 1, "b": 1}
        got = world.director.decide(ask(messages=[{"role": "user", "content": "y" * 64_000}]))
        assert isinstance(got, Refusal)
        assert (got.reason, got.status) == (Reason.ENDPOINTS_FULL, 503)
        headers = dict(got.headers())
        assert headers["x-error-routing"] == "true"
        assert int(headers["retry-after"]) == 4, "2 prompts of 16000 tokens at 8000 a second, rounded up"
        assert world.in_flight() == {"a": 1, "b": 1}, "nothing is reserved"


def test_ties_of_forecasts_are_spread() -> None:
    setup = Setup()
    profile = Profile({"slo": setup.strategies["slo"]})
    firsts = {
        profile.rank(prompt("z", strategy="slo"), ENDPOINTS, setup.signals(), random.Random(n))[0].pod_name
        for n in range(40)
    }
    assert firsts == set("abc")
