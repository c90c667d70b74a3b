"""What is sent: rounds, bodies, weights."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.base.errors import UsageError
from pybrix.bench.traffic import DEFAULT_WEIGHTS, Kind, Mix, interleave, parse_weights

weights = st.dictionaries(st.sampled_from(list(Kind)), st.integers(1, 20), min_size=1)


@given(weights)
def test_a_round_has_every_kind_as_often_as_its_weight_says(chosen: dict[Kind, int]) -> None:
    assert Counter(interleave(chosen)) == Counter(chosen)


@given(weights)
def test_the_most_frequent_kind_never_waits_longer_than_the_others_together(chosen: dict[Kind, int]) -> None:
    order = interleave(chosen) * 2
    kind = max(chosen, key=lambda each: chosen[each])
    places = [place for place, each in enumerate(order) if each is kind]
    longest = max(b - a for a, b in zip(places, [*places[1:], places[0] + len(order)], strict=True))
    assert longest <= -(-sum(chosen.values()) // chosen[kind]) + len(chosen)


def test_the_same_number_is_the_same_request() -> None:
    assert Mix("m").request(17) == Mix("m").request(17)
    assert Mix("m").request(17).body != Mix("m").request(18).body


def test_kinds_ask_for_what_they_say() -> None:
    by_kind = {Mix("m").request(number).kind: Mix("m").request(number) for number in range(40)}
    assert by_kind.keys() == DEFAULT_WEIGHTS.keys()
    assert by_kind[Kind.SHORT].body["max_tokens"] == 16
    assert "stream" not in by_kind[Kind.LONG].body
    assert by_kind[Kind.LONG_STREAM].body["ignore_eos"] is True
    assert by_kind[Kind.CANCELLED].cancel_after_events == 40
    assert by_kind[Kind.ABANDONED].cancel_after_s == 0.05
    assert all(each.body.get("stream", False) is each.is_streamed for each in by_kind.values())


def test_weights_are_parsed() -> None:
    assert parse_weights("short=3, long-stream=1,stream=0") == {Kind.SHORT: 3, Kind.LONG_STREAM: 1}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("fast=1", "no kind of request 'fast'"),
        ("short=-1", "'short=-1' is no KIND=NUMBER"),
        ("short", "'short' is no KIND=NUMBER"),
        ("short=5000", "up to 1000"),
        ("short=0", "nothing is to be sent"),
        ("", "nothing is to be sent"),
    ],
)
def test_wrong_weights_are_refused(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        parse_weights(text)
