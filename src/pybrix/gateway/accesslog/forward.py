"""The fluentd forward protocol, from the receiving side, without I/O: bytes in, records out.

Source: https://github.com/fluent/fluentd/wiki/Forward-Protocol-Specification-v1. Envoy sends Forward mode; the other
two are read as well, since any forwarder may stand between. Compressed streams are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgpack
import msgspec

from pybrix.gateway.accesslog.record import EnvoyRecord, read_record
from pybrix.gateway.framework.outcome import AccessRecord

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
MAX_RECORDS = 200_000
"""Records of one PackedForward message; the message's size bounds the other modes."""


class ForwardError(ValueError):
    """The stream is not the forward protocol (or not one that is read here): the connection cannot go on."""


class EnvoyMessage(msgspec.Struct, array_like=True):
    """A message in Forward mode, of the types that Envoy sends. Options may follow the entries."""

    tag: str
    entries: list[tuple[int, EnvoyRecord]]


_ENVOY_MESSAGE = msgspec.msgpack.Decoder(EnvoyMessage)


class ForwardParser:
    """Decodes one connection's stream; a record may come in any number of pieces.

    Nearly all that comes is one whole message of Envoy's at a time, which a typed decoder takes in one step. Anything
    else is read piece by piece.
    """

    def __init__(self, max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._max_message_bytes = max_message_bytes
        self._unpacker = _unpacker(max_message_bytes)
        self._unpacker_bytes = 0

    def feed(self, data: bytes) -> list[AccessRecord]:
        """Return the records that are complete now, in their order.

        Raises:
            ForwardError: the stream cannot be understood, or a message is too large.
        """
        if self._unpacker.tell() == self._unpacker_bytes and len(data) <= self._max_message_bytes:
            try:
                return [record.read() for _, record in _ENVOY_MESSAGE.decode(data).entries]
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                pass  # not one whole message, or not Envoy's types
        found: list[AccessRecord] = []
        try:
            self._unpacker_bytes += len(data)
            self._unpacker.feed(data)
            for message in self._unpacker:
                found.extend(read_record(fields) for fields in _entries(message, self._max_message_bytes))
        except msgpack.BufferFull as err:
            raise ForwardError(f"a message is larger than {self._max_message_bytes} bytes") from err
        except (ValueError, TypeError, msgpack.UnpackException) as err:
            raise ForwardError(str(err) or type(err).__name__) from err
        return found


def _unpacker(max_bytes: int) -> msgpack.Unpacker:
    # Header values are bytes of the client's choosing: what is no UTF-8 is kept out of the way, not an error.
    return msgpack.Unpacker(max_buffer_size=max_bytes, unicode_errors="replace", strict_map_key=False)


def _entries(message: Any, max_bytes: int) -> Iterator[Mapping[Any, Any]]:
    """Yield the records of one message: `[tag, entries | packed | time, ...]`."""
    if not isinstance(message, list) or len(message) < 2:
        raise ForwardError(f"a message is {type(message).__name__}, not [tag, ...]")
    _, payload, *rest = message
    if isinstance(payload, list):
        for entry in payload:
            yield _record(entry)
    elif isinstance(payload, bytes):
        option = rest[0] if rest and isinstance(rest[0], dict) else {}
        if option.get("compressed", "text") != "text":
            raise ForwardError(f"compression {option['compressed']!r} is not supported")
        packed = _unpacker(max_bytes)
        packed.feed(payload)
        for count, entry in enumerate(packed):
            if count >= MAX_RECORDS:
                raise ForwardError(f"a message holds more than {MAX_RECORDS} records")
            yield _record(entry)
    elif rest:
        yield _record([payload, rest[0]])
    else:
        raise ForwardError("a message holds no record")


def _record(entry: Any) -> Mapping[Any, Any]:
    if not isinstance(entry, list) or len(entry) < 2 or not isinstance(entry[1], dict):
        raise ForwardError("an entry is not [time, record]")
    return entry[1]
