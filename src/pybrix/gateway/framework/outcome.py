"""What happened to a request, as Envoy tells it."""

from __future__ import annotations

import msgspec


class AccessRecord(msgspec.Struct, frozen=True, gc=False):
    """What happened to a request so far (a renewal), or in the end.

    `status` 0 means that the client got no answer; `ttft_ms` None that no body byte came from an engine.
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
