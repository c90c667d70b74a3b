"""A reservation is released exactly once, whatever the records do."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pybrix.gateway.indexes.load import Load, LoadTable, Weight
from pybrix.gateway.indexes.reservations import Reservations, TokenSource
from tests.support.gateway import make_endpoint

A, B, C = (make_endpoint(name) for name in "abc")


def ledger(loads: LoadTable) -> Reservations:
    return Reservations(loads, "me", TokenSource(lambda size: bytes(i % 251 for i in range(size))).issue, 10.0)


def numbers(load: Load) -> tuple[int, ...]:
    return load.requests, load.prompt_tokens, load.uncached_tokens, load.decode_tokens


def test_choosing_counts_and_ending_uncounts() -> None:
    loads = LoadTable()
    held = ledger(loads)
    key = held.reserve([A, B], Weight(100, 60, 20), 0.0)
    assert key.startswith("me.")
    assert numbers(loads.of(A.id)) == (1, 100, 60, 20)
    assert held.release(key) is not None
    assert held.release(key) is None
    assert numbers(loads.of(A.id)) == (0, 0, 0, 0)


def test_a_renewal_from_another_endpoint_moves_the_request() -> None:
    loads = LoadTable()
    held = ledger(loads)
    key = held.reserve([A, B], Weight(100, 60, 20), 0.0)
    assert held.renew(key, B, 10.0)
    assert (loads.of(A.id).requests, loads.of(B.id).requests) == (0, 1)
    held.release(key)
    assert numbers(loads.of(A.id)) == numbers(loads.of(B.id)) == (0, 0, 0, 0)


def test_three_missed_renewals_release() -> None:
    loads = LoadTable()
    held = ledger(loads)
    renewed, lost = held.reserve([A], Weight(1), 0.0), held.reserve([A], Weight(1), 0.0)
    assert held.expire(29.0) == []
    held.renew(renewed, None, 29.0)
    assert [gone.id for gone in held.expire(33.0)] == [lost]
    assert loads.of(A.id).requests == 1
    assert not held.renew(lost, A, 34.0)


def test_what_another_instance_reserved_is_adopted_once() -> None:
    loads = LoadTable()
    held = ledger(loads)
    assert held.adopt("earlier.1", A, 0.0) is not None
    assert held.adopt("earlier.1", A, 1.0) is None
    assert held.adopt("me.never-issued", A, 1.0) is None
    assert held.adopt("", A, 1.0) is None
    assert loads.of(A.id).requests == 1
    assert held.release("earlier.1") is not None
    assert loads.of(A.id).requests == 0


def test_tokens_come_in_blocks_and_never_twice() -> None:
    drawn: list[int] = []

    def draw(size: int) -> bytes:
        drawn.append(size)
        # Counters in place of chance: distinct by construction.
        start = 256 * len(drawn)
        return b"".join((start + n).to_bytes(12, "big") for n in range(size // 12))

    source = TokenSource(draw)
    tokens = {source.issue() for _ in range(600)}
    assert len(tokens) == 600
    assert all(len(token) == 24 for token in tokens)
    assert len(drawn) == 3


steps = st.lists(
    st.one_of(
        st.tuples(st.just("reserve"), st.sampled_from([(A, B), (B, C), (C,)]), st.integers(0, 50)),
        st.tuples(st.sampled_from(["renew", "end", "adopt"]), st.integers(0, 8), st.sampled_from([A, B, C, None])),
        st.tuples(st.just("expire"), st.integers(0, 40), st.none()),
    ),
    max_size=40,
)


@given(steps)
def test_loads_are_the_sum_of_what_is_held_and_end_at_zero(script: list[tuple[object, ...]]) -> None:
    loads = LoadTable()
    held = ledger(loads)
    now_s, ids, released = 0.0, ["foreign.1", "foreign.2"], list[str]()
    for step in script:
        match step:
            case ("reserve", tuple() as ranking, int(tokens)):
                weight = Weight(tokens, tokens // 2, 3, tuple(range(tokens % 5)))
                ids.append(held.reserve(ranking, weight, now_s))
            case ("renew", int(at), endpoint):
                held.renew(ids[at % len(ids)], endpoint, now_s)  # type: ignore[arg-type]
            case ("adopt", int(at), endpoint) if endpoint is not None:
                held.adopt(ids[at % len(ids)], endpoint, now_s)  # type: ignore[arg-type]
            case ("end", int(at), _):
                if (gone := held.release(ids[at % len(ids)])) is not None and held.is_own(gone.id):
                    released.append(gone.id)
            case ("expire", int(after), _):
                now_s += after
                released += [gone.id for gone in held.expire(now_s) if held.is_own(gone.id)]
        for endpoint in (A, B, C):
            here = [r for r in held if r.endpoint.id == endpoint.id]
            load = loads.of(endpoint.id)
            assert load.requests == len(here)
            weights = [(r.weight.prompt_tokens, r.weight.uncached_tokens, r.weight.decode_tokens) for r in here]
            assert numbers(load)[1:] == tuple(map(sum, zip(*weights, strict=True))) or not here
            assert {block: count for block, (count, _) in load.blocks.items()} == Counter(
                block for r in here for block in r.weight.blocks
            )
            assert load.common_tokens == sum((count - 1) * tokens for count, tokens in load.blocks.values())
    assert len(released) == len(set(released)), "an own reservation was released twice"
    held.expire(now_s + 1000)
    assert len(held) == 0
    assert all(numbers(load) == (0, 0, 0, 0) and not load.common_tokens and not load.blocks for _, load in loads)
