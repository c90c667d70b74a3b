"""Which Events are over."""

from __future__ import annotations

from pybrix.api.identity import ObjectKey, Uid
from pybrix.cluster.workloads.eventexpiry.plan import SWEEP_S, Note, plan, read_note
from tests.support.workloads import START, at

KEY = ObjectKey("default", "e")


def note(last_s: float | None) -> Note:
    return Note(KEY, Uid(f"u{last_s}"), None if last_s is None else at(last_s))


def test_an_event_lasts_an_hour() -> None:
    over, again_s = plan([note(0), note(1), note(1800)], at(3600))
    assert over == (note(0),)
    assert again_s == SWEEP_S
    over, again_s = plan([note(1), note(1800)], at(3601))
    assert over == (note(1),)
    assert again_s == 1799


def test_without_events_a_look_an_hour_is_enough() -> None:
    assert plan([], START) == ((), 3600)


def test_an_event_without_any_time_goes() -> None:
    assert plan([note(None)], START) == ((note(None),), 3600)


def test_the_latest_time_counts() -> None:
    data = {
        "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"},
        "lastTimestamp": "2026-01-01T00:10:00Z",
        "eventTime": "2026-01-01T00:05:00.000000Z",
        "series": {"lastObservedTime": "nonsense"},
    }
    assert read_note(KEY, Uid("u"), data).last == at(600)
