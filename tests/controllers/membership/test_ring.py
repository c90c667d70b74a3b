"""The ring: whatever joins and leaves, every slot has one owner, all have as many, and no slot moves for nothing."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybrix.controllers.membership.ring import assign, moved, ranges

SLOTS = 1024
names = st.sets(st.text("abcdefgh-0123456789", min_size=1, max_size=12), min_size=1, max_size=24)
histories = st.lists(names, min_size=1, max_size=5)


def counts(owners: dict[int, str]) -> dict[str, int]:
    return {name: sum(end - start + 1 for start, end in pieces) for name, pieces in ranges(owners).items()}


def after(history: list[set[str]], slots: int = SLOTS) -> dict[int, str]:
    owners: dict[int, str] = {}
    for members in history:
        owners = assign(members, slots, owners, virtual_nodes=20)
    return owners


@given(histories)
def test_all_have_as_many_within_one(history: list[set[str]]) -> None:
    found = counts(after(history))
    assert set(found) == history[-1]
    assert max(found.values()) - min(found.values()) <= 1
    assert max(found.values()) <= 1.25 * SLOTS / len(found)


@given(histories)
def test_ranges_cover_every_slot_exactly_once(history: list[set[str]]) -> None:
    pieces = sorted(piece for mine in ranges(after(history)).values() for piece in mine)
    assert pieces[0][0] == 0
    assert pieces[-1][1] == SLOTS - 1
    assert all(one[1] + 1 == next_one[0] for one, next_one in itertools.pairwise(pieces))


@given(histories, names)
def test_no_more_moves_than_balance_needs(history: list[set[str]], members: set[str]) -> None:
    before = after(history)
    had = counts(before)
    got = assign(members, SLOTS, before, virtual_nodes=20)
    floor = SLOTS // len(members)
    # Whoever leaves gives all, and who stays keeps at least the lower quota.
    stay = sorted((had[name] for name in members & set(had)), reverse=True)
    kept = sum(min(n, floor + (place < SLOTS % len(members))) for place, n in enumerate(stay))
    assert moved(before, got) == SLOTS - kept


@pytest.mark.parametrize("count", [1, 2, 3, 7, 40])
def test_a_join_moves_one_share_and_a_leave_moves_that_of_who_leaves(count: int) -> None:
    members = [f"cache-{n}" for n in range(count)]
    before = assign(members, 4096)
    joined = assign([*members, "late"], 4096, before)
    assert moved(before, joined) == counts(joined)["late"] <= math.ceil(4096 / (count + 1))
    left = assign(members, 4096, joined)
    assert moved(joined, left) == counts(joined)["late"]


@settings(max_examples=20)
@given(names)
def test_the_first_assignment_depends_on_names_alone(members: set[str]) -> None:
    assert assign(members, SLOTS) == assign(sorted(members, reverse=True), SLOTS)


def test_most_of_a_first_assignment_is_where_a_plain_ring_has_it() -> None:
    one, two = assign([f"c-{n}" for n in range(10)], 4096), assign([f"c-{n}" for n in range(11)], 4096)
    # A tenth has to move; dealing anew by number would move nine tenths.
    assert moved(one, two) < 4096 * 0.3


def test_a_member_at_both_ends_has_two_ranges_and_those_in_the_middle() -> None:
    assert ranges({0: "a", 1: "b", 2: "a", 3: "b", 4: "a"}) == {"a": [(0, 0), (2, 2), (4, 4)], "b": [(1, 1), (3, 3)]}


def test_nobody_has_nothing_and_slots_beyond_the_number_are_forgotten() -> None:
    assert assign([], 16) == {}
    assert set(assign(["a"], 4, {9: "a", 3: "b"})) == {0, 1, 2, 3}


def test_fewer_slots_than_members() -> None:
    found = counts(assign([f"c-{n}" for n in range(9)], 4))
    assert sorted(found.values()) == [1, 1, 1, 1]
