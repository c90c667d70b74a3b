"""Engines' pages with AIBrix's names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from pybrix.sidecar.enginemetrics import STANDARD_NAMES, translate_page
from pybrix.sidecar.options import EngineKind

VLLM = b"""# HELP vllm:num_requests_waiting Waiting.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="m"} 3.0
# HELP vllm:num_requests_running Running.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{model_name="m"} 2.0
# HELP vllm:prompt_tokens_total Tokens.
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{model_name="a } b\\"c"} 17.0
# TYPE vllm:prompt_tokens_created gauge
vllm:prompt_tokens_created{model_name="m"} 1.7e+09
# HELP vllm:request_success_total Done.
# TYPE vllm:request_success_total counter
vllm:request_success_total{finished_reason="stop"} 5.0
# HELP vllm:time_to_first_token_seconds TTFT.
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{le="0.1"} 1.0
vllm:time_to_first_token_seconds_bucket{le="+Inf"} 2.0
vllm:time_to_first_token_seconds_count 2.0
vllm:time_to_first_token_seconds_sum 0.5
python_info{version="3.12"} 1.0
"""


def families(page: bytes) -> dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]]:
    """Parse a page, and fail where a family comes twice."""
    found: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for family in text_string_to_metric_families(page.decode()):
        assert family.name not in found, f"{family.name} comes twice"
        found[family.name] = {(s.name, tuple(sorted(s.labels.items()))): s.value for s in family.samples}
    return found


def test_vllm() -> None:
    got = families(translate_page(VLLM, EngineKind.VLLM))
    assert got["aibrix:queue_size"] == {("aibrix:queue_size", (("engine", "0"), ("model_name", "m"))): 3.0}
    assert list(got["aibrix:prompt_tokens"].values()) == [17.0]
    assert got["aibrix:request_success"] == {("aibrix:request_success_total", (("finished_reason", "stop"),)): 5.0}
    assert len(got["aibrix:time_to_first_token_seconds"]) == 4
    # What the engine shows stays, once.
    for name, samples in families(VLLM).items():
        assert got[name] == samples


def test_counters_of_openmetrics_whose_families_have_no_suffix() -> None:
    page = b"# TYPE vllm:prompt_tokens counter\nvllm:prompt_tokens_total 4.0\n"
    assert b"# TYPE aibrix:prompt_tokens_total counter\naibrix:prompt_tokens_total 4.0\n" in translate_page(
        page, EngineKind.VLLM
    )


def test_a_page_that_repeats_families_and_series_is_mended() -> None:
    got = translate_page(VLLM + VLLM, EngineKind.VLLM)
    assert got == translate_page(VLLM, EngineKind.VLLM)


def test_families_of_the_sidecar_itself_are_left_to_it() -> None:
    page = b"# TYPE aibrix:info gauge\naibrix:info 1.0\n" + VLLM
    got = families(translate_page(page, EngineKind.VLLM, frozenset({"aibrix:info"})))
    assert "aibrix:info" not in got


@pytest.mark.parametrize("kind", list(EngineKind))
def test_every_name_of_every_engine_is_found(kind: EngineKind) -> None:
    registry = CollectorRegistry()
    for theirs in STANDARD_NAMES[kind]:
        if theirs.endswith("_total"):
            Counter(theirs, "x", registry=registry).inc(2)
        elif theirs.endswith("_seconds"):
            Histogram(theirs, "x", registry=registry).observe(2)
        else:
            Gauge(theirs, "x", registry=registry).set(2)
    got = families(translate_page(generate_latest(registry), kind))
    for ours in STANDARD_NAMES[kind].values():
        assert ours.removesuffix("_total") in got


@given(st.binary(max_size=200), st.sampled_from(list(EngineKind)))
def test_any_page_is_survived(page: bytes, kind: EngineKind) -> None:
    assert translate_page(page, kind) == translate_page(translate_page(page, kind), kind)
