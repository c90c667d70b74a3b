"""The wire format of protobuf, as far as messages are read and written here without generated code. Pure.

https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator


class Malformed(ValueError):
    """Bytes that are no message; the text says what is wrong with them."""


def read_fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (field number, varint or bytes).

    Raises:
        Malformed: the bytes are no message.
    """
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = _read_varint(data, at)
            yield number, value
        elif wire in (1, 2, 5):
            if wire == 2:
                size, at = _read_varint(data, at)
            else:
                size = 8 if wire == 1 else 4
            if at + size > len(data):
                raise Malformed("a field is cut short")
            yield number, data[at : at + size]
            at += size
        else:
            raise Malformed(f"unknown wire type {wire}")


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise Malformed("a number is cut short")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
        shift += 7


def encode_varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def message_field(number: int, content: bytes) -> bytes:
    return encode_varint(number << 3 | 2) + encode_varint(len(content)) + content


def text_field(number: int, text: str) -> bytes:
    return message_field(number, text.encode())
