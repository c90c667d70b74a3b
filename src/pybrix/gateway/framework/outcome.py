"""What happened to a request, as Envoy tells it."""

from __future__ import annotations

import msgspec

from pybrix.gateway.framework.types import Endpoint, InferenceRequest


class AccessRecord(msgspec.Struct, frozen=True, gc=False):
    """What happened to a request so far (a renewal), or in the end.

    `status` 0 means that the client got no answer; `ttft_ms` None that no body byte came from an engine. `cluster` is
    `namespace/model`: a fallback's record names no reservation, and an upstream serves several models.
    """

    reservation: str
    is_renewal: bool
    upstream: str
    status: int
    flags: str
    ttft_ms: float | None
    duration_ms: float
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    attempts: int
    request_id: str
    cluster: str = ""


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """How a request ended that this brain routed, for the strategy that ranked its endpoints."""

    request: InferenceRequest
    routed_to: Endpoint
    """Where it was sent first."""
    endpoint: Endpoint | None
    """What answered it; None when nothing did. Another one than `routed_to` after a retry."""
    record: AccessRecord
    now_s: float
