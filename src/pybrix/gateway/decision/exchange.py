"""The decision exchange without I/O: bytes of HTTP/1.1 requests in, bytes of replies out.

Envoy's `ext_authz` filter sends the client's request with its whole body and routes by the headers of a 200, or answers
the client with anything else. A reply is made the moment a request is complete, so pipelined requests are answered in
their order.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

import httptools
import structlog

from pybrix.envoy.wire import (
    ADMIN_TOKEN_HEADER,
    CLUSTER_HEADER,
    ENDPOINTS_HEADER,
    EXPLAIN_HEADER,
    HEALTH_PATH,
    NAMESPACE_HEADER,
    PROFILE_HEADER,
    RESERVATION_HEADER,
    SESSION_HEADER,
    STRATEGY_HEADER,
    USER_HEADER,
    cluster_name,
    wire_status,
)
from pybrix.gateway.framework import refusal
from pybrix.gateway.framework.refusal import Refusal
from pybrix.gateway.framework.types import Decision, Question

MAX_HEAD_BYTES = 256 * 1024
"""Request line and headers, where they come in pieces; Envoy's own limit is 60 KiB."""
_LENGTH = b"content-length"
_FIELDS = {
    NAMESPACE_HEADER.encode(): "namespace",
    b"routing-strategy": "strategy",
    b"user": "user",
    b"x-session-id": "session_id",
    b"x-aibrix-session-key": "session_key",
    b"config-profile": "profile",
    b"external-filter": "external_filter",
    USER_HEADER.encode(): "key_user",
    b"x-request-id": "request_id",
    EXPLAIN_HEADER.encode(): "explain",
    ADMIN_TOKEN_HEADER.encode(): "admin_token",
}
"""Headers that are fields of a question, by their names in lower case, as Envoy sends them."""
_HEALTH_PATH = HEALTH_PATH.encode()

_log = structlog.get_logger()

Decide = Callable[[Question], Decision | Refusal]


def render_decision(decision: Decision, *, keep_alive: bool = True) -> bytes:
    """Return the reply by which Envoy routes."""
    request = decision.request
    hosts = ",".join([endpoint.host for endpoint in decision.endpoints])
    rest = "" if keep_alive else "connection: close\r\n"
    if decision.session_id:
        rest += f"{SESSION_HEADER}: {decision.session_id}\r\n"
    if request.profile is not None:
        rest += f"{PROFILE_HEADER}: {request.profile.name}\r\n"
    for name, value in decision.headers:
        rest += f"{name}: {value}\r\n"
    return (
        f"HTTP/1.1 200 OK\r\n{CLUSTER_HEADER}: {cluster_name(request.namespace, request.model)}\r\n"
        f"{ENDPOINTS_HEADER}: {hosts}\r\n{RESERVATION_HEADER}: {decision.reservation}\r\n"
        f"{STRATEGY_HEADER}: {request.strategy}\r\n{rest}content-length: 0\r\n\r\n"
    ).encode()


def render_refusal(said: Refusal, *, keep_alive: bool = True) -> bytes:
    """Return the reply that Envoy passes on to the client."""
    body = said.body()
    status = wire_status(said.status)
    head = [f"HTTP/1.1 {status} {_PHRASES.get(status, 'Refused')}"]
    head += [f"{name}: {value}" for name, value in said.headers()]
    if not keep_alive:
        head.append("connection: close")
    head.append(f"content-length: {len(body)}\r\n\r\n")
    return "\r\n".join(head).encode() + body


_PHRASES = {status.value: status.phrase for status in HTTPStatus}


class DecisionExchange:
    """One connection.

    Args:
        decide: answers one question, at once.
        body_limit_bytes: a larger body is refused and the connection ended.
        is_ready: whether `/healthz` says yes.
    """

    def __init__(self, decide: Decide, body_limit_bytes: int, is_ready: Callable[[], bool]) -> None:
        self._decide = decide
        self._body_limit_bytes = body_limit_bytes
        self._is_ready = is_ready
        self._parser = httptools.HttpRequestParser(self)
        self._replies: list[bytes] = []
        self.is_closed = False
        """No further byte is read; the replies so far are the last ones."""
        self.is_draining = False
        """Each reply asks Envoy to close the connection."""
        self.is_between_requests = True
        self._message_number = 0
        self._is_in_head = False
        self._reset()

    def _reset(self) -> None:
        self._url = b""
        self._fields: dict[str, str] = {}
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._head_bytes = 0
        self._refused: Refusal | None = None

    def receive(self, data: bytes) -> bytes:
        """Take what came from the peer and return what to send."""
        if self.is_closed:
            return b""
        number = self._message_number
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse_and_close(refusal.malformed_request("an upgrade is not possible here"))
        except httptools.HttpParserError as err:
            self._refuse_and_close(self._refused or refusal.malformed_request(str(err)))
        if self._refused is not None and not self.is_closed:
            self._refuse_and_close(self._refused)
        elif self._is_in_head and number == self._message_number:
            # The parser keeps a header until it is whole: what it holds is bounded here.
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self.is_closed:
                self._refuse_and_close(refusal.malformed_request("the headers are too large"))
        replies = self._replies
        if not replies:
            return b""
        self._replies = []
        return replies[0] if len(replies) == 1 else b"".join(replies)

    def _refuse_and_close(self, said: Refusal) -> None:
        if not self.is_closed:
            self._replies.append(render_refusal(said, keep_alive=False))
            self.is_closed = True

    # What httptools calls; nothing here raises, since it would lose the error on the way.

    def on_message_begin(self) -> None:
        self.is_between_requests = False
        self._is_in_head = True
        self._message_number += 1
        self._reset()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        field = _FIELDS.get(name)
        if field is None:
            if name.islower():
                if name != _LENGTH:
                    return
            else:
                name = name.lower()
                field = _FIELDS.get(name)
        if field is not None:
            self._fields[field] = value.decode("latin-1").strip()
        elif name == _LENGTH and value.isdigit() and int(value[:20]) > self._body_limit_bytes:
            self._refused = refusal.body_too_large(self._body_limit_bytes)

    def on_headers_complete(self) -> None:
        self._is_in_head = False

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > self._body_limit_bytes:
            self._refused = refusal.body_too_large(self._body_limit_bytes)
            self._body.clear()
        elif self._refused is None:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self.is_closed:
            return
        self.is_between_requests = True
        if self._refused is not None:
            self._refuse_and_close(self._refused)
            return
        keep_alive = not self.is_draining and self._parser.should_keep_alive()
        self._replies.append(self._reply(keep_alive))
        self._body = []
        if not keep_alive:
            self.is_closed = True

    def _reply(self, keep_alive: bool) -> bytes:
        if self._url == _HEALTH_PATH:
            return self._health(keep_alive)
        body = self._body
        question = Question(
            self._url.decode("latin-1"),
            body[0] if len(body) == 1 else b"".join(body),
            **self._fields,
        )
        try:
            answer = self._decide(question)
        except Exception:  # noqa: BLE001 - the request boundary
            # A 5xx tells Envoy that the brain failed: it routes this request by itself.
            _log.exception("decision failed", path=question.path[:200])
            return b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n"
        if isinstance(answer, Decision):
            return render_decision(answer, keep_alive=keep_alive)
        return render_refusal(answer, keep_alive=keep_alive)

    def _health(self, keep_alive: bool) -> bytes:
        status = "200 OK" if self._is_ready() and not self.is_draining else "503 Service Unavailable"
        connection = "" if keep_alive else "connection: close\r\n"
        return f"HTTP/1.1 {status}\r\n{connection}content-length: 0\r\n\r\n".encode()
