"""How requests ended, by model and strategy."""

from __future__ import annotations

import msgspec
import pytest

from pybrix.api.identity import Uid
from pybrix.gateway.framework.outcome import AccessRecord
from pybrix.gateway.framework.types import EndpointId
from pybrix.gateway.indexes.traffic import Traffic, TrafficTable

HERE = EndpointId(Uid("u"), 8000)
KEY = ("default", "m", "random")
DONE = AccessRecord("r", False, "127.0.0.1:1", 200, "", 250.0, 1000.0, 100, 11, 0, 1, "id", "default/m")


def only(table: TrafficTable) -> Traffic:
    ((_, traffic),) = list(table)
    return traffic


def test_a_stream_tells_times_and_tokens() -> None:
    table = TrafficTable()
    table.add(KEY, HERE, DONE, True, 5.0)
    traffic = only(table)
    assert (traffic.ttft_s.total, traffic.duration_s.total) == (0.25, 1.0)
    assert traffic.tpot_s.total == pytest.approx(0.075)
    assert (traffic.prompt_tokens.total, traffic.completion_tokens.total, traffic.with_usage) == (100, 11, 1)
    assert traffic.statuses == {200: 1}
    for got in (table.ttft_s(("default", "m"), 0.5, 6.0), table.endpoint_ttft_s(HERE, 0.99, 6.0)):
        assert got == pytest.approx(0.25, rel=0.15)


@pytest.mark.parametrize(
    ("changes", "is_stream", "ttfts", "durations"),
    [
        pytest.param({}, False, 0, 1, id="a whole answer has no first token"),
        pytest.param({"ttft_ms": 999.9}, None, 0, 1, id="by the fallback, it came whole"),
        pytest.param({}, None, 1, 1, id="by the fallback, it came in pieces"),
        pytest.param({"status": 503}, True, 0, 0, id="failed"),
        pytest.param({"status": 0, "ttft_ms": None}, True, 0, 0, id="no answer"),
    ],
)
def test_times_are_of_what_succeeded(
    changes: dict[str, object], is_stream: bool | None, ttfts: int, durations: int
) -> None:
    table = TrafficTable()
    table.add(KEY, HERE, msgspec.structs.replace(DONE, **changes), is_stream, 5.0)
    traffic = only(table)
    assert (traffic.ttft_s.count, traffic.duration_s.count, sum(traffic.statuses.values())) == (ttfts, durations, 1)


def test_models_of_one_name_in_two_namespaces_are_two() -> None:
    table = TrafficTable()
    table.add(KEY, HERE, DONE, True, 5.0)
    table.add(("team", "m", "random"), None, msgspec.structs.replace(DONE, status=500), True, 5.0)
    assert table.statuses(("default", "m")) == {200: 1}
    assert table.statuses(("team", "m")) == {500: 1}
    assert table.ttft_s(("team", "m"), 0.5, 5.0) is None


def test_what_is_gone_is_forgotten() -> None:
    table = TrafficTable()
    table.add(KEY, HERE, DONE, True, 5.0)
    table.retain([("default", "m")], [])
    assert table.endpoint_ttft_s(HERE, 0.5, 5.0) is None
    assert table.statuses(("default", "m")) == {200: 1}
    table.retain([], [])
    assert list(table) == []
