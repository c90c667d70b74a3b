"""Registers merge in any order, any grouping, any number of times."""

from __future__ import annotations

from copy import deepcopy

from hypothesis import given
from hypothesis import strategies as st

from pybrix.gateway.statesync.registers import NEVER, Cell, Registers, Version

versions = st.tuples(st.integers(0, 2), st.integers(1, 6))
values = st.lists(st.integers(0, 3), max_size=2).map(tuple)


@st.composite
def states(draw: st.DrawFn) -> Registers[str]:
    """States as messages make them, and also such as no honest writer makes: one version with two values."""
    merged: Registers[str] = Registers()
    for _ in range(draw(st.integers(0, 4))):
        version: Version = draw(versions)
        cells: dict[str, Cell] = {key: (version, draw(values)) for key in draw(st.sets(st.sampled_from("abc")))}
        merged.merge(Registers(version if draw(st.booleans()) else NEVER, cells))
    return merged


def join(*several: Registers[str]) -> Registers[str]:
    merged: Registers[str] = Registers()
    for state in several:
        merged.merge(deepcopy(state))
    return merged


@given(states(), states())
def test_merging_commutes(a: Registers[str], b: Registers[str]) -> None:
    assert join(a, b) == join(b, a)


@given(states(), states(), states())
def test_merging_associates(a: Registers[str], b: Registers[str], c: Registers[str]) -> None:
    assert join(join(a, b), c) == join(a, join(b, c))


@given(states(), states())
def test_merging_again_changes_nothing(a: Registers[str], b: Registers[str]) -> None:
    merged = join(a, b)
    before = deepcopy(merged)
    assert merged.merge(a) == set()
    assert merged.merge(b) == set()
    assert merged == before


@given(states(), states())
def test_what_has_changed_is_told_and_nothing_else(a: Registers[str], b: Registers[str]) -> None:
    merged = deepcopy(a)
    changed = merged.merge(b)
    assert changed == {key for key in "abc" if merged.values(key) != a.values(key)}


history = st.lists(
    st.tuples(st.booleans(), st.dictionaries(st.sampled_from("abcd"), values, max_size=4)), min_size=1, max_size=8
)


@given(history, st.randoms(use_true_random=False))
def test_every_order_of_one_writers_messages_ends_with_what_it_said_last(
    said: list[tuple[bool, dict[str, tuple[int, ...]]]], chance: object
) -> None:
    want: dict[str, tuple[int, ...]] = {}
    messages: list[Registers[str]] = []
    for number, (is_whole, cells) in enumerate(said):
        version = (1, number)
        want = dict(cells) if is_whole else {**want, **cells}
        messages.append(Registers(version if is_whole else NEVER, {k: (version, v) for k, v in cells.items()}))
    shuffled = messages * 2
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    got = join(*shuffled)
    assert {key: got.values(key) for key in got if got.values(key)} == {key: v for key, v in want.items() if v}


def test_a_later_incarnation_outranks_all_that_the_earlier_said() -> None:
    merged = join(Registers(NEVER, {"a": ((1, 900), (5,))}), Registers((2, 1), {"b": ((2, 1), (1,))}))
    assert merged.values("a") is None
    assert merged.merge(Registers(NEVER, {"a": ((1, 901), (6,))})) == set()
    assert merged.values("a") is None


def test_beyond_the_bound_what_was_written_longest_ago_goes() -> None:
    merged: Registers[int] = Registers()
    for number in range(10):
        merged.merge(Registers(NEVER, {number: ((1, number), (1,))}))
    assert merged.trim(4) == set(range(6))
    assert sorted(merged) == [6, 7, 8, 9]
    assert merged.trim(4) == set()
