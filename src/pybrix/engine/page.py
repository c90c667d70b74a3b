"""What a router reads of an engine's Prometheus page: loads, caches, counters, adapters. Pure.

Each quantity has one name per engine, or several where versions differ: the first that the page has counts. Over label
sets (one per data-parallel rank) counts add up, and of ratios the largest counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from pybrix.engine.prometheus import SeriesReader, parse_labels

METRICS_PATH = "/metrics"
Names = tuple[str, ...]


class Average(msgspec.Struct, frozen=True, gc=False):
    """Sum and count of a histogram, both growing while the engine lives."""

    total: float
    count: float


class EnginePage(msgspec.Struct, frozen=True, gc=False):
    """One page. None: the engine has no such series. Counters and averages are since the engine started."""

    running: float | None = None
    waiting: float | None = None
    kv_cache_ratio: float | None = None
    cpu_cache_ratio: float | None = None
    utilization_ratio: float | None = None
    kv_capacity_tokens: int | None = None
    generation_tokens_per_s: float | None = None
    """As the engine itself says it, where it does."""
    prefix_hit_ratio: float | None = None
    """The same."""
    prompt_tokens: float | None = None
    generation_tokens: float | None = None
    prefix_queries: float | None = None
    prefix_hits: float | None = None
    queue: Average | None = None
    prefill: Average | None = None
    decode: Average | None = None
    ttft: Average | None = None
    tpot: Average | None = None
    e2e: Average | None = None
    started_s: float | None = None
    """When the engine's process started."""
    max_loras: int | None = None
    running_loras: frozenset[str] = frozenset()
    waiting_loras: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Series:
    """Names of one engine's series; () where it has none. Histograms are named without `_sum` and `_count`."""

    running: Names = ()
    waiting: Names = ()
    kv_cache_ratio: Names = ()
    cpu_cache_ratio: Names = ()
    utilization_ratio: Names = ()
    kv_capacity_tokens: Names = ()
    generation_tokens_per_s: Names = ()
    prefix_hit_ratio: Names = ()
    prompt_tokens: Names = ()
    generation_tokens: Names = ()
    prefix_queries: Names = ()
    prefix_hits: Names = ()
    queue: Names = ()
    prefill: Names = ()
    decode: Names = ()
    ttft: Names = ()
    tpot: Names = ()
    e2e: Names = ()
    cache_config: str = ""
    """Its labels `num_gpu_blocks` and `block_size` say how many tokens the KV cache holds."""
    loras: str = ""
    """Its labels `max_lora`, `running_lora_adapters`, `waiting_lora_adapters`; its value is when that was so."""
    started: Names = ("process_start_time_seconds",)
    """When the process started; another value means that counters began anew."""
    path: str = METRICS_PATH

    def names(self) -> set[str]:
        """Return every name that a page may have."""
        histograms = (self.queue, self.prefill, self.decode, self.ttft, self.tpot, self.e2e)
        plain = (
            self.running,
            self.waiting,
            self.kv_cache_ratio,
            self.cpu_cache_ratio,
            self.utilization_ratio,
            self.kv_capacity_tokens,
            self.generation_tokens_per_s,
            self.prefix_hit_ratio,
            self.prompt_tokens,
            self.generation_tokens,
            self.prefix_queries,
            self.prefix_hits,
            self.started,
            tuple(name for name in (self.cache_config, self.loras) if name),
        )
        return {name for names in plain for name in names} | {
            f"{name}_{part}" for names in histograms for name in names for part in ("sum", "count")
        }


VLLM = "vllm"
SERIES: Mapping[str, Series] = {
    VLLM: Series(
        running=("vllm:num_requests_running",),
        waiting=("vllm:num_requests_waiting",),
        kv_cache_ratio=("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
        cpu_cache_ratio=("vllm:cpu_cache_usage_perc",),
        prompt_tokens=("vllm:prompt_tokens_total",),
        generation_tokens=("vllm:generation_tokens_total",),
        prefix_queries=("vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total"),
        prefix_hits=("vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total"),
        queue=("vllm:request_queue_time_seconds",),
        prefill=("vllm:request_prefill_time_seconds",),
        decode=("vllm:request_decode_time_seconds",),
        ttft=("vllm:time_to_first_token_seconds",),
        tpot=("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"),
        e2e=("vllm:e2e_request_latency_seconds",),
        cache_config="vllm:cache_config_info",
        loras="vllm:lora_requests_info",
    ),
    "sglang": Series(
        running=("sglang:num_running_reqs",),
        waiting=("sglang:num_queue_reqs",),
        kv_cache_ratio=("sglang:token_usage",),
        kv_capacity_tokens=("sglang:max_total_num_tokens",),
        generation_tokens_per_s=("sglang:gen_throughput",),
        prefix_hit_ratio=("sglang:cache_hit_rate",),
        prompt_tokens=("sglang:prompt_tokens_total",),
        generation_tokens=("sglang:generation_tokens_total",),
        queue=("sglang:queue_time_seconds",),
        ttft=("sglang:time_to_first_token_seconds",),
        tpot=("sglang:inter_token_latency_seconds", "sglang:time_per_output_token_seconds"),
        e2e=("sglang:e2e_request_latency_seconds",),
    ),
    "trtllm": Series(
        kv_cache_ratio=("trtllm_kv_cache_utilization",),
        prefix_hit_ratio=("trtllm_kv_cache_hit_rate",),
        queue=("trtllm_request_queue_time_seconds",),
        ttft=("trtllm_time_to_first_token_seconds",),
        tpot=("trtllm_time_per_output_token_seconds",),
        e2e=("trtllm_e2e_request_latency_seconds",),
        path="/prometheus/metrics",
    ),
    "xllm": Series(
        kv_cache_ratio=("kv_cache_utilization",),
        utilization_ratio=("engine_utilization",),
    ),
    "llamacpp": Series(
        running=("llamacpp:requests_processing",),
        waiting=("llamacpp:requests_deferred",),
        kv_cache_ratio=("llamacpp:kv_cache_usage_ratio",),
        prompt_tokens=("llamacpp:prompt_tokens_total",),
        generation_tokens=("llamacpp:tokens_predicted_total",),
    ),
}
"""By the value of the label `model.aibrix.ai/engine`."""


def series_of(engine: str) -> Series:
    """Return the series of the engine that a label names: vLLM's when there is no label or no such engine."""
    return SERIES.get(engine) or SERIES[VLLM]


_Samples = Mapping[str, list[tuple[bytes, float]]]
_READERS = {engine: SeriesReader(series.names()) for engine, series in SERIES.items()}


def read_page(page: bytes, engine: str) -> EnginePage:
    """Return what the page says. Anything may be in a page: what is not understood counts as absent.

    Args:
        engine: as in `series_of`.
    """
    series = series_of(engine)
    found = _READERS[engine if engine in _READERS else VLLM].read(page)
    max_loras, running, waiting = _loras(found.get(series.loras, []))
    return EnginePage(
        running=_sum(found, series.running),
        waiting=_sum(found, series.waiting),
        kv_cache_ratio=_ratio(found, series.kv_cache_ratio),
        cpu_cache_ratio=_ratio(found, series.cpu_cache_ratio),
        utilization_ratio=_ratio(found, series.utilization_ratio),
        kv_capacity_tokens=_capacity(found, series),
        generation_tokens_per_s=_sum(found, series.generation_tokens_per_s),
        prefix_hit_ratio=_ratio(found, series.prefix_hit_ratio),
        prompt_tokens=_sum(found, series.prompt_tokens),
        generation_tokens=_sum(found, series.generation_tokens),
        prefix_queries=_sum(found, series.prefix_queries),
        prefix_hits=_sum(found, series.prefix_hits),
        queue=_average(found, series.queue),
        prefill=_average(found, series.prefill),
        decode=_average(found, series.decode),
        ttft=_average(found, series.ttft),
        tpot=_average(found, series.tpot),
        e2e=_average(found, series.e2e),
        started_s=_sum(found, series.started),
        max_loras=max_loras,
        running_loras=running,
        waiting_loras=waiting,
    )


def _values(found: _Samples, names: Names) -> list[float]:
    """Return the values of the first of the names that is there; NaN and infinities are no values."""
    for name in names:
        if samples := found.get(name):
            return [value for _, value in samples if math.isfinite(value)]
    return []


def _sum(found: _Samples, names: Names) -> float | None:
    values = _values(found, names)
    return sum(values) if values else None


def _ratio(found: _Samples, names: Names) -> float | None:
    values = _values(found, names)
    return min(1.0, max(0.0, *values)) if values else None


def _average(found: _Samples, names: Names) -> Average | None:
    for name in names:
        total, count = _sum(found, (f"{name}_sum",)), _sum(found, (f"{name}_count",))
        if total is not None and count is not None:
            return Average(total, count)
    return None


def _capacity(found: _Samples, series: Series) -> int | None:
    said = _sum(found, series.kv_capacity_tokens)
    if said is not None:
        return int(said) or None
    tokens = 0
    for text, _ in found.get(series.cache_config, []):
        labels = parse_labels(text)
        blocks, size = labels.get("num_gpu_blocks", ""), labels.get("block_size", "")
        # `None` is what vLLM prints before it has measured its memory.
        if blocks.isascii() and blocks.isdigit() and size.isascii() and size.isdigit():
            tokens += int(blocks) * int(size)
    return tokens or None


def _loras(samples: list[tuple[bytes, float]]) -> tuple[int | None, frozenset[str], frozenset[str]]:
    """Return limit, running and waiting adapters. The gauge keeps every state there ever was: the newest counts."""
    if not samples:
        return None, frozenset(), frozenset()
    labels = parse_labels(max(samples, key=lambda sample: sample[1])[0])
    limit = labels.get("max_lora", "")
    return (
        int(limit) if limit.isascii() and limit.isdigit() else None,
        _names(labels.get("running_lora_adapters", "")),
        _names(labels.get("waiting_lora_adapters", "")),
    )


def _names(text: str) -> frozenset[str]:
    return frozenset(name for part in text.split(",") if (name := part.strip()))
