from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.api.identity import Uid
from pybrix.gateway.framework.types import EndpointId
from pybrix.gateway.indexes.prefix import PrefixIndex

ENDPOINTS = [EndpointId(Uid(f"uid-{n}"), 8000) for n in range(5)]
A, B, C, *_ = ENDPOINTS
# Few heads and few tails, so that chains share prefixes; a block's hash says all that came before it.
PATHS = st.lists(st.integers(0, 2), min_size=0, max_size=8)


def chain(path: list[int] | str) -> list[int]:
    return [hash(tuple(path[: n + 1])) for n in range(len(path))]


def held_prefix(blocks: set[int], wanted: list[int]) -> int:
    return next((n for n, block in enumerate(wanted) if block not in blocks), len(wanted))


def test_an_endpoint_that_was_sent_a_prompt_holds_all_of_it() -> None:
    index = PrefixIndex()
    index.insert(A, chain("abcd"))
    assert index.match(chain("abcd"), [A, B]) == [4, 0]


def test_a_match_ends_at_the_first_block_that_differs() -> None:
    index = PrefixIndex()
    index.insert(A, chain("abcd"))
    index.insert(B, chain("abxx"))
    assert index.match(chain("abcz"), [A, B, C]) == [3, 2, 0]


def test_a_tail_without_its_head_does_not_count() -> None:
    index = PrefixIndex()
    index.insert(A, chain("abcd")[2:])
    assert index.match(chain("abcd"), [A]) == [0]


def test_only_the_endpoints_that_are_asked_about_are_answered() -> None:
    index = PrefixIndex()
    index.insert(A, chain("ab"))
    index.insert(B, chain("abcd"))
    assert index.match(chain("abcd"), [A]) == [2]


@given(st.lists(st.tuples(st.sampled_from(ENDPOINTS), PATHS)), PATHS)
def test_without_a_limit_it_knows_what_a_set_of_blocks_knows(
    inserts: list[tuple[EndpointId, list[int]]], wanted: list[int]
) -> None:
    index = PrefixIndex()
    sets: dict[EndpointId, set[int]] = {endpoint: set() for endpoint in ENDPOINTS}
    for endpoint, path in inserts:
        index.insert(endpoint, chain(path))
        sets[endpoint].update(chain(path))
    assert index.match(chain(wanted), ENDPOINTS) == [held_prefix(sets[e], chain(wanted)) for e in ENDPOINTS]
    assert len(index) == sum(map(len, sets.values()))


@given(
    st.lists(
        st.tuples(st.sampled_from(ENDPOINTS), st.one_of(PATHS, st.just("remove"), st.just("collect"))), max_size=60
    ),
    st.integers(1, 6),
)
def test_capacity_holds_nothing_is_made_up_and_nothing_leaks(
    steps: list[tuple[EndpointId, list[int] | str]], capacity: int
) -> None:
    index = PrefixIndex(capacity)
    ever: dict[EndpointId, set[int]] = {endpoint: set() for endpoint in ENDPOINTS}
    for endpoint, step in steps:
        if step == "remove":
            index.remove(endpoint)
            ever[endpoint] = set()
        elif step == "collect":
            index.collect(2)
        else:
            index.insert(endpoint, chain(step))
            ever[endpoint].update(chain(step))
            assert index.held(endpoint) <= capacity
            head = chain(step)[:capacity]
            assert index.match(head, [endpoint]) == [len(head)], "what was sent last is held"
        for known in ENDPOINTS:
            got = index.match(chain(step), [known])[0] if isinstance(step, list) else 0
            assert got <= held_prefix(ever[known], chain(step)), "no endpoint holds what it was never sent"
    for endpoint in ENDPOINTS:
        index.remove(endpoint)
    while index.collect(3):
        pass
    assert index.block_count == 0
    assert len(index) == 0


def test_the_least_recently_used_goes_first() -> None:
    index = PrefixIndex(4)
    index.insert(A, chain("ab"))
    index.insert(A, chain("xy"))
    index.insert(A, chain("ab"))
    index.insert(A, chain("mn"))
    index.insert(A, chain("ab"))
    index.insert(A, chain("o"))
    assert index.match(chain("ab"), [A]) == [2]
    assert index.match(chain("xy"), [A]) == [0]


def test_the_tail_of_a_chain_goes_before_its_head() -> None:
    index = PrefixIndex(4)
    index.insert(A, chain("abcd"))
    index.insert(A, chain("x"))
    assert index.match(chain("abcd"), [A]) == [3]


def test_a_head_that_came_first_is_not_the_first_to_go_while_it_is_used() -> None:
    index = PrefixIndex(5)
    index.insert(A, chain("abc"))
    index.insert(A, chain("x"))
    index.insert(A, chain("amnop"))
    assert index.match(chain("amnop"), [A]) == [5]


def test_a_prompt_longer_than_the_capacity_keeps_its_head() -> None:
    index = PrefixIndex(3)
    index.insert(A, chain("abcdef"))
    assert index.match(chain("abcdef"), [A]) == [3]


def test_an_endpoint_that_left_is_out_at_once_and_its_place_is_not_inherited() -> None:
    index = PrefixIndex()
    index.insert(A, chain("abcd"))
    index.remove(A)
    index.insert(B, chain("xy"))
    assert index.match(chain("abcd"), [A, B]) == [0, 0]
    assert not index.collect()
    index.insert(C, chain("mn"))
    assert index.match(chain("abcd"), [A, B, C]) == [0, 0, 0]


def test_an_endpoint_that_comes_back_before_the_clean_up_starts_from_nothing() -> None:
    index = PrefixIndex()
    index.insert(A, chain("abcd"))
    index.remove(A)
    index.insert(A, chain("xy"))
    while index.collect(1):
        pass
    assert index.match(chain("abcd"), [A]) == [0]
    assert index.match(chain("xy"), [A]) == [2]


def test_a_smaller_capacity_takes_effect_at_once() -> None:
    index = PrefixIndex()
    index.insert(A, chain("abcdef"))
    index.size(A, 2)
    assert index.match(chain("abcdef"), [A]) == [2]
    with pytest.raises(ValueError, match="capacity_blocks must be at least 1, not 0"):
        index.size(A, 0)


def test_endpoints_that_are_not_live_are_removed() -> None:
    index = PrefixIndex()
    index.insert(A, chain("ab"))
    index.insert(B, chain("ab"))
    index.retain({B})
    assert index.match(chain("ab"), [A, B]) == [0, 2]


class Generations:
    """The rule of eviction by the book: every block of a chain is looked at, tail first."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.young: list[int] = []
        self.old: list[int] = []

    def insert(self, blocks: list[int]) -> None:
        used = blocks[: self.capacity][::-1]
        for block in used:
            if block not in self.young:
                self.young.append(block)
                if block in self.old:
                    self.old.remove(block)
        while len(self.young) + len(self.old) > self.capacity:
            if not self.old:
                self.old, self.young = [block for block in self.young if block not in used], used
            del self.old[0]


@given(st.lists(PATHS, max_size=40), st.integers(1, 12))
def test_what_is_forgotten_is_what_the_rule_says(paths: list[list[int]], capacity: int) -> None:
    index, rule = PrefixIndex(capacity), Generations(capacity)
    for path in paths:
        index.insert(A, chain(path))
        rule.insert(chain(path))
        assert index.held(A) == len(rule.young) + len(rule.old)
        for known in paths:
            want = held_prefix({*rule.young, *rule.old}, chain(known))
            assert index.match(chain(known), [A]) == [want]
