"""What each engine calls the few series that pybrix reads."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Engine(StrEnum):
    """Engines by the value of the label `model.aibrix.ai/engine`."""

    VLLM = "vllm"
    SGLANG = "sglang"
    LLAMACPP = "llamacpp"


@dataclass(frozen=True, slots=True)
class MetricNames:
    """Series names of one engine; None where it has no such series."""

    running: str
    """Gauge: requests in a batch now."""
    waiting: str
    """Gauge: requests that wait for a place in a batch."""
    kv_cache_ratio: str | None
    """Gauge from 0 to 1: share of the KV cache in use."""
    prompt_tokens: str
    """Counter: prompt tokens."""
    generation_tokens: str
    """Counter: generated tokens."""
    prefix_queries: str | None = None
    """Counter: prompt tokens looked up in the prefix cache."""
    prefix_hits: str | None = None
    """Counter: prompt tokens found there."""

    @property
    def load(self) -> tuple[str, ...]:
        """The series that tell how busy an engine is."""
        names = (self.running, self.waiting, self.kv_cache_ratio)
        return tuple(name for name in names if name is not None)


METRIC_NAMES = {
    Engine.VLLM: MetricNames(
        running="vllm:num_requests_running",
        waiting="vllm:num_requests_waiting",
        kv_cache_ratio="vllm:kv_cache_usage_perc",
        prompt_tokens="vllm:prompt_tokens_total",
        generation_tokens="vllm:generation_tokens_total",
        prefix_queries="vllm:prefix_cache_queries_total",
        prefix_hits="vllm:prefix_cache_hits_total",
    ),
    Engine.SGLANG: MetricNames(
        running="sglang:num_running_reqs",
        waiting="sglang:num_queue_reqs",
        kv_cache_ratio="sglang:token_usage",
        prompt_tokens="sglang:prompt_tokens_total",
        generation_tokens="sglang:generation_tokens_total",
    ),
    Engine.LLAMACPP: MetricNames(
        running="llamacpp:requests_processing",
        waiting="llamacpp:requests_deferred",
        # Older builds have `llamacpp:kv_cache_usage_ratio`; current ones dropped it.
        kv_cache_ratio="llamacpp:kv_cache_usage_ratio",
        prompt_tokens="llamacpp:prompt_tokens_total",
        generation_tokens="llamacpp:tokens_predicted_total",
    ),
}


def engine_of(label: str | None) -> Engine:
    """Return the engine that a pod's label names; vllm when there is no label or no such engine.

    Engines that pybrix has no names for (xllm, trtllm) are treated as vLLM, whose series they then lack.
    """
    try:
        return Engine(label or Engine.VLLM)
    except ValueError:
        return Engine.VLLM
