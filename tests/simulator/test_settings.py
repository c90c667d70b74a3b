"""Failures, options and the metrics page."""

from __future__ import annotations

import math
from random import Random

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pybrix.base.errors import UsageError
from pybrix.engine.metrics import METRIC_NAMES, Engine
from pybrix.simulator.blocks import root_hash
from pybrix.simulator.failures import FailureKind, Failures, parse_failures
from pybrix.simulator.model import Model, ModelOptions
from pybrix.simulator.options import SimulatorOptions
from pybrix.simulator.telemetry import Telemetry


def test_failures_are_drawn_as_often_as_they_are_told() -> None:
    failures = parse_failures(["cut-stream=0.1", "error-500=0.3"])
    chance = Random(1)
    drawn = [failures.pick(chance) for _ in range(10_000)]
    assert drawn.count(FailureKind.CUT_STREAM) == pytest.approx(1000, rel=0.15)
    assert drawn.count(FailureKind.ERROR_500) == pytest.approx(3000, rel=0.1)
    assert Failures().pick(chance) is None


@pytest.mark.parametrize("specs", [["explode"], ["hang=x"], ["hang=2"], ["hang=-1"], ["hang=0.6", "error-500=0.6"]])
def test_failures_that_make_no_sense_are_refused(specs: list[str]) -> None:
    with pytest.raises(UsageError):
        parse_failures(specs)


def test_a_model_that_cannot_hold_one_sequence_is_refused() -> None:
    with pytest.raises(UsageError, match="num-gpu-blocks-override"):
        SimulatorOptions(("m",), max_model_len=100, model=ModelOptions(block_size=16, num_blocks=6))
    with pytest.raises(UsageError, match="--model"):
        SimulatorOptions(())


def test_the_metrics_page_parses_and_counts() -> None:
    model = Model(ModelOptions(num_blocks=10))
    telemetry = Telemetry('na"me', 1000)
    done = model.submit(b"x" * 40, b"y" * 8, root_hash("m"), 0.0)
    for now_s in (1.0, 2.0):
        step = model.begin_step(now_s - 1)
        assert step is not None
        telemetry.count_step(1)
        model.finish_step(step, now_s)
    telemetry.count_first_token(done, 1.0)
    telemetry.count_token(1.0)
    telemetry.count_end(done, "stop", 2.0)
    model.submit(b"x" * 40, b"y" * 8, root_hash("m"), 2.0)
    model.begin_step(2.0)
    model.submit(b"x" * 40, b"y" * 8, root_hash("m"), 2.0)
    page = telemetry.render(model).decode()
    samples = {
        (sample.name, sample.labels.get("finished_reason"), sample.labels.get("le")): sample
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }
    assert all(s.labels.get("model_name") == 'na"me' for k, s in samples.items() if k[0] != "vllm:cache_config_info")
    values = {key: sample.value for key, sample in samples.items()}
    assert values["vllm:num_requests_running", None, None] == 1
    assert values["vllm:num_requests_waiting", None, None] == 1
    assert values["vllm:kv_cache_usage_perc", None, None] == pytest.approx(0.1)
    assert values["vllm:prompt_tokens_total", None, None] == 10
    assert values["vllm:generation_tokens_total", None, None] == 2
    assert values["vllm:request_success_total", "stop", None] == 1
    assert values["vllm:time_to_first_token_seconds_sum", None, None] == 1.0
    assert values["vllm:time_to_first_token_seconds_bucket", None, "0.75"] == 0
    assert values["vllm:time_to_first_token_seconds_bucket", None, "1.0"] == 1
    assert values["vllm:inter_token_latency_seconds_count", None, None] == 1
    assert values["vllm:e2e_request_latency_seconds_bucket", None, "+Inf"] == 1
    names = METRIC_NAMES[Engine.VLLM]
    wanted = (*names.load, names.prompt_tokens, names.generation_tokens, names.prefix_queries, names.prefix_hits)
    assert all(not math.isnan(values[str(name), None, None]) for name in wanted)
