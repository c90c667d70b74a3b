"""`prefix-cache-preble`: its rule, its costs, and what it learns."""

from __future__ import annotations

from typing import Any

import pytest

from pybrix.gateway.framework.outcome import AccessRecord, Outcome
from pybrix.gateway.framework.scoring import in_order
from pybrix.gateway.framework.signals import Signals
from pybrix.gateway.framework.types import Endpoint, InferenceRequest
from pybrix.gateway.indexes.load import LoadTable, Weight
from pybrix.gateway.indexes.prefix import PrefixIndex
from pybrix.gateway.indexes.tokenhistory import SLICES, WINDOW_S, TokenHistory, Tokens
from pybrix.gateway.strategies.prefix_cache_preble import PrefixCachePreble
from tests.support.gateway import NOW_S, UNIX_S, make_endpoint, make_request

A, B, C = ENDPOINTS = [make_endpoint(name) for name in "abc"]


def prompt(text: str, **fields: Any) -> InferenceRequest:
    """Return a request whose blocks are the text's letters, of 1000 tokens each; it generates 100."""
    chain = [hash(text[: n + 1]) for n in range(len(text))]
    return make_request(known_chain=chain, prompt_tokens=1000 * len(text), decode_tokens=100, **fields)


def ended(request: InferenceRequest, routed: Endpoint, to: Endpoint | None, status: int, generated: int) -> Outcome:
    record = AccessRecord("r", False, routed.host, status, "", 10.0, 20.0, 100, generated, 0, 1, "id")
    return Outcome(request, routed, to, record, NOW_S)


@pytest.fixture
def prefix() -> PrefixIndex:
    return PrefixIndex()


@pytest.fixture
def history() -> TokenHistory:
    return TokenHistory()


@pytest.fixture
def strategy(prefix: PrefixIndex, history: TokenHistory) -> PrefixCachePreble:
    return PrefixCachePreble(prefix, history)


@pytest.fixture
def loads() -> LoadTable:
    return LoadTable()


def at(seconds: float, loads: LoadTable) -> Signals:
    return Signals(NOW_S + seconds, UNIX_S + seconds, loads.of, lambda _: None)


def ranked(strategy: PrefixCachePreble, request: InferenceRequest, signals: Signals) -> str:
    got = strategy.score(request, ENDPOINTS, signals)
    return "".join(e.pod_name for _, e in sorted(zip(got, ENDPOINTS, strict=True), key=lambda pair: -pair[0]))


def test_more_than_half_of_the_prompt_draws_it_whatever_was_routed_there(
    strategy: PrefixCachePreble, loads: LoadTable
) -> None:
    for _ in range(5):
        strategy.observe_routed(prompt("wxyz"), B, at(0, loads))
    assert ranked(strategy, prompt("wxyab"), at(1, loads))[0] == "b", "3 of 5"
    assert ranked(strategy, prompt("wxab"), at(1, loads))[-1] == "b", "2 of 4: the load is spread"


def test_of_equal_matches_the_one_with_less_work_is_first(strategy: PrefixCachePreble, loads: LoadTable) -> None:
    for endpoint in (A, B):
        strategy.observe_routed(prompt("wxyz"), endpoint, at(0, loads))
    strategy.observe_routed(prompt("mn"), A, at(0, loads))
    assert ranked(strategy, prompt("wxyz"), at(1, loads)) == "bac"


def test_an_imbalance_of_requests_is_mended_first(strategy: PrefixCachePreble, loads: LoadTable) -> None:
    strategy.observe_routed(prompt("wxyz"), A, at(0, loads))
    for _ in range(8):
        loads.add(A.id, Weight())
    assert ranked(strategy, prompt("wxyz"), at(1, loads))[0] == "a"
    loads.add(A.id, Weight())
    assert ranked(strategy, prompt("wxyz"), at(1, loads))[-1] == "a"


def test_costs(strategy: PrefixCachePreble, prefix: PrefixIndex, history: TokenHistory, loads: LoadTable) -> None:
    # 8000 tokens a second and 0.02 s a token, while nothing is learnt.
    strategy.observe_routed(prompt("wxyz"), A, at(0, loads))
    prefix.size(A.id, 5)
    history.add(B.id, Tokens(16_000, 8_000, 50), NOW_S)
    reasons = strategy.reasons(prompt("wxab"), ENDPOINTS, at(1, loads))
    # a: 4000 / 8000 + 100 * 0.02 of work; 2000 / 8000 + 2 of its own; 1 block must go, but none was ever hit.
    assert "2.50 s of work in 3 minutes, costs 4.75 s" in reasons[0]
    assert "2.00 s of work in 3 minutes, costs 4.50 s" in reasons[1]
    assert "0.00 s of work in 3 minutes, costs 2.50 s" in reasons[2]
    history.add(A.id, Tokens(0, 2000, 0), NOW_S)
    # Half of the prompts were cached: 0.25 s less work, and 1000 tokens to go would come again by half.
    assert "2.25 s of work in 3 minutes, costs 4.56 s" in strategy.reasons(prompt("wxab"), [A], at(1, loads))[0]


def test_rates_that_were_learnt_count_and_their_mean_where_none_was(
    strategy: PrefixCachePreble, loads: LoadTable
) -> None:
    for endpoint, prefill_s, duration_s in ((A, 1.0, 2.0), (B, 2.0, 6.0)):
        record = AccessRecord(
            "r", False, endpoint.host, 200, "", prefill_s * 1000, duration_s * 1000, 4000, 101, 0, 1, "id"
        )
        loads.entry(endpoint.id).learnt.add(record, NOW_S)
    reasons = strategy.reasons(prompt("wxyz"), ENDPOINTS, at(0, loads))
    assert [why.partition("costs ")[2].partition(" s")[0] for why in reasons] == ["2.00", "6.00", "3.83"]


def test_what_was_generated_replaces_the_estimate(
    strategy: PrefixCachePreble, history: TokenHistory, loads: LoadTable
) -> None:
    request = prompt("w")
    for status, generated, want in ((200, 30, 30), (200, 0, 130), (500, 0, 130)):
        strategy.observe_routed(request, A, at(0, loads))
        strategy.observe_outcome(ended(request, A, A, status, generated))
        assert history.of(A.id, NOW_S).decode == want, "no usage: the estimate stays; a failure generated nothing"


def test_a_retry_takes_the_work_along(
    strategy: PrefixCachePreble, history: TokenHistory, prefix: PrefixIndex, loads: LoadTable
) -> None:
    request = prompt("wx")
    strategy.observe_routed(request, A, at(0, loads))
    strategy.observe_outcome(ended(request, A, B, 200, 40))
    assert history.of(A.id, NOW_S) == (0, 0, 0)
    assert history.of(B.id, NOW_S) == (2000, 0, 40)
    assert prefix.match(request.chain, [B.id]) == [2]


def test_a_request_that_nobody_answered_is_no_work(
    strategy: PrefixCachePreble, history: TokenHistory, loads: LoadTable
) -> None:
    request = prompt("wx")
    strategy.observe_routed(request, A, at(0, loads))
    strategy.observe_outcome(ended(request, A, None, 0, 0))
    assert history.of(A.id, NOW_S) == (0, 0, 0)


class TestTokenHistory:
    def test_what_is_older_than_the_window_is_gone(self, history: TokenHistory) -> None:
        history.add(A.id, Tokens(10, 5, 1), 0.0)
        history.add(A.id, Tokens(1, 1, 1), WINDOW_S)
        assert history.of(A.id, WINDOW_S) == (11, 6, 2)
        assert history.of(A.id, WINDOW_S + 10.0) == (1, 1, 1)
        assert history.of(A.id, 3 * WINDOW_S) == (0, 0, 0)

    def test_its_memory_does_not_grow_with_requests(self, history: TokenHistory) -> None:
        for n in range(100_000):
            history.add(A.id, Tokens(1), n / 100)
        assert len(history._windows[A.id].slices) <= SLICES + 1
        assert history.of(A.id, 1000.0).prompt == pytest.approx(WINDOW_S * 100, rel=0.06)

    def test_a_correction_that_comes_late_never_makes_it_negative(self, history: TokenHistory) -> None:
        history.add(A.id, Tokens(100, 50, 100), 0.0)
        history.add(A.id, Tokens(-100, -50, -90), WINDOW_S)
        assert history.of(A.id, WINDOW_S + 10.0) == (0, 0, 0)

    def test_endpoints_that_go_are_forgotten(self, history: TokenHistory) -> None:
        history.add(A.id, Tokens(1), 0.0)
        history.add(B.id, Tokens(1), 0.0)
        history.retain({B.id})
        assert (len(history), history.collect()) == (1, False)


def test_places_of_equal_keys_are_equal() -> None:
    assert in_order([(1, 0, 0.5), (0, -3, 9.0), (1, 0, 0.5)]) == [0.5, 1.0, 0.5]
