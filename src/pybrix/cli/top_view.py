"""What `pybrix top` shows, made of the document `/debug/view`. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from pybrix.cli.tables import render_table

HEAD = ("MODEL", "REQUESTS", "TOKENS", "KV", "HIT", "TTFT P50", "TTFT P99", "ENDED", "ERRORS", "AGE")
STALE_AFTER_S = 10.0
"""A view that has heard nothing of the Kubernetes API for longer is called stale."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What is shown, and in which order. Empty texts: everything."""

    model: str = ""
    namespace: str = ""
    sort: str = "name"


class EndpointRow(msgspec.Struct, frozen=True, rename="camel"):
    """An endpoint; None where nobody says."""

    pod: str
    host: str
    requests_in_flight: int
    tokens_in_flight: int
    kv_cache_ratio: float | None
    prefix_hit_ratio: float | None
    ttft_p50_ms: float | None
    ttft_p99_ms: float | None
    requests_ended: int
    requests_failed: int
    metrics_age_s: float | None


class ModelRow(msgspec.Struct, frozen=True, rename="camel"):
    """A model: sums of its endpoints, means of their ratios, the age of the oldest metrics."""

    namespace: str
    model: str
    adapter_of: str | None
    condition: str
    """Why there is no endpoint; "" when there is one."""
    requests_in_flight: int
    tokens_in_flight: int
    kv_cache_ratio: float | None
    prefix_hit_ratio: float | None
    ttft_p50_ms: float | None
    ttft_p99_ms: float | None
    requests_ended: int
    requests_failed: int
    metrics_age_s: float | None
    endpoints: tuple[EndpointRow, ...]


class Top(msgspec.Struct, frozen=True, rename="camel"):
    """One moment."""

    instance: str
    is_ready: bool
    view_source: str
    view_age_s: float | None
    """Since the Kubernetes API last said something; None: never."""
    uptime_s: float
    requests_in_flight: int
    models: tuple[ModelRow, ...]


def read_top(document: Mapping[str, Any], choice: Choice) -> Top:
    """Return what is to be shown of a view's document."""
    models = [
        _model(each)
        for each in document["models"]
        if choice.model in each["model"] and choice.namespace in ("", each["namespace"])
    ]
    order = _ORDERS[choice.sort]
    view = document["view"]
    return Top(
        instance=document["instance"],
        is_ready=document["ready"],
        view_source=view["source"],
        view_age_s=view["contactAgeS"],
        uptime_s=document["uptimeS"],
        requests_in_flight=document["reservations"]["held"],
        models=tuple(
            msgspec.structs.replace(model, endpoints=tuple(sorted(model.endpoints, key=order)))
            for model in sorted(models, key=order)
        ),
    )


def _model(document: Mapping[str, Any]) -> ModelRow:
    endpoints = tuple(_endpoint(each) for each in document["endpoints"])
    ages = [row.metrics_age_s for row in endpoints if row.metrics_age_s is not None]
    return ModelRow(
        namespace=document["namespace"],
        model=document["model"],
        adapter_of=document["adapterOf"],
        condition=document["condition"],
        requests_in_flight=document["requestsInFlight"],
        tokens_in_flight=sum(row.tokens_in_flight for row in endpoints),
        kv_cache_ratio=_mean([row.kv_cache_ratio for row in endpoints]),
        prefix_hit_ratio=_mean([row.prefix_hit_ratio for row in endpoints]),
        ttft_p50_ms=document["ttft"]["p50Ms"],
        ttft_p99_ms=document["ttft"]["p99Ms"],
        requests_ended=document["requestsEnded"],
        requests_failed=document["requestsFailed"],
        metrics_age_s=max(ages, default=None),
        endpoints=endpoints,
    )


def _endpoint(document: Mapping[str, Any]) -> EndpointRow:
    metrics, outcomes = document["metrics"] or {}, document["outcomes"]
    by_class: Mapping[str, int] = outcomes["byStatusClass"]
    hits = metrics.get("prefixHitRatio")
    if hits is None and outcomes["promptTokens"]:
        hits = outcomes["cachedTokens"] / outcomes["promptTokens"]
    return EndpointRow(
        pod=document["pod"],
        host=document["host"],
        requests_in_flight=document["requestsInFlight"],
        tokens_in_flight=document["promptTokensInFlight"] + document["decodeTokensInFlight"],
        kv_cache_ratio=metrics.get("kvCacheRatio"),
        prefix_hit_ratio=hits,
        ttft_p50_ms=document["ttft"]["p50Ms"],
        ttft_p99_ms=document["ttft"]["p99Ms"],
        requests_ended=sum(by_class.values()),
        requests_failed=by_class.get("5xx", 0) + by_class.get("none", 0) + outcomes["failedAttempts"],
        metrics_age_s=metrics.get("ageS"),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _name(row: ModelRow | EndpointRow) -> tuple[str, str]:
    return (row.namespace, row.model) if isinstance(row, ModelRow) else (row.pod, row.host)


def _most(of: Callable[[ModelRow | EndpointRow], float | None]) -> Callable[[ModelRow | EndpointRow], tuple[Any, ...]]:
    """Order by a number, the largest first, unknown ones last, equal ones by name."""

    def key(row: ModelRow | EndpointRow) -> tuple[Any, ...]:
        value = of(row)
        return (value is None, -(value or 0.0), _name(row))

    return key


_ORDERS: Mapping[str, Callable[[ModelRow | EndpointRow], tuple[Any, ...]]] = {
    "name": _name,
    "requests": _most(lambda row: row.requests_in_flight),
    "tokens": _most(lambda row: row.tokens_in_flight),
    "kv": _most(lambda row: row.kv_cache_ratio),
    "hit": _most(lambda row: row.prefix_hit_ratio),
    "ttft": _most(lambda row: row.ttft_p99_ms),
    "errors": _most(lambda row: row.requests_failed),
}


def cells_of(top: Top) -> list[tuple[str, ...]]:
    """Return the table's rows: each model, then its endpoints."""
    rows: list[tuple[str, ...]] = []
    for model in top.models:
        adapter = f" (adapter of {model.adapter_of})" if model.adapter_of else ""
        rows.append((f"{model.namespace}/{model.model}{adapter}", *_numbers(model)))
        if not model.endpoints:
            rows.append((f"  no endpoint: {model.condition}", *[""] * (len(HEAD) - 1)))
        rows += [(f"  {row.pod} {row.host}", *_numbers(row)) for row in model.endpoints]
    return rows


def _numbers(row: ModelRow | EndpointRow) -> tuple[str, ...]:
    return (
        str(row.requests_in_flight),
        str(row.tokens_in_flight),
        _percent(row.kv_cache_ratio),
        _percent(row.prefix_hit_ratio),
        _time(row.ttft_p50_ms),
        _time(row.ttft_p99_ms),
        str(row.requests_ended),
        str(row.requests_failed),
        "-" if row.metrics_age_s is None else f"{row.metrics_age_s:.1f} s",
    )


def _percent(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.0%}"


def _time(value_ms: float | None) -> str:
    if value_ms is None:
        return "-"
    return f"{value_ms:.0f} ms" if value_ms < 1000 else f"{value_ms / 1000:.1f} s"


def summary_of(top: Top) -> str:
    """Return the line above the table."""
    if top.view_age_s is None:
        age = "the Kubernetes API was never reached"
    else:
        stale = " (stale)" if top.view_age_s > STALE_AFTER_S else ""
        age = f"view {top.view_age_s:.1f} s old{stale}"
    ready = "ready" if top.is_ready else "not ready"
    source = f" from {top.view_source}" if top.view_source != "api" else ""
    return f"brain {top.instance} {ready}, {age}{source}, {top.requests_in_flight} requests in flight"


def render_top(top: Top) -> str:
    """Return the plain text."""
    rows = cells_of(top)
    table = render_table(HEAD, rows) if rows else ["No models."]
    return "\n".join([summary_of(top), "", *table])
