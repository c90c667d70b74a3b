from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.base.clock import format_rfc3339, format_rfc3339_micro, parse_rfc3339


@given(st.datetimes(timezones=st.just(UTC), min_value=datetime(1970, 1, 1), max_value=datetime(9000, 1, 1)))
def test_micro_time_round_trips(moment: datetime) -> None:
    assert parse_rfc3339(format_rfc3339_micro(moment)) == moment


def test_time_has_whole_seconds_and_a_z() -> None:
    assert format_rfc3339(datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)) == "2026-01-02T03:04:05Z"


def test_an_offset_is_turned_into_utc() -> None:
    assert parse_rfc3339("2026-01-02T04:00:00+01:00") == datetime(2026, 1, 2, 3, tzinfo=UTC)


def test_a_time_without_offset_is_refused() -> None:
    with pytest.raises(ValueError, match="no UTC offset"):
        parse_rfc3339("2026-01-02T04:00:00")
