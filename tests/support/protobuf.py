"""Protobuf bodies as clients in Go send them, written by field numbers."""

from __future__ import annotations

PROTOBUF = "application/vnd.kubernetes.protobuf"


def message(*parts: tuple[int, bytes | int]) -> bytes:
    out = b""
    for number, value in parts:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def enveloped(kind: str, raw: bytes, api_version: str = "v1") -> bytes:
    type_meta = message((1, api_version.encode()), (2, kind.encode()))
    return b"k8s\x00" + message((1, type_meta), (2, raw), (3, b""), (4, b""))
