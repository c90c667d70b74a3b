"""What a brain tells about itself: the documents of its admin socket. Pure renderings of live objects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from pybrix.gateway.framework.modelconfig import UNCONFIGURED, ModelConfig
from pybrix.gateway.framework.signals import EngineMetrics
from pybrix.gateway.framework.types import Endpoint
from pybrix.gateway.indexes.enginemetrics import MetricsTable
from pybrix.gateway.indexes.load import LoadTable
from pybrix.gateway.indexes.reservations import Reservations
from pybrix.gateway.indexes.traffic import TrafficTable
from pybrix.gateway.modelconfigs import ConfigProblems
from pybrix.gateway.view.snapshot import ClusterView


class BrainState(msgspec.Struct):
    """Where a brain is in its life. Times are seconds of the monotonic clock.

    `view_source` is `none`, `persisted` (with `view_saved_at`, RFC 3339) or `api`.
    """

    instance: str
    started_s: float
    view_source: str = "none"
    view_saved_at: str = ""
    is_xds_written: bool = False
    is_serving: bool = False
    is_draining: bool = False
    decisions_cut: int = 0
    """Questions that were still being received when the brain had to end."""

    @property
    def is_ready(self) -> bool:
        """Whether the decision socket answers from a view that is in Envoy's files as well."""
        return self.is_serving and self.is_xds_written and not self.is_draining


def render_state(
    state: BrainState,
    view: ClusterView,
    loads: LoadTable,
    metrics: MetricsTable,
    reservations: Reservations,
    *,
    contact_age_s: float | None,
    now_s: float,
    traffic: TrafficTable | None = None,
    config_problems: ConfigProblems,
) -> dict[str, Any]:
    """Return the document of `/debug/view`. `contact_age_s`: since the API server last said something; None: never."""
    ended = traffic or TrafficTable()
    in_flight = Counter((held.ranking[0].namespace, held.ranking[0].model) for held in reservations)
    return {
        "instance": state.instance,
        "uptimeS": round(now_s - state.started_s, 3),
        "ready": state.is_ready,
        "draining": state.is_draining,
        "view": {
            "version": view.version,
            "source": state.view_source,
            "savedAt": state.view_saved_at or None,
            "contactAgeS": None if contact_age_s is None else round(contact_age_s, 3),
            "xdsWritten": state.is_xds_written,
        },
        "reservations": {
            "held": len(reservations),
            "oldestAgeS": round(max((now_s - held.since_s for held in reservations), default=0.0), 3),
        },
        "models": [
            {
                "namespace": key.namespace,
                "model": key.model,
                "adapterOf": model.parent or None,
                "condition": "" if model.endpoints else model.condition,
                "config": _config(model.config, config_problems.of(key)),
                "requestsInFlight": in_flight[key],
                **_ended(ended.statuses(key)),
                "ttft": _quantiles(partial(ended.ttft_s, key, now_s=now_s)),
                "endpoints": [_endpoint(endpoint, loads, metrics, ended, now_s) for endpoint in model.endpoints],
                "absent": [
                    {"pod": p.name, "uid": p.uid, "why": p.absent_because} for p in model.pods if p.absent_because
                ],
            }
            for key, model in sorted(view.models.items())
        ],
    }


def _ended(statuses: Mapping[int, int]) -> dict[str, int]:
    """Return how many requests ended, and how many of them got no answer or a 5xx."""
    failed = sum(count for status, count in statuses.items() if not 0 < status < 500)
    return {"requestsEnded": sum(statuses.values()), "requestsFailed": failed}


def _quantiles(of: Callable[[float], float | None]) -> dict[str, float | None]:
    """Return the median and the 99th percentile of times of the last minute, in milliseconds."""
    found = {"p50Ms": of(0.5), "p99Ms": of(0.99)}
    return {name: None if seconds is None else round(1000 * seconds, 1) for name, seconds in found.items()}


def _config(config: ModelConfig, problems: Sequence[str]) -> dict[str, Any] | None:
    """Return what the pods configure; None when nothing."""
    if config is UNCONFIGURED:
        return None
    return {
        "problems": list(problems),
        "lockedRoutingStrategy": config.locked_strategy or None,
        "defaultProfile": config.default.name if config.default is not None else None,
        "profiles": {
            name: {"routingStrategy": each.strategy or None, "requestsPerSecond": each.requests_per_second or None}
            for name, each in config.profiles.items()
        },
    }


def _endpoint(
    endpoint: Endpoint, loads: LoadTable, metrics: MetricsTable, traffic: TrafficTable, now_s: float
) -> dict[str, Any]:
    load = loads.of(endpoint.id)
    ended, learnt = load.outcomes, load.learnt
    return {
        "pod": endpoint.pod_name,
        "uid": endpoint.id.pod_uid,
        "host": endpoint.host,
        "requestsInFlight": load.requests,
        "requestsInFlightElsewhere": load.elsewhere.requests,
        "promptTokensInFlight": load.prompt_tokens,
        "uncachedTokensInFlight": load.uncached_tokens,
        "decodeTokensInFlight": load.decode_tokens,
        "learnt": {
            "ttftMs": _rounded(learnt.ttft_ms),
            "tpotMs": _rounded(learnt.tpot_ms),
            "latencyMs": _rounded(learnt.latency_ms),
            "prefillTokensPerS": _rounded(learnt.prefill_tokens_per_s),
            "failureRatio": _rounded(learnt.failure_ratio),
        },
        "ttft": _quantiles(partial(traffic.endpoint_ttft_s, endpoint.id, now_s=now_s)),
        "metrics": _metrics(metrics.of(endpoint.id), now_s),
        "outcomes": {
            "byStatusClass": ended.by_status(),
            "failedAttempts": ended.failed_attempts,
            "meanTtftMs": round(ended.ttft_ms / ended.ttft_count, 3) if ended.ttft_count else None,
            "promptTokens": ended.prompt_tokens,
            "cachedTokens": ended.cached_tokens,
            "completionTokens": ended.completion_tokens,
        },
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _metrics(found: EngineMetrics | None, now_s: float) -> dict[str, Any] | None:
    """Return what the engine said of itself, and how long ago; None when it said nothing lately."""
    if found is None:
        return None
    return {
        "ageS": round(now_s - found.observed_at_s, 3),
        "running": found.running,
        "waiting": found.waiting,
        "kvCacheRatio": _rounded(found.kv_cache_ratio),
        "kvCapacityTokens": found.kv_capacity_tokens,
        "prefixHitRatio": _rounded(found.prefix_hit_ratio),
        "promptTokensPerS": _rounded(found.prompt_tokens_per_s),
        "generationTokensPerS": _rounded(found.generation_tokens_per_s),
        "ttftS": _rounded(found.ttft_s),
        "tpotS": _rounded(found.tpot_s),
        "busyRatio": _rounded(found.busy_ratio),
        "runningLoras": sorted(found.running_loras),
        "waitingLoras": sorted(found.waiting_loras),
        "maxLoras": found.max_loras,
    }


ContactAge = Callable[[], float | None]
