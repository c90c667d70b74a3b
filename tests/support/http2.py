"""Just enough HTTP/2 (RFC 9113, prior knowledge) to ask one question: plain literals out, bodies in."""

from __future__ import annotations

import asyncio
import struct

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _GOAWAY = 0, 1, 3, 4, 7
_END_STREAM, _END_HEADERS = 1, 4


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _literal(name: str, value: str) -> bytes:
    """Encode a header without indexing and without Huffman codes (RFC 7541, 6.2.2); both parts under 127 bytes."""
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


async def http2_exchange(address: str, port: int, method: str, path: str, body: bytes) -> bytes:
    """Send one request and return the body of its answer."""
    reader, writer = await asyncio.open_connection(address, port)
    head = {":method": method, ":scheme": "http", ":path": path, ":authority": "gateway"}
    headers = b"".join(_literal(name, value) for name, value in head.items())
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(_SETTINGS, 0, 0))
    writer.write(_frame(_HEADERS, _END_HEADERS | (0 if body else _END_STREAM), 1, headers))
    if body:
        writer.write(_frame(_DATA, _END_STREAM, 1, body))
    got = b""
    try:
        while True:
            prefix = await reader.readexactly(9)
            length, kind, flags = int.from_bytes(prefix[:3]), prefix[3], prefix[4]
            payload = await reader.readexactly(length)
            if kind in (_RST_STREAM, _GOAWAY):
                raise ConnectionError(f"frame {kind}: {payload!r}")
            if kind == _DATA:
                got += payload
            if kind in (_DATA, _HEADERS) and flags & _END_STREAM:
                return got
    finally:
        writer.close()
