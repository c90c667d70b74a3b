"""Ask a program for its health by gRPC: `grpc.health.v1.Health/Check` over HTTP/2 in clear text, as the kubelet does.

https://github.com/grpc/grpc/blob/master/doc/health-checking.md and PROTOCOL-HTTP2.md beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from urllib.parse import unquote

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError

from pybrix.base.protobufwire import Malformed, read_fields, text_field

_CHECK = "/grpc.health.v1.Health/Check"
_OK, _DEADLINE_EXCEEDED, _UNIMPLEMENTED = "0", "4", "12"
_SERVING = 1
_STATUSES = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
_STREAM = 1
_MAX_ANSWER_BYTES = 16 * 1024
_PREFIX_BYTES = 5
"""Of a gRPC message: one byte that says whether it is compressed, four of its length."""


async def ask_health(host: str, port: int, service: str, timeout_s: float, user_agent: str) -> str:
    """Return what is wrong with a service, in the kubelet's words; empty: it serves.

    Args:
        service: what the server calls it; empty: the server as a whole.

    Raises:
        TimeoutError: there was no answer in time.
    """
    request = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", _CHECK),
        (":authority", f"{host}:{port}"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("user-agent", user_agent),
        ("grpc-timeout", f"{math.ceil(timeout_s * 1000)}m"),
    ]
    message = text_field(1, service)
    try:
        async with asyncio.timeout(timeout_s):
            answer = await _exchange(host, port, request, b"\0" + len(message).to_bytes(4, "big") + message)
        return _judge(answer)
    except OSError as error:
        if isinstance(error, TimeoutError):
            raise
        return f'error: failed to connect service at "{host}:{port}": {error}'
    except Malformed as error:
        return f"error: health rpc probe failed: {error}"
    except (ProtocolError, UnicodeDecodeError) as error:
        return f"error: health rpc probe failed: {type(error).__name__}: {error}"


class _Answer:
    """What has come of an answer. Headers and trailers in one: what is asked of them is in one or the other."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.body = b""
        self.is_complete = False

    def take(self, event: Event) -> None:
        """Raises Malformed: there will be no answer."""
        match event:
            case ResponseReceived(headers=headers) | TrailersReceived(headers=headers):
                self.headers |= {bytes(k).decode(): bytes(v).decode() for k, v in headers or ()}
            case DataReceived(data=data):
                self.body += data or b""
                if len(self.body) > _MAX_ANSWER_BYTES:
                    raise Malformed(f"the answer has more than {_MAX_ANSWER_BYTES} bytes")
            case StreamEnded():
                self.is_complete = True
            case StreamReset() | ConnectionTerminated() if not self.is_complete:
                raise Malformed(f"the server broke off with error code {event.error_code}")


async def _exchange(host: str, port: int, request: list[tuple[str, str]], body: bytes) -> _Answer:
    """Send one request over a connection of its own. Raises OSError, ProtocolError, Malformed."""
    reader, writer = await asyncio.open_connection(host, port)
    connection = H2Connection(H2Configuration(client_side=True, header_encoding=None))
    answer = _Answer()
    try:
        connection.initiate_connection()
        connection.send_headers(_STREAM, request)
        connection.send_data(_STREAM, body, end_stream=True)
        while not answer.is_complete:
            writer.write(connection.data_to_send())
            received = await reader.read(65536)
            if not received:
                raise Malformed("the server closed the connection")
            for event in connection.receive_data(received):
                answer.take(event)
        connection.close_connection()
        writer.write(connection.data_to_send())
    finally:
        writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return answer


def _judge(answer: _Answer) -> str:
    """Return what an answer says to be wrong; empty: nothing. Raises Malformed."""
    http_status, code = answer.headers.get(":status"), answer.headers.get("grpc-status")
    if http_status != "200" or code is None:
        raise Malformed(f"HTTP status {http_status} without a gRPC status")
    told = unquote(answer.headers.get("grpc-message", ""))
    if code == _DEADLINE_EXCEEDED:
        raise TimeoutError
    if code == _UNIMPLEMENTED:
        return f"error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {told}"
    if code != _OK:
        return f"error: health rpc probe failed: status {code}: {told}"
    size = int.from_bytes(answer.body[1:_PREFIX_BYTES], "big")
    if len(answer.body) != _PREFIX_BYTES + size or answer.body[0] != 0:
        raise Malformed("the answer is no message of gRPC")
    status = next((value for number, value in read_fields(answer.body[_PREFIX_BYTES:]) if number == 1), 0)
    if status == _SERVING:
        return ""
    name = _STATUSES[status] if isinstance(status, int) and status < len(_STATUSES) else str(status)
    return f'service unhealthy (responded with "{name}")'
