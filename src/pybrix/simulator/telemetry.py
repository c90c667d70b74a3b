"""The simulator's `/metrics` page: vLLM V1's names, labels and buckets. Pure: values in, text out.

Counting one observation costs a fraction of a microsecond, since it happens for every token; the text is only made
when somebody asks. Source of the names: `vllm/v1/metrics/loggers.py`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Sequence_
from itertools import accumulate

from pybrix.simulator.model import Model, Sequence

_TTFT_BUCKETS_S = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0),
    *(2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
_TOKEN_BUCKETS_S = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0),
    *(2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
_REQUEST_BUCKETS_S = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
_ADAPTER_STAMPS = 8
_ITERATION_BUCKETS = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)


class Histogram:
    """Cumulative buckets of one Prometheus histogram."""

    def __init__(self, name: str, help_text: str, bounds: Sequence_[float]) -> None:
        self.name = name
        self.help_text = help_text
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def render(self, labels: str) -> Iterator[str]:
        """Yield the lines of the page."""
        yield f"# HELP {self.name} {self.help_text}"
        yield f"# TYPE {self.name} histogram"
        for bound, total in zip((*self._bounds, None), accumulate(self._counts), strict=True):
            edge = "+Inf" if bound is None else repr(float(bound))
            yield f'{self.name}_bucket{{{labels},le="{edge}"}} {total}.0'
        yield f"{self.name}_count{{{labels}}} {sum(self._counts)}.0"
        yield f"{self.name}_sum{{{labels}}} {self._sum!r}"


class Telemetry:
    """Count what one engine does. Durations are those of the model's clock."""

    def __init__(self, model_name: str, max_model_len: int) -> None:
        self._labels = f'engine="0",model_name="{_escape(model_name)}"'
        # Running and waiting adapters, and when that was last so. As vLLM's, the page keeps those that are no longer
        # so: readers take the youngest. Only the last few here.
        self._adapter_stamps: dict[tuple[str, str], float] = {}
        self._prompt_tokens = 0
        self._generation_tokens = 0
        self._finished = {"stop": 0, "length": 0, "abort": 0, "error": 0}
        sizes = _buckets_1_2_5(max_model_len)
        self._ttft = Histogram("vllm:time_to_first_token_seconds", "Histogram of time to first token.", _TTFT_BUCKETS_S)
        self._itl = Histogram("vllm:inter_token_latency_seconds", "Histogram of inter-token latency.", _TOKEN_BUCKETS_S)
        self._tpot = Histogram(
            "vllm:request_time_per_output_token_seconds",
            "Histogram of time per output token of a request.",
            _TOKEN_BUCKETS_S,
        )
        self._e2e = Histogram(
            "vllm:e2e_request_latency_seconds", "Histogram of end-to-end request latency.", _REQUEST_BUCKETS_S
        )
        self._queue = Histogram(
            "vllm:request_queue_time_seconds", "Histogram of time in the WAITING phase.", _REQUEST_BUCKETS_S
        )
        self._inference = Histogram(
            "vllm:request_inference_time_seconds", "Histogram of time in the RUNNING phase.", _REQUEST_BUCKETS_S
        )
        self._prefill = Histogram(
            "vllm:request_prefill_time_seconds", "Histogram of time in the PREFILL phase.", _REQUEST_BUCKETS_S
        )
        self._decode = Histogram(
            "vllm:request_decode_time_seconds", "Histogram of time in the DECODE phase.", _REQUEST_BUCKETS_S
        )
        self._request_prompt = Histogram("vllm:request_prompt_tokens", "Prefill tokens per request.", sizes)
        self._request_generation = Histogram("vllm:request_generation_tokens", "Generated tokens per request.", sizes)
        self._iteration = Histogram(
            "vllm:iteration_tokens_total", "Histogram of tokens per engine step.", _ITERATION_BUCKETS
        )

    def note_adapters(self, model: Model, now_s: float) -> None:
        """Note which adapters have running and waiting requests now, in seconds since the epoch."""
        key = (_adapter_names(model.running), _adapter_names(model.waiting))
        self._adapter_stamps.pop(key, None)
        self._adapter_stamps[key] = now_s
        if len(self._adapter_stamps) > _ADAPTER_STAMPS:
            del self._adapter_stamps[next(iter(self._adapter_stamps))]

    def count_step(self, num_tokens: int) -> None:
        """Count one step that computed so many tokens."""
        self._iteration.observe(num_tokens)

    def count_first_token(self, sequence: Sequence, now_s: float) -> None:
        """Count the first token of a request, and its prompt as done."""
        self._ttft.observe(now_s - sequence.arrival_s)
        self._prompt_tokens += sequence.num_prompt
        self._generation_tokens += 1

    def count_token(self, since_previous_s: float) -> None:
        """Count a later token."""
        self._itl.observe(since_previous_s)
        self._generation_tokens += 1

    def count_end(self, sequence: Sequence, reason: str, now_s: float) -> None:
        """Count a request's end: `stop`, `length`, `abort` or `error`."""
        self._finished[reason] += 1
        self._e2e.observe(now_s - sequence.arrival_s)
        self._request_prompt.observe(sequence.num_prompt)
        self._request_generation.observe(sequence.num_emitted)
        if sequence.scheduled_s is None:
            return
        self._queue.observe(sequence.scheduled_s - sequence.arrival_s)
        if sequence.first_token_s is None or sequence.last_token_s is None:
            return
        decode_s = sequence.last_token_s - sequence.first_token_s
        self._prefill.observe(sequence.first_token_s - sequence.scheduled_s)
        self._inference.observe(sequence.last_token_s - sequence.scheduled_s)
        self._decode.observe(decode_s)
        if sequence.num_emitted > 1:
            self._tpot.observe(decode_s / (sequence.num_emitted - 1))

    def render(self, model: Model) -> bytes:
        """Render the page; gauges are the model's state now."""
        lines: list[str] = []
        labels = self._labels
        for name, help_text, gauge in (
            ("num_requests_running", "Number of requests in model execution batches.", float(len(model.running))),
            ("num_requests_waiting", "Number of requests waiting to be processed.", float(len(model.waiting))),
            ("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", model.pool.usage_ratio),
        ):
            lines += (
                f"# HELP vllm:{name} {help_text}",
                f"# TYPE vllm:{name} gauge",
                f"vllm:{name}{{{labels}}} {gauge!r}",
            )
        for name, help_text, total in (
            ("prefix_cache_queries", "Prefix cache queries, in tokens.", model.num_prefix_queries),
            ("prefix_cache_hits", "Prefix cache hits, in cached tokens.", model.num_prefix_hits),
            ("num_preemptions", "Cumulative number of preemptions.", model.num_preemptions),
            ("prompt_tokens", "Number of prefill tokens processed.", self._prompt_tokens),
            ("generation_tokens", "Number of generation tokens processed.", self._generation_tokens),
        ):
            lines += (
                f"# HELP vllm:{name}_total {help_text}",
                f"# TYPE vllm:{name}_total counter",
                f"vllm:{name}_total{{{labels}}} {total}.0",
            )
        lines += (
            "# HELP vllm:request_success_total Count of successfully processed requests.",
            "# TYPE vllm:request_success_total counter",
        )
        for reason, total in self._finished.items():
            lines.append(f'vllm:request_success_total{{{labels},finished_reason="{reason}"}} {total}.0')
        options = model.options
        lines += (
            "# HELP vllm:cache_config_info Information of the LLMEngine CacheConfig",
            "# TYPE vllm:cache_config_info gauge",
            f'vllm:cache_config_info{{block_size="{options.block_size}",enable_prefix_caching="True",engine="0",'
            f'num_gpu_blocks="{options.num_blocks}",num_gpu_blocks_override="{options.num_blocks}"}} 1.0',
        )
        if self._adapter_stamps:
            lines += (
                "# HELP vllm:lora_requests_info Running stats on lora requests.",
                "# TYPE vllm:lora_requests_info gauge",
            )
        for (running, waiting), stamp_s in self._adapter_stamps.items():
            lines.append(
                f'vllm:lora_requests_info{{max_lora="{model.adapters.options.max_loras}",'
                f'running_lora_adapters="{_escape(running)}",waiting_lora_adapters="{_escape(waiting)}"}} {stamp_s!r}'
            )
        for histogram in (
            *(self._ttft, self._itl, self._tpot, self._e2e, self._queue, self._inference, self._prefill, self._decode),
            *(self._request_prompt, self._request_generation, self._iteration),
        ):
            lines.extend(histogram.render(labels))
        # The name that `inter_token_latency_seconds` had before; current vLLM shows both.
        renamed = "vllm:time_per_output_token_seconds"
        lines += (line.replace(self._itl.name, renamed) for line in self._itl.render(labels))
        return ("\n".join(lines) + "\n").encode()


def _adapter_names(sequences: Iterable[Sequence]) -> str:
    return ",".join(dict.fromkeys(seq.adapter.name for seq in sequences if seq.adapter is not None))


def _escape(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _buckets_1_2_5(largest: int) -> list[float]:
    """Return 1, 2, 5, 10, 20, 50, ... up to a value."""
    bounds: list[float] = []
    decade = 1
    while True:
        for factor in (1, 2, 5):
            if factor * decade > largest:
                return bounds
            bounds.append(factor * decade)
        decade *= 10
