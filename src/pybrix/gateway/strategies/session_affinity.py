"""Strategy `session-affinity`: requests of one session go to one endpoint.

    x-session-id           names the endpoint itself (base64 of `ip:port`, as the gateway's answers say it)
    x-aibrix-session-key   any text of up to 256 bytes: rendezvous hashing, h(e) = xxh3_64(key, 0x00, pod UID, port)

    score(e) = 1 for the endpoint that x-session-id names, if it is ready
             = else by h(e), highest first, if there is a session key
             = else 0 for one that x-session-id does not name; least-request decides among them

Rendezvous hashing moves only the sessions of an endpoint that leaves, and all gateways agree without talking. A session
whose endpoint is gone is bound anew; the answer's `x-session-id` says to which.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

from xxhash import xxh3_64_intdigest

from pybrix.gateway.framework.scoring import in_order, lowest_first, requests_in_flight
from pybrix.gateway.framework.signals import Signals
from pybrix.gateway.framework.types import Endpoint, InferenceRequest

MAX_SESSION_KEY_BYTES = 256


class SessionAffinity:
    name = "session-affinity"
    prefers_new = True

    def score(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[float]:
        bound = _bound_host(request.session_id)
        if bound and any(endpoint.host == bound for endpoint in endpoints):
            # The others keep an order among themselves: where the session goes when its endpoint fails.
            others = [0.5 * score for score in _unbound(request, endpoints, signals)]
            return [1.0 if e.host == bound else score for e, score in zip(endpoints, others, strict=True)]
        return _unbound(request, endpoints, signals)

    def session_id(self, request: InferenceRequest, endpoint: Endpoint) -> str:
        return session_id_of(endpoint)

    def reasons(self, request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> Sequence[str]:
        bound, has_key = _bound_host(request.session_id), bool(_key(request))
        return [
            "x-session-id names it"
            if endpoint.host == bound
            else "by the hash of x-aibrix-session-key"
            if has_key
            else f"{signals.load(endpoint.id).requests} requests in flight, no session"
            for endpoint in endpoints
        ]


def _unbound(request: InferenceRequest, endpoints: Sequence[Endpoint], signals: Signals) -> list[float]:
    if key := _key(request):
        return in_order([-_rendezvous(key, endpoint) for endpoint in endpoints])
    return lowest_first(requests_in_flight(endpoints, signals))


def _rendezvous(key: bytes, endpoint: Endpoint) -> int:
    return xxh3_64_intdigest(b"%b\0%b\0%d" % (key, endpoint.id.pod_uid.encode(), endpoint.id.port))


def _key(request: InferenceRequest) -> bytes:
    key = request.session_key.encode("utf-8", "surrogateescape")
    return key if len(key) <= MAX_SESSION_KEY_BYTES else b""


def session_id_of(endpoint: Endpoint) -> str:
    """Return what `x-session-id` of an answer says, and of the session's next request."""
    return base64.b64encode(endpoint.host.encode()).decode()


def _bound_host(session_id: str) -> str:
    if not session_id:
        return ""
    try:
        return base64.b64decode(session_id, validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        return ""
