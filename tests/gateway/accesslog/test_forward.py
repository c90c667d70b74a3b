"""The forward protocol, as Envoy and forwarders send it."""

from __future__ import annotations

from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pybrix.gateway.accesslog.forward import EnvoyMessage, ForwardError, ForwardParser
from pybrix.gateway.accesslog.record import read_record

ONE = {"reservation": "me.1", "type": "DownstreamEnd", "status": 200, "upstream": "127.64.0.1:8000"}
TWO = {"reservation": None, "type": "DownstreamPeriodic", "status": 0, "upstream": "-"}


def forward(*records: dict[Any, Any]) -> bytes:
    packed: bytes = msgpack.packb(["pybrix", [[1_700_000_000, each] for each in records], {"fluent_signal": 2}])
    return packed


def ids(data: bytes) -> list[str]:
    return [record.reservation for record in ForwardParser().feed(data)]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(forward(ONE, TWO), id="forward mode"),
        pytest.param(
            msgpack.packb(["pybrix", b"".join(msgpack.packb([0, each]) for each in (ONE, TWO)), {}]), id="packed"
        ),
        pytest.param(b"".join(msgpack.packb(["pybrix", 0, each, {}]) for each in (ONE, TWO)), id="message mode"),
        pytest.param(
            msgpack.packb(["pybrix", [[msgpack.ExtType(0, b"\0" * 8), each] for each in (ONE, TWO)]]), id="event times"
        ),
        pytest.param(forward(ONE) + forward() + forward(TWO), id="several messages"),
    ],
)
def test_records_come_out_of_every_mode(data: bytes) -> None:
    assert ids(data) == ["me.1", ""]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"GET / HTTP/1.1\r\n", id="another protocol"),
        pytest.param(b"\xc1", id="a byte that never occurs"),
        pytest.param(msgpack.packb(["pybrix"]), id="a tag alone"),
        pytest.param(msgpack.packb(["pybrix", 0]), id="a time without a record"),
        pytest.param(msgpack.packb(["pybrix", [[0, "text"]]]), id="a record that is no map"),
        pytest.param(msgpack.packb(["pybrix", b"x", {"compressed": "gzip"}]), id="compression"),
        pytest.param(msgpack.packb(["pybrix", b"\x93"]), id="damage inside"),
    ],
)
def test_what_is_not_understood_ends_the_connection(data: bytes) -> None:
    parser = ForwardParser()
    if data == msgpack.packb(["pybrix", b"\x93"]):
        assert parser.feed(data) == []  # an entry that is cut off inside a whole message holds no record
        return
    with pytest.raises(ForwardError):
        parser.feed(data)


def test_a_message_is_bounded() -> None:
    parser = ForwardParser(max_message_bytes=1000)
    assert parser.feed(b"\x93\xa3tag\xdb\x00\x01\x00\x00" + b"x" * 900) == []
    with pytest.raises(ForwardError, match="larger than 1000"):
        parser.feed(b"x" * 200)


def test_bytes_that_are_no_text_do_not_stop_the_log() -> None:
    data = msgpack.packb(["pybrix", [[0, {b"\xff\xfe": b"raw", "request_id": "é"}]]])
    (record,) = ForwardParser().feed(data)
    assert record.request_id == "é"


records = st.lists(
    st.builds(lambda n: {**ONE, "reservation": f"me.{n}", "x" * (n % 60): n}, st.integers(0, 99)), max_size=8
)


@given(records, st.lists(st.integers(1, 40), min_size=1))
def test_however_the_bytes_are_cut_the_records_are_the_same(found: list[dict[Any, Any]], sizes: list[int]) -> None:
    data = forward(*found) + forward(TWO) + forward(*found)
    want = ForwardParser().feed(data)
    parser, at, turn, got = ForwardParser(), 0, 0, []
    while at < len(data):
        size = sizes[turn % len(sizes)]
        got += parser.feed(data[at : at + size])
        at, turn = at + size, turn + 1
    assert got == want
    assert len(got) == 2 * len(found) + 1


ENVOY_RECORD = {
    "attempts": 1,
    "cached_tokens": None,
    "cluster": "default/m",
    "completion_tokens": 20.0,
    "duration_ms": 40,
    "flags": "-",
    "prompt_tokens": 310.0,
    "request_id": "0ccc0346-c368-4451-8c34-0878d26b4f08",
    "reservation": "me.1",
    "status": 200,
    "ttft_ms": 12,
    "type": "DownstreamEnd",
    "upstream": "127.64.0.1:8000",
}
"""As Envoy 1.40 sends it."""
odd = st.one_of(st.none(), st.booleans(), st.integers(-5, 1 << 70), st.floats(), st.text(max_size=5), st.just("-"))


def test_what_envoy_sends_fits_the_typed_decoder() -> None:
    message = msgspec.msgpack.decode(msgpack.packb(["pybrix", [[1_700_000_000, ENVOY_RECORD]]]), type=EnvoyMessage)
    assert [record.read() for _, record in message.entries] == [read_record(ENVOY_RECORD)]


@settings(deadline=None)  # its first example may wait for a busy machine
@given(st.dictionaries(st.sampled_from(sorted(ENVOY_RECORD)), odd, max_size=3), st.booleans())
@example({"prompt_tokens": float("nan")}, False)
@example({"cached_tokens": float("inf")}, False)
def test_the_typed_decoder_reads_what_the_general_one_reads(changes: dict[str, Any], is_dropped: bool) -> None:
    kept = {key: value for key, value in ENVOY_RECORD.items() if not is_dropped or key not in changes}
    record = kept if is_dropped else kept | changes
    record = {key: v if type(v) is not int or v < 1 << 63 else 1 << 63 for key, v in record.items()}
    assert ForwardParser().feed(forward(record)) == [read_record(record)]


@pytest.mark.parametrize(
    ("value", "want"),
    [
        pytest.param(12, 12, id="a number"),
        pytest.param("12", 12, id="text"),
        pytest.param(12.7, 12, id="a fraction"),
        pytest.param(None, 0, id="null"),
        pytest.param("-", 0, id="a dash"),
        pytest.param("", 0, id="nothing"),
        pytest.param("many", 0, id="a word"),
        pytest.param(-3, 0, id="below zero"),
        pytest.param(float("nan"), 0, id="not a number"),
        pytest.param("1e400", 0, id="beyond numbers"),
        pytest.param(2**80, 0, id="beyond reason"),
        pytest.param(True, 0, id="a truth"),
        pytest.param([1], 0, id="a list"),
    ],
)
def test_a_count_is_read_from(value: Any, want: int) -> None:
    assert read_record({"completion_tokens": value}).completion_tokens == want


def test_no_first_byte_is_not_zero_milliseconds() -> None:
    assert read_record({"ttft_ms": "-"}).ttft_ms is None
    assert read_record({"ttft_ms": "0"}).ttft_ms == 0
