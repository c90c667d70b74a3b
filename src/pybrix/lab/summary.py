"""What a replay comes to, in numbers. Pure.

hit_ratio        prompt tokens that engines found in their cache / prompt tokens, of requests that were answered
imbalance        tokens computed (prompts and answers) in windows of 10 s: by window the busiest pod's over the mean
                 of all pods'; the mean over windows, weighted by their tokens. 1 is even
throughput       answered requests, and their tokens, over the time from the first arrival to the last answer
percentiles      nearest rank. A request without a first token counts with the time it has waited at the end
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from pybrix.lab.replay import Result

PERCENTS = (50, 90, 99)


class Summary(msgspec.Struct, frozen=True, rename="camel"):
    """One run. Seconds, and tokens a second."""

    strategy: str
    seed: int
    pods: int
    speed: float
    load: float | None
    """Relative to where `least-request` saturates; None when that was not asked for."""
    requests: int
    failed: int
    unfinished: int
    ttft_p50_s: float
    ttft_p90_s: float
    ttft_p99_s: float
    e2e_p50_s: float
    e2e_p90_s: float
    e2e_p99_s: float
    hit_ratio: float
    imbalance: float
    requests_per_s: float
    prompt_tokens_per_s: float
    output_tokens_per_s: float
    preemptions: int
    gateways: int = 1


def summarise(result: Result, *, strategy: str, seed: int, pods: int, speed: float, load: float | None) -> Summary:
    """Return the numbers of one run."""
    served = [place for place, pod in enumerate(result.pod) if pod >= 0]
    done = [place for place in served if not math.isnan(result.e2e_s[place])]
    ttft = sorted(_waited(result, result.ttft_s, place) for place in served)
    e2e = sorted(_waited(result, result.e2e_s, place) for place in served)
    prompt = sum(result.prompt_tokens[place] for place in done)
    output = sum(result.output_tokens[place] for place in done)
    cached = sum(result.cached_tokens[place] for place in done)
    begin_s = min((at_s for at_s in result.arrival_s if not math.isnan(at_s)), default=0.0)
    end_s = max((result.arrival_s[place] + result.e2e_s[place] for place in done), default=begin_s)
    seconds = end_s - begin_s
    return Summary(
        strategy=strategy,
        seed=seed,
        pods=pods,
        speed=_short(speed),
        load=load,
        requests=len(result.pod),
        failed=result.failed,
        unfinished=len(result.pod) - result.failed - len(done),
        ttft_p50_s=percentile(ttft, 50),
        ttft_p90_s=percentile(ttft, 90),
        ttft_p99_s=percentile(ttft, 99),
        e2e_p50_s=percentile(e2e, 50),
        e2e_p90_s=percentile(e2e, 90),
        e2e_p99_s=percentile(e2e, 99),
        hit_ratio=_short(cached / prompt if prompt else 0.0),
        imbalance=_short(imbalance_of(result.computed)),
        requests_per_s=_short(len(done) / seconds if seconds else 0.0),
        prompt_tokens_per_s=_short(prompt / seconds if seconds else 0.0),
        output_tokens_per_s=_short(output / seconds if seconds else 0.0),
        preemptions=result.preemptions,
    )


def percentile(ordered: Sequence[float], percent: int) -> float:
    """Return the nearest-rank percentile of sorted values; 0 of none."""
    if not ordered:
        return 0.0
    return _short(ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)])


def imbalance_of(windows: Sequence[Sequence[int]]) -> float:
    """Return the imbalance as defined above; 1 when nothing was computed."""
    total = sum(map(sum, windows))
    # A window's weight is its tokens: max / (tokens / pods) * tokens / total.
    return sum(max(window) * len(window) for window in windows) / total if total else 1.0


def mean_of(summaries: Sequence[Summary]) -> Summary:
    """Return the mean of several seeds' runs of one strategy; `seed` is 0."""
    first = summaries[0]
    means = {
        name: _short(sum(getattr(each, name) for each in summaries) / len(summaries))
        for name in Summary.__struct_fields__
        if isinstance(getattr(first, name), float) and name not in ("speed", "load")
    }
    counts = {name: sum(getattr(each, name) for each in summaries) for name in ("failed", "unfinished", "preemptions")}
    return msgspec.structs.replace(first, seed=0, **means, **counts)


def _waited(result: Result, times_s: Sequence[float], place: int) -> float:
    return times_s[place] if not math.isnan(times_s[place]) else result.end_s - result.arrival_s[place]


def _short(value: float) -> float:
    return float(f"{value:.5g}")
