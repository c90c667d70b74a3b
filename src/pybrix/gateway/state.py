"""What a brain tells about itself: the documents of its admin socket. Pure renderings of live objects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from pybrix.gateway.framework.refusal import Refusal
from pybrix.gateway.framework.types import Endpoint, Explanation
from pybrix.gateway.indexes.load import LoadTable
from pybrix.gateway.indexes.reservations import Reservations
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

    @property
    def is_ready(self) -> bool:
        """Whether the decision socket answers from a view that is in Envoy's files as well."""
        return self.is_serving and self.is_xds_written and not self.is_draining


def render_state(
    state: BrainState,
    view: ClusterView,
    loads: LoadTable,
    reservations: Reservations,
    *,
    contact_age_s: float | None,
    now_s: float,
) -> dict[str, Any]:
    """Return the document of `/debug/view`. `contact_age_s`: since the API server last said something; None: never."""
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
                "endpoints": [_endpoint(endpoint, loads) for endpoint in model.endpoints],
                "absent": [
                    {"pod": p.name, "uid": p.uid, "why": p.absent_because} for p in model.pods if p.absent_because
                ],
            }
            for key, model in sorted(view.models.items())
        ],
    }


def _endpoint(endpoint: Endpoint, loads: LoadTable) -> dict[str, Any]:
    load = loads.of(endpoint.id)
    ended = load.outcomes
    return {
        "pod": endpoint.pod_name,
        "uid": endpoint.id.pod_uid,
        "host": endpoint.host,
        "requestsInFlight": load.requests,
        "promptTokensInFlight": load.prompt_tokens,
        "outcomes": {
            "byStatusClass": ended.by_status(),
            "failedAttempts": ended.failed_attempts,
            "meanTtftMs": round(ended.ttft_ms / ended.ttft_count, 3) if ended.ttft_count else None,
            "promptTokens": ended.prompt_tokens,
            "cachedTokens": ended.cached_tokens,
            "completionTokens": ended.completion_tokens,
        },
    }


def render_explanation(answer: Explanation | Refusal) -> dict[str, Any]:
    """Return the document of `/debug/explain`."""
    if isinstance(answer, Refusal):
        return {"refused": {"reason": answer.reason, "status": answer.status, "message": answer.message}}
    request = answer.request
    return {
        "namespace": request.namespace,
        "model": request.model,
        "strategy": request.strategy,
        "promptTokensEstimate": request.prompt_tokens,
        "ranking": [
            {"pod": r.endpoint.pod_name, "host": r.endpoint.host, "score": round(r.score, 4), "why": r.why}
            for r in answer.ranking
        ],
        "excluded": [{"pod": e.endpoint.pod_name, "host": e.endpoint.host, "why": e.why} for e in answer.excluded],
    }


ContactAge = Callable[[], float | None]
