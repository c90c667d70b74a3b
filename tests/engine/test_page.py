"""What is read of engines' pages of metrics."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.engine.page import SERIES, Average, EnginePage, read_page, series_of
from pybrix.simulator.options import SimulatorOptions
from tests.support.simulated import simulated

VLLM = b"""# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="org/a}b\\"c"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 2.0
vllm:num_requests_waiting{engine="0",model_name="m"} 1.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.75
vllm:prompt_tokens_total{engine="0",model_name="m"} 8.128902e+06
vllm:generation_tokens_total{engine="0",model_name="m"} 100.0
vllm:prefix_cache_queries_total{engine="0",model_name="m"} 200.0
vllm:prefix_cache_hits_total{engine="0",model_name="m"} 50.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.001",model_name="m"} 0.0
vllm:time_to_first_token_seconds_count{engine="0",model_name="m"} 7.0
vllm:time_to_first_token_seconds_sum{engine="0",model_name="m"} 3.5
vllm:inter_token_latency_seconds_count{engine="0",model_name="m"} 70.0
vllm:inter_token_latency_seconds_sum{engine="0",model_name="m"} 0.7
vllm:cache_config_info{block_size="16",engine="0",num_gpu_blocks="1000"} 1.0
vllm:cache_config_info{block_size="16",engine="1",num_gpu_blocks="None"} 1.0
vllm:lora_requests_info{max_lora="4",running_lora_adapters="old",waiting_lora_adapters=""} 1.0e+09
vllm:lora_requests_info{max_lora="4",running_lora_adapters="a, b",waiting_lora_adapters="c"} 1.7e+09
vllm:lora_requests_info{max_lora="4",running_lora_adapters="",waiting_lora_adapters=""} 1.1e+09
process_start_time_seconds 1.5e+09
"""


def test_vllm() -> None:
    assert read_page(VLLM, "vllm") == EnginePage(
        running=5.0,
        waiting=1.0,
        kv_cache_ratio=0.75,
        kv_capacity_tokens=16_000,
        prompt_tokens=8128902.0,
        generation_tokens=100.0,
        prefix_queries=200.0,
        prefix_hits=50.0,
        ttft=Average(3.5, 7.0),
        tpot=Average(0.7, 70.0),
        started_s=1.5e9,
        max_loras=4,
        running_loras=frozenset({"a", "b"}),
        waiting_loras=frozenset({"c"}),
    )


def test_old_names_count_where_new_ones_are_missing() -> None:
    page = b"vllm:gpu_cache_usage_perc 0.5\nvllm:time_per_output_token_seconds_sum 2\n"
    page += b"vllm:time_per_output_token_seconds_count 4\nvllm:cpu_cache_usage_perc 0.1"
    got = read_page(page, "")
    assert (got.kv_cache_ratio, got.cpu_cache_ratio, got.tpot) == (0.5, 0.1, Average(2.0, 4.0))


def test_sglang() -> None:
    page = b"""sglang:num_running_reqs{model_name="m",tp_rank="0"} 4.0
sglang:num_queue_reqs{model_name="m"} 2
sglang:token_usage{model_name="m"} 0.28
sglang:max_total_num_tokens{model_name="m"} 454044.0
sglang:gen_throughput{model_name="m"} 86.5
sglang:cache_hit_rate{model_name="m"} 0.5
sglang:time_to_first_token_seconds_sum{model_name="m"} 2.0
sglang:time_to_first_token_seconds_count{model_name="m"} 11
"""
    assert read_page(page, "sglang") == EnginePage(
        running=4.0,
        waiting=2.0,
        kv_cache_ratio=0.28,
        kv_capacity_tokens=454_044,
        generation_tokens_per_s=86.5,
        prefix_hit_ratio=0.5,
        ttft=Average(2.0, 11.0),
    )


def test_tensorrt_llm_is_asked_at_a_path_of_its_own() -> None:
    assert series_of("trtllm").path == "/prometheus/metrics"
    page = b"trtllm_kv_cache_utilization 0.5\ntrtllm_kv_cache_hit_rate 0.25\ntrtllm_e2e_request_latency_seconds_sum 9\n"
    got = read_page(page + b"trtllm_e2e_request_latency_seconds_count 3\n", "trtllm")
    assert (got.kv_cache_ratio, got.prefix_hit_ratio, got.e2e, got.running) == (0.5, 0.25, Average(9.0, 3.0), None)


def test_llamacpp_and_xllm() -> None:
    got = read_page(b"llamacpp:requests_processing 1\nllamacpp:requests_deferred 2\n", "llamacpp")
    assert (got.running, got.waiting, got.kv_cache_ratio) == (1.0, 2.0, None)
    got = read_page(b"kv_cache_utilization 0.5\nengine_utilization 0.9\n", "xllm")
    assert (got.kv_cache_ratio, got.utilization_ratio) == (0.5, 0.9)


@pytest.mark.parametrize("label", ["", "vllm", "something-new"])
def test_an_engine_without_names_is_read_as_vllm(label: str) -> None:
    assert read_page(b"vllm:num_requests_running 2\n", label).running == 2.0
    assert series_of(label) is SERIES["vllm"]


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"<html>404</html>", id="something else"),
        pytest.param(b"vllm:num_requests_running", id="it is cut off behind the name"),
        pytest.param(b'vllm:num_requests_running{engine="0', id="it is cut off in the labels"),
        pytest.param(b"vllm:num_requests_running many\n", id="no number"),
        pytest.param(b"vllm:num_requests_running NaN\n", id="not a number"),
        pytest.param(b"vllm:num_requests_running_total 1\n", id="another name that begins like it"),
        pytest.param(b"my_vllm:num_requests_running 1\n", id="another name that ends like it"),
        pytest.param(b"# HELP vllm:num_requests_running 1\n", id="a comment"),
    ],
)
def test_what_is_not_understood_counts_as_absent(page: bytes) -> None:
    assert read_page(page, "vllm") == EnginePage()


def test_a_ratio_stays_in_range() -> None:
    assert read_page(b"vllm:kv_cache_usage_perc 1.7\n", "").kv_cache_ratio == 1.0
    assert read_page(b"vllm:kv_cache_usage_perc -0.1\n", "").kv_cache_ratio == 0.0


@given(st.binary(max_size=300), st.sampled_from(sorted(SERIES)))
def test_no_page_raises(noise: bytes, engine: str) -> None:
    read_page(noise, engine)
    read_page(VLLM[: len(noise) * 5] + noise, engine)


async def test_the_simulator_says_what_is_read() -> None:
    async with simulated(SimulatorOptions(("m",))) as world:
        await world.chat("hello " * 50, max_tokens=3)
        async with world.client.get(series_of("vllm").path) as answer:
            got = read_page(await answer.read(), "vllm")
    assert (got.running, got.waiting, got.generation_tokens) == (0.0, 0.0, 3.0)
    assert got.prompt_tokens
    assert got.kv_capacity_tokens
    assert got.kv_cache_ratio is not None
    for average in (got.ttft, got.e2e, got.queue, got.prefill, got.decode):
        assert average is not None
        assert average.count == 1.0


def test_every_name_is_of_one_quantity() -> None:
    for series in SERIES.values():
        names = [n for f in dataclasses.fields(series) for n in _names(getattr(series, f.name)) if f.name != "path"]
        assert len(names) == len(set(names))


def _names(value: object) -> list[str]:
    return [value] if isinstance(value, str) and value else list(value) if isinstance(value, tuple) else []
