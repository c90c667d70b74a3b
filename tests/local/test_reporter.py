from __future__ import annotations

from pybrix.local.reporter import Reporter
from tests.support.clocks import FakeClock


def test_what_happens_later_has_a_time() -> None:
    lines: list[str] = []
    report = Reporter(lines.append, FakeClock())
    report.note("waiting")
    report.event("brain was replaced")
    assert lines == ["  · waiting", "  · 2026-01-01T00:00:00Z brain was replaced"]
