"""Strategies that look at prompts."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pybrix.gateway.framework.outcome import AccessRecord, Outcome
from pybrix.gateway.framework.signals import EngineMetrics, Signals
from pybrix.gateway.framework.types import Endpoint, InferenceRequest
from pybrix.gateway.indexes.backlog import FIRST_RATE, PrefillBacklogs
from pybrix.gateway.indexes.enginemetrics import MetricsTable
from pybrix.gateway.indexes.load import LoadTable, Weight
from pybrix.gateway.indexes.prefix import PrefixIndex
from pybrix.gateway.strategies.prefix_affinity import PrefixAffinity
from pybrix.gateway.strategies.prefix_cache import PrefixCache
from tests.support.gateway import NOW_S, UNIX_S, make_endpoint, make_request, make_signals

A, B, C = ENDPOINTS = [make_endpoint(name) for name in "abc"]


def prompt(text: str, **fields: Any) -> InferenceRequest:
    """Return a request whose blocks are the text's letters, of 1000 tokens each."""
    chain = [hash(text[: n + 1]) for n in range(len(text))]
    return make_request(known_chain=chain, prompt_tokens=1000 * len(text), is_stream=True, **fields)


def at(seconds: float, loads: LoadTable | None = None, metrics: MetricsTable | None = None) -> Signals:
    return Signals(NOW_S + seconds, UNIX_S + seconds, (loads or LoadTable()).of, (metrics or MetricsTable()).of)


def ended(
    request: InferenceRequest, endpoint: Endpoint, ttft_s: float, at_s: float, to: Endpoint | None = None
) -> Outcome:
    record = AccessRecord("r", False, endpoint.host, 200, "", ttft_s * 1000, 9000, request.prompt_tokens, 9, 0, 1, "id")
    return Outcome(request, endpoint, to or endpoint, record, NOW_S + at_s)


class TestPrefixCache:
    @pytest.fixture
    def strategy(self) -> PrefixCache:
        return PrefixCache(PrefixIndex())

    @pytest.mark.parametrize(
        ("counts", "want"),
        [
            pytest.param({}, "abc", id="the longest match first, then the shorter, then none"),
            pytest.param({"a": 2, "b": 2, "c": 0}, "abc", id="a holder with a little more than the mean"),
            pytest.param({"a": 8, "b": 1, "c": 1}, "bca", id="a holder too far above the mean"),
            pytest.param({"a": 9, "b": 1, "c": 0}, "cba", id="an imbalance: only the least loaded count"),
        ],
    )
    def test_rule(self, strategy: PrefixCache, counts: dict[str, int], want: str) -> None:
        strategy.observe_routed(prompt("wxyz"), A, make_signals())
        strategy.observe_routed(prompt("wx"), B, make_signals())
        got = strategy.score(prompt("wxyz"), ENDPOINTS, make_signals(counts))
        ranked = "".join(e.pod_name for _, e in sorted(zip(got, ENDPOINTS, strict=True), key=lambda p: -p[0]))
        assert ranked == want

    def test_equal_matches_go_by_load(self, strategy: PrefixCache) -> None:
        for endpoint in (A, B):
            strategy.observe_routed(prompt("wx"), endpoint, make_signals())
        got = strategy.score(prompt("wx"), ENDPOINTS, make_signals({"a": 1, "c": 1}))
        assert got[1] > got[0] > got[2]

    def test_what_is_expected_in_the_cache_is_told(self, strategy: PrefixCache) -> None:
        assert strategy.observe_routed(prompt("wxyz"), A, make_signals()) == 0
        assert strategy.observe_routed(prompt("wxab"), A, make_signals()) == 2000
        assert strategy.observe_routed(prompt(""), A, make_signals()) == 0

    def test_blocks_are_noted_where_a_retry_took_them(self, strategy: PrefixCache) -> None:
        request = prompt("wx")
        strategy.observe_routed(request, A, make_signals())
        strategy.observe_outcome(ended(request, A, 0.1, 1.0, to=B))
        assert strategy.reasons(request, [B], make_signals())[0].startswith("holds 2 of the prompt's 2 blocks")


class TestPrefixAffinity:
    @pytest.fixture
    def backlogs(self) -> PrefillBacklogs:
        return PrefillBacklogs()

    @pytest.fixture
    def strategy(self, backlogs: PrefillBacklogs) -> PrefixAffinity:
        return PrefixAffinity(PrefixIndex(), backlogs)

    def best(self, strategy: PrefixAffinity, request: InferenceRequest, signals: Signals) -> str:
        got = strategy.score(request, ENDPOINTS, signals)
        return "".join(e.pod_name for e, score in zip(ENDPOINTS, got, strict=True) if score == 1.0)

    @pytest.mark.parametrize(
        ("is_busy", "sizes", "want_s"),
        [
            # The whole prompt, or what of it is not held, at 8000 tokens a second; that and 50 in a cache of 262,144.
            pytest.param(
                False,
                (None, None, None),
                (4000 / 8000 + 2 * 4050 / 262_144, 2000 / 8000 + 2 * 2050 / 262_144, 4000 / 8000 + 2 * 4050 / 262_144),
                id="nothing in flight",
            ),
            # q = ((6000 + 0 + 3000) / 3) / ((6000 + 3000) / (1 + 4)), the request itself is 1.
            pytest.param(
                True,
                (None, 100_000, None),
                (
                    (6000 + 4000 * (1 + 5 / 3 + 0.1 * 1)) / 8000 + 2 * (6000 + 40 + 4050) / 262_144,
                    (2000 * (1 + 5 / 3)) / 8000 + 2 * 2050 / 100_000,
                    (3000 + 4000 * (1 + 5 / 3 + 0.1 * 4)) / 8000 + 2 * (3000 + 160 + 4050) / 262_144,
                ),
                id="backlogs, others in flight, a known KV cache",
            ),
            # 10,090 tokens are 5090 more than a holds; 7210 are 3605 below what c holds.
            pytest.param(
                True,
                (5000, None, 14_420),
                (
                    (6000 + 4000 * (1 + 5 / 3 + 0.1 * 1)) / 8000 + 2 * 10_090 / 5000 + 120 * 5090 / 5000,
                    (2000 * (1 + 5 / 3)) / 8000 + 2 * 2050 / 262_144,
                    (3000 + 4000 * (1 + 5 / 3 + 0.1 * 4)) / 8000 + 2 * 0.5,
                ),
                id="a KV cache that is too small, one that would be half full",
            ),
        ],
    )
    def test_formula(
        self,
        strategy: PrefixAffinity,
        backlogs: PrefillBacklogs,
        is_busy: bool,
        sizes: tuple[int | None, ...],
        want_s: tuple[float, ...],
    ) -> None:
        loads, metrics = LoadTable(), MetricsTable()
        for endpoint, size in zip(ENDPOINTS, sizes, strict=True):
            metrics.put(endpoint.id, EngineMetrics(NOW_S, kv_capacity_tokens=size))
        strategy.observe_routed(prompt("wx"), B, at(-60))
        if is_busy:
            for endpoint, tokens, count in ((A, 6000, 1), (C, 750, 4)):
                for _ in range(count):
                    backlogs.add(endpoint.id, prompt("z"), tokens, NOW_S)
                    loads.add(endpoint.id, Weight(tokens, tokens, 40))
        signals = at(0, loads, metrics)
        least, most = min(want_s), max(want_s)
        want = [1 - (cost_s - least) / (most - least) for cost_s in want_s]
        assert strategy.score(prompt("wxyz"), ENDPOINTS, signals) == pytest.approx(want)
        told = strategy.reasons(prompt("wxyz"), ENDPOINTS, signals)
        assert [why.rpartition("costs ")[2] for why in told] == [f"{cost_s:.3f} s" for cost_s in want_s]

    def test_a_new_endpoint_costs_more_by_its_warmth(self, strategy: PrefixAffinity) -> None:
        fresh = msgspec.structs.replace(A, ready_since_s=UNIX_S - 15)
        signals = msgspec.structs.replace(at(0), has_new=True)
        costs = [why.rpartition("costs ")[2] for why in strategy.reasons(prompt("wxyz"), [fresh, B], signals)]
        cost_s = 4000 / 8000 + 2 * 4050 / 262_144
        assert costs == [f"{cost_s / 0.55:.3f} s", f"{cost_s:.3f} s"]

    def test_without_knowledge_all_are_alike(self, strategy: PrefixAffinity) -> None:
        assert self.best(strategy, prompt("wxyz"), at(0)) == "abc"

    def test_it_stays_with_the_holder(self, strategy: PrefixAffinity) -> None:
        strategy.observe_routed(prompt("wxyz"), B, at(0))
        assert self.best(strategy, prompt("wxyzq"), at(60)) == "b"

    def test_it_stays_while_the_holders_backlog_is_smaller_than_what_is_saved(self, strategy: PrefixAffinity) -> None:
        strategy.observe_routed(prompt("wxyz"), B, at(0))
        strategy.observe_routed(prompt("wxyzabc"), B, at(60))
        # 3000 tokens wait at b, 4000 would be computed again elsewhere.
        assert self.best(strategy, prompt("wxyz"), at(60)) == "b"

    def test_it_spills_when_the_holder_is_saturated_and_returns_when_it_has_drained(
        self, strategy: PrefixAffinity
    ) -> None:
        strategy.observe_routed(prompt("wxyz"), B, at(0))
        strategy.observe_routed(prompt("mnopq"), B, at(60))
        assert self.best(strategy, prompt("wxyz"), at(60)) == "ac"
        assert self.best(strategy, prompt("wxyz"), at(60 + 1500 / FIRST_RATE)) == "b"

    def test_a_prompt_nobody_holds_goes_to_the_smallest_backlog(self, strategy: PrefixAffinity) -> None:
        strategy.observe_routed(prompt("abcd"), A, at(0))
        strategy.observe_routed(prompt("xy"), B, at(0))
        strategy.observe_routed(prompt("mno"), C, at(0))
        assert self.best(strategy, prompt("new"), at(0)) == "b"

    def test_the_more_wait_everywhere_the_more_a_prefix_is_worth(self, strategy: PrefixAffinity) -> None:
        strategy.observe_routed(prompt("wxyz"), B, at(0))
        loads = LoadTable()
        # 7000 tokens more at the holder than elsewhere, for 4000 that it saves.
        strategy.observe_routed(prompt("mnopqrs"), B, at(60))
        loads.add(B.id, Weight(7000, 7000, 0))
        assert self.best(strategy, prompt("wxyz"), at(60, loads)) == "ac"
        # The same difference, with ten requests in front of it on every endpoint.
        for endpoint in ENDPOINTS:
            for n in range(10):
                strategy.observe_routed(prompt("".join(chr(300 + 4 * n + i) for i in range(4))), endpoint, at(60))
                loads.add(endpoint.id, Weight(4000, 4000, 0))
        assert self.best(strategy, prompt("wxyz"), at(60, loads)) == "b"

    def test_room_in_the_kv_cache_decides_where_nothing_waits(self, strategy: PrefixAffinity) -> None:
        loads, metrics = LoadTable(), MetricsTable()
        for endpoint, tokens in ((A, 60_000), (B, 20_000), (C, 40_000)):
            loads.add(endpoint.id, Weight(tokens, 0, 0))
            metrics.put(endpoint.id, EngineMetrics(NOW_S, kv_capacity_tokens=100_000))
        assert self.best(strategy, prompt("new"), at(0, loads, metrics)) == "b"

    def test_a_long_prefill_keeps_away_from_those_who_decode(self, strategy: PrefixAffinity) -> None:
        loads = LoadTable()
        for _ in range(30):
            loads.add(A.id, Weight(10, 0, 10))
        for _ in range(10):
            loads.add(B.id, Weight(30, 0, 30))
            loads.add(C.id, Weight(30, 0, 30))
        assert self.best(strategy, prompt("abcdefgh"), at(0, loads)) == "bc"

    def test_a_full_kv_cache_is_avoided(self, strategy: PrefixAffinity) -> None:
        loads, metrics = LoadTable(), MetricsTable()
        strategy.observe_routed(prompt("wxyz"), B, at(0))
        loads.add(B.id, Weight(3500, 0, 0))
        metrics.put(B.id, EngineMetrics(NOW_S + 60, kv_capacity_tokens=3000))
        assert self.best(strategy, prompt("wxyz"), at(60, loads, metrics)) == "ac"

    def test_what_requests_have_in_common_takes_room_once(self, strategy: PrefixAffinity) -> None:
        loads, metrics = LoadTable(), MetricsTable()
        for endpoint in ENDPOINTS:
            metrics.put(endpoint.id, EngineMetrics(NOW_S, kv_capacity_tokens=200_000))
        # Twice 60,000 tokens, of which 50,000 are the same.
        for _ in range(2):
            loads.add(A.id, Weight(60_000, 0, 0, (1, 2, 3, 4, 5)))
        loads.add(B.id, Weight(80_000, 0, 0, (1, 2)))
        loads.add(C.id, Weight(80_000, 0, 0))
        assert self.best(strategy, prompt("new"), at(0, loads, metrics)) == "a"

    def test_the_rate_is_learnt_and_what_waited_is_part_of_it(
        self, strategy: PrefixAffinity, backlogs: PrefillBacklogs
    ) -> None:
        first, second = prompt("abcd"), prompt("mnop")
        strategy.observe_routed(first, A, at(0))
        strategy.observe_routed(second, A, at(0))
        # An engine of 2000 tokens a second: 4000 tokens take 2 s, and those behind them 4 s.
        strategy.observe_outcome(ended(first, A, 2.0, 5.0))
        assert backlogs.rate(A.id, prompt("w")) == pytest.approx(2000)
        strategy.observe_outcome(ended(second, A, 4.0, 6.0))
        assert backlogs.rate(A.id, prompt("w")) == pytest.approx(2000)
        assert backlogs.rate(B.id, prompt("w")) == pytest.approx(2000), "an unknown endpoint counts as its neighbours"

    @pytest.mark.parametrize("guess", [500.0, 2000.0, 50_000.0])
    def test_a_wrong_rate_corrects_itself(self, guess: float) -> None:
        backlogs, true_rate = PrefillBacklogs(), 2000.0
        strategy = PrefixAffinity(PrefixIndex(), backlogs)
        wrong = prompt("z" * 4)
        strategy.observe_routed(wrong, A, at(-1000))
        strategy.observe_outcome(ended(wrong, A, 4000 / guess, -999))
        free_at_s, ends = 0.0, list[tuple[float, Outcome]]()
        for n in range(120):
            # An engine that is busy nearly all the time: 1000 tokens every 0.52 s, and every fourth time twice at once.
            now_s = (n - n % 4 // 3) * 0.52
            while ends and ends[0][0] <= now_s:
                strategy.observe_outcome(ends.pop(0)[1])
            request = prompt(chr(200 + n))
            strategy.observe_routed(request, A, at(now_s))
            free_at_s = max(now_s, free_at_s) + 1000 / true_rate
            ends.append((free_at_s, ended(request, A, free_at_s - now_s, free_at_s)))
        assert backlogs.rate(A.id, prompt("w")) == pytest.approx(true_rate, rel=0.25)

    def test_a_request_that_went_elsewhere_leaves_no_backlog(
        self, strategy: PrefixAffinity, backlogs: PrefillBacklogs
    ) -> None:
        request = prompt("abcd")
        strategy.observe_routed(request, A, at(0))
        strategy.observe_outcome(ended(request, A, 1.0, 0.0, to=B))
        assert backlogs.tokens(A.id, NOW_S) == 0
        assert self.best(strategy, prompt("abcdz"), at(0)) == "ab"

    def test_what_is_usual_is_so_for_one_model_of_one_namespace(
        self, strategy: PrefixAffinity, backlogs: PrefillBacklogs
    ) -> None:
        request = prompt("wxyz")
        strategy.observe_routed(request, A, at(0))
        strategy.observe_outcome(ended(request, A, 2.0, 9.0))
        assert backlogs.rate(B.id, prompt("w")) == pytest.approx(2000)
        assert backlogs.rate(B.id, prompt("w", namespace="other")) == FIRST_RATE
        assert backlogs.rate(B.id, prompt("w", model="other")) == FIRST_RATE
        backlogs.retain({B.id})
        assert backlogs.rate(B.id, prompt("w")) == FIRST_RATE, "who taught it is gone"

    def test_an_endpoint_that_left_is_forgotten(self, strategy: PrefixAffinity, backlogs: PrefillBacklogs) -> None:
        strategy.observe_routed(prompt("abcd"), A, at(0))
        backlogs.retain({B.id})
        assert backlogs.tokens(A.id, NOW_S) == 0

    def test_a_pod_of_the_same_name_in_another_namespace_is_another_endpoint(self, strategy: PrefixAffinity) -> None:
        strategy.observe_routed(prompt("wxyz"), A, at(0))
        other = make_endpoint("other")
        assert strategy.score(prompt("wxyz"), [other, A], at(60)) == [0.0, 1.0]
