"""What leaves when room is needed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.sidecar.artifacts.errors import DiskFull
from pybrix.sidecar.artifacts.eviction import Held, Room, plan_eviction

OLD, NEW, PART = Held("old", 40, 1.0), Held("new", 40, 2.0), Held("part", 5, 9.0, is_partial=True)
WIDE = Room(budget_bytes=100, free_bytes=10_000)


def evicted(needed: int, *held: Held, in_use: frozenset[str] = frozenset(), room: Room = WIDE) -> list[str]:
    return [eviction.held.key for eviction in plan_eviction(held, in_use, needed, room)]


@pytest.mark.parametrize(
    ("needed", "held", "want"),
    [
        pytest.param(20, [OLD, NEW], [], id="it fits"),
        pytest.param(21, [OLD, NEW], ["old"], id="the one that was not used for longest"),
        pytest.param(61, [NEW, OLD], ["old", "new"], id="both"),
        pytest.param(20, [OLD, NEW, PART], ["part"], id="parts first, however new"),
        pytest.param(100, [], [], id="all of the budget"),
    ],
)
def test_by_budget(needed: int, held: list[Held], want: list[str]) -> None:
    assert evicted(needed, *held) == want


def test_what_is_in_use_stays() -> None:
    assert evicted(21, OLD, NEW, in_use=frozenset({"old"})) == ["new"]
    with pytest.raises(DiskFull, match="budget lacks 1"):
        evicted(21, OLD, NEW, in_use=frozenset({"old", "new"}))


def test_nothing_is_evicted_for_what_does_not_fit_anyway() -> None:
    with pytest.raises(DiskFull):
        evicted(101, OLD, NEW)


def test_the_disk_counts_as_well_as_the_budget() -> None:
    assert evicted(10, OLD, NEW, room=Room(1000, free_bytes=5)) == ["old"]
    assert evicted(10, OLD, NEW, room=Room(1000, free_bytes=30, pledged_bytes=25, unwritten_bytes=25)) == ["old"]
    with pytest.raises(DiskFull, match="the disk lacks"):
        evicted(100, OLD, room=Room(1000, free_bytes=5))


def test_downloads_under_way_count_against_the_budget() -> None:
    assert evicted(10, OLD, room=Room(100, 10_000, pledged_bytes=60)) == ["old"]


@given(
    st.lists(st.builds(Held, st.text(max_size=3), st.integers(0, 50), st.floats(0, 9), st.booleans()), max_size=8),
    st.sets(st.text(max_size=3)),
    st.integers(0, 100),
    st.builds(Room, st.integers(0, 200), st.integers(0, 200), st.integers(0, 50), st.integers(0, 50)),
)
def test_after_it_everything_fits_and_what_is_in_use_is_there(
    held: list[Held], in_use: set[str], needed: int, room: Room
) -> None:
    try:
        gone = [eviction.held for eviction in plan_eviction(held, in_use, needed, room)]
    except DiskFull:
        rest = sum(one.size_bytes for one in held if one.key in in_use)
        loose = sum(one.size_bytes for one in held if one.key not in in_use)
        assert rest + room.pledged_bytes + needed > room.budget_bytes or (
            needed + room.unwritten_bytes > room.free_bytes + loose
        )
        return
    assert not [one for one in gone if one.key in in_use]
    freed = sum(one.size_bytes for one in gone)
    assert sum(one.size_bytes for one in held) - freed + room.pledged_bytes + needed <= room.budget_bytes or not gone
    assert needed + room.unwritten_bytes <= room.free_bytes + freed or not gone
    if gone:
        # Not one too many.
        less = freed - gone[-1].size_bytes
        assert (
            sum(one.size_bytes for one in held) - less + room.pledged_bytes + needed > room.budget_bytes
            or needed + room.unwritten_bytes > room.free_bytes + less
        )
