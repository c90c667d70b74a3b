"""Explanations of decisions as documents: of those that were made, and of those that would be. Pure renderings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from pybrix.gateway.framework.outcome import AccessRecord
from pybrix.gateway.framework.refusal import Refusal
from pybrix.gateway.framework.types import Endpoint, Excluded, Explanation, InferenceRequest
from pybrix.gateway.indexes.history import Reading, Trace

MAX_HEADER_BYTES = 4096
"""Of the explanation in an answer: common clients refuse a header of 8 KiB."""


def render_explanation(answer: Explanation | Refusal) -> dict[str, Any]:
    """Return where a request would go now."""
    if isinstance(answer, Refusal):
        return {"refused": _refused(answer)}
    return {
        **_request(answer.request),
        "ranking": [
            {"pod": r.endpoint.pod_name, "host": r.endpoint.host, "score": round(r.score, 4), "why": r.why}
            for r in answer.ranking
        ],
        "excluded": _excluded(answer.excluded),
    }


def render_trace(trace: Trace) -> dict[str, Any]:
    """Return how a request was decided and what happened after.

    `candidates` are best first as far as they were ranked; `why` and the live numbers are null where reasons were not
    kept. `outcome` is null as long as nothing was heard of the request.
    """
    document: dict[str, Any] = {"requestId": trace.request_id, "reservation": trace.reservation, "at": _time(trace)}
    if trace.request is not None:
        document |= _request(trace.request)
    elif trace.record is not None:
        namespace, _, model = trace.record.cluster.partition("/")
        document |= {"namespace": namespace, "model": model}
    if trace.refusal is not None:
        document["refused"] = _refused(trace.refusal)
    elif not trace.reservation:
        document["routedBy"] = "envoy"
    document["candidates"] = candidates_of(trace)
    document["excluded"] = _excluded(trace.excluded)
    document["outcome"] = None if trace.record is None else _outcome(trace, trace.record)
    if trace.is_lost:
        document["isLost"] = True
    return document


def render_summary(trace: Trace) -> dict[str, Any]:
    """Return one line of the list of recent requests."""
    request, record = trace.request, trace.record
    cluster = record.cluster if record is not None else ""
    return {
        "requestId": trace.request_id,
        "at": _time(trace),
        "model": f"{request.namespace}/{request.model}" if request is not None else cluster,
        "strategy": request.strategy if request is not None else "",
        "endpoint": trace.ranking[0].pod_name if trace.ranking else (record.upstream if record is not None else ""),
        "state": _state(trace),
        "durationMs": None if record is None else record.duration_ms,
    }


def render_header(trace: Trace) -> str:
    """Return the explanation as one header value: ASCII, at most `MAX_HEADER_BYTES`.

    The worst candidates are left out where it would be longer; `omitted` says how many.
    """
    document = render_trace(trace)
    # Nothing has happened yet.
    del document["outcome"]
    parts = [(name, document.pop(name)) for name in ("candidates", "excluded")]
    kept: dict[str, list[Any]] = {name: [] for name, _ in parts}
    left_bytes = MAX_HEADER_BYTES - len(_compact({**document, **kept, "omitted": 10**6}))
    omitted = 0
    for name, entries in parts:
        for entry in entries:
            size_bytes = len(_compact(entry)) + 1
            if omitted or size_bytes > left_bytes:
                omitted += 1
            else:
                kept[name].append(entry)
                left_bytes -= size_bytes
    found = {**document, **kept, **({"omitted": omitted} if omitted else {})}
    text = _compact(found)
    # What the request says of itself may be as long as a body allows.
    return text if len(text) <= MAX_HEADER_BYTES else _compact({"requestId": trace.request_id, "omitted": omitted})


def candidates_of(trace: Trace) -> list[dict[str, Any]]:
    """Return the candidates, best first; those that the ranking has no more room for come last."""
    readings: Sequence[Reading | None] = trace.readings or [None] * len(trace.candidates)
    places = {endpoint.host: place for place, endpoint in enumerate(trace.ranking)}
    entries = []
    for endpoint, score, reading in zip(trace.candidates, trace.scores, readings, strict=True):
        entries.append((places.get(endpoint.host, len(places)), -score, _candidate(endpoint, score, reading)))
    entries.sort(key=lambda entry: entry[:2])
    return [entry for _, _, entry in entries]


def _candidate(endpoint: Endpoint, score: float, reading: Reading | None) -> dict[str, Any]:
    found = {"pod": endpoint.pod_name, "host": endpoint.host, "score": round(score, 4), "why": None, "signals": None}
    if reading is not None:
        numbers = {
            "requestsInFlight": reading.requests,
            "promptTokensInFlight": reading.prompt_tokens,
            "uncachedTokensInFlight": reading.uncached_tokens,
            "decodeTokensInFlight": reading.decode_tokens,
            "running": reading.running,
            "waiting": reading.waiting,
            "kvCacheRatio": reading.kv_cache_ratio,
            "metricsAgeS": None if reading.metrics_age_s is None else round(reading.metrics_age_s, 3),
        }
        said = {name: value for name, value in numbers.items() if value is not None}
        found |= {"why": reading.why, "signals": said}
    return found


def _request(request: InferenceRequest) -> dict[str, Any]:
    found: dict[str, Any] = {
        "namespace": request.namespace,
        "model": request.model,
        "strategy": request.strategy,
        "promptTokensEstimate": request.prompt_tokens,
        "decodeTokensEstimate": request.decode_tokens,
    }
    if request.adapter:
        found["adapter"] = request.adapter
    if request.user:
        found["user"] = request.user
    if request.profile is not None:
        found["profile"] = request.profile.name
    return found


def _refused(said: Refusal) -> dict[str, Any]:
    return {"reason": said.reason, "status": said.status, "message": said.message}


def _excluded(excluded: Sequence[Excluded]) -> list[dict[str, Any]]:
    return [{"pod": e.endpoint.pod_name, "host": e.endpoint.host, "why": e.why} for e in excluded]


def _outcome(trace: Trace, record: AccessRecord) -> dict[str, Any]:
    answered = next((e.pod_name for e in trace.ranking if e.host == record.upstream), None)
    return {
        "state": _state(trace),
        "status": record.status or None,
        "flags": record.flags,
        "host": record.upstream or None,
        "pod": answered,
        "attempts": record.attempts,
        "ttftMs": record.ttft_ms,
        "durationMs": record.duration_ms,
        "promptTokens": record.prompt_tokens,
        "cachedTokens": record.cached_tokens,
        "completionTokens": record.completion_tokens,
    }


def _state(trace: Trace) -> str:
    if trace.refusal is not None:
        return f"refused {trace.refusal.status}"
    if trace.is_lost:
        return "lost"
    if trace.record is None or trace.record.is_renewal:
        return "running"
    return f"ended {trace.record.status or 'without an answer'}"


def _time(trace: Trace) -> str:
    return datetime.fromtimestamp(trace.unix_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _compact(document: Any) -> str:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=True)
