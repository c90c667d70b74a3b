"""When the last Envoy is gone: all its connections closed, and it was one that records."""

from __future__ import annotations

import pytest

from pybrix.gateway.presence import EnvoyPresence


@pytest.mark.parametrize(
    ("events", "times_gone"),
    [
        ("q-", 0),
        ("r-", 1),
        ("qr--", 1),
        ("rq-", 0),
        ("qqrr---", 0),
        ("qqrr----", 1),
        ("qr--q-q-", 1),
        ("qr--qr--", 2),
        ("r-r-", 2),
        ("qrqr--q-", 0),
    ],
    ids=[
        "a probe",
        "records alone",
        "both kinds",
        "one is left",
        "a successor of the killed one lives",
        "both have died",
        "probes after a death",
        "two deaths",
        "two deaths of one that only records",
        "a successor asks on",
    ],
)
def test_only_the_last_connection_of_one_that_records_tells(events: str, times_gone: int) -> None:
    gone: list[str] = []
    presence = EnvoyPresence(lambda: gone.append("gone"))
    act = {"q": presence.questions_opened, "r": presence.records_opened, "-": presence.closed}
    for event in events:
        act[event]()
    assert len(gone) == times_gone
