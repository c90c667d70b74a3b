"""Messages: what is written is read, by older and newer readers too; what is hostile is refused and nothing else."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.gateway.errors import BadMessage
from pybrix.gateway.indexes.load import Share
from pybrix.gateway.statesync.wire import (
    FLOW_WIDTH,
    FORMAT,
    MAX_ENDPOINTS,
    MAX_MESSAGE_BYTES,
    MODEL_WIDTH,
    RATE_WIDTH,
    Message,
    decode,
    encode,
    pack_blocks,
    unpack_blocks,
)
from tests.support.statesync import MODEL, Instance, engine

RECORDED = Path(__file__).parents[2] / "data" / "statesync"


def write(**fields: Any) -> bytes:
    """Return a message as it is on the wire, by its short keys."""
    return msgspec.msgpack.encode({"i": "gw-1", "n": 1, "s": 1, **fields})


def told() -> bytes:
    """Return a message with something of every kind."""
    speaker = Instance("gw-1")
    speaker.begin(engine(0), range(40), "ann", 10.0)
    speaker.begin(engine(1), range(20), "bob", 10.0)
    speaker.end(1, 10.5)
    (data,) = speaker.replica.messages(11.0)
    return data


def assert_understood(listener: Instance) -> None:
    assert listener.replica.refused == 0
    assert listener.loads.of(engine(0)).elsewhere == Share(1, 100, 60, 50)
    assert listener.loads.of(engine(1)).requests == 0
    assert listener.loads.of(engine(1)).learnt.latency_ms == pytest.approx(900)
    assert listener.indexes.prefix.match(range(40), [engine(0), engine(1)]) == [40, 20]
    assert listener.indexes.users.of(("default", "m"), "ann", 11.0) == pytest.approx(200, rel=0.01)
    assert listener.sizes[MODEL].decode_tokens(None) == 30
    assert listener.indexes.history.of(engine(0), 11.0).prompt == 100
    assert listener.indexes.backlogs.tokens(engine(0), 11.0) == 60


def test_what_is_told_is_understood() -> None:
    listener = Instance("gw-2")
    listener.replica.take(told(), 0.0, 11.0)
    assert_understood(listener)


@pytest.mark.parametrize("path", sorted(RECORDED.glob("message-*.msgpack")), ids=lambda path: path.stem)
def test_messages_of_every_format_there_was_are_understood(path: Path) -> None:
    listener = Instance("gw-2")
    listener.replica.take(path.read_bytes(), 0.0, 11.0)
    assert_understood(listener)


@pytest.mark.parametrize("path", sorted(RECORDED.glob("snapshot-*.msgpack")), ids=lambda path: path.stem)
def test_snapshots_of_every_format_there_was_are_understood(path: Path) -> None:
    listener = Instance("gw-2")
    parts = msgspec.msgpack.decode(path.read_bytes(), type=list[bytes])
    for _ in listener.replica.take_snapshot(parts, 0.0, 11.0):
        pass
    assert_understood(listener)
    (peer,) = listener.replica.peers
    assert not peer.is_behind


def test_a_newer_format_that_says_more_is_understood_as_far_as_it_is_known() -> None:
    message = msgspec.msgpack.decode(told())
    message["v"] = FORMAT + 1
    message["new"] = {"kind": [1, 2, 3]}
    message["f"] += "z"
    for kind in "ltrmu":
        for cell in message[kind]:
            cell[-1] += [7, 8] if cell[-1] else []
    listener = Instance("gw-2")
    listener.replica.take(msgspec.msgpack.encode(message), 0.0, 11.0)
    assert_understood(listener)


def test_an_older_format_that_says_less_is_understood() -> None:
    message = msgspec.msgpack.decode(told())
    for kind in ("r", "t", "m", "u", "p", "a"):
        message.pop(kind, None)
    listener = Instance("gw-2")
    listener.replica.take(msgspec.msgpack.encode(message), 0.0, 11.0)
    assert listener.replica.refused == 0
    assert listener.loads.of(engine(0)).requests == 1


SUMS = [1.0] * RATE_WIDTH


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xc1", id="no msgpack"),
        pytest.param(b"\x93\x01\x02\x03", id="no map"),
        pytest.param(b"\x91" * 100_000, id="deep"),
        pytest.param(write(x="a" * MAX_MESSAGE_BYTES), id="large"),
        pytest.param(write(v=FORMAT + 1, c=FORMAT + 1), id="not for this reader"),
        pytest.param(write(i="../../etc"), id="a name that is a path"),
        pytest.param(write(i=""), id="no name"),
        pytest.param(write(i="a" * 100), id="a long name"),
        pytest.param(write(n=-1), id="an incarnation below zero"),
        pytest.param(write(s=2**60), id="a number beyond all bounds"),
        pytest.param(write(l=[[0, [1, 1, 1, 1]]]), id="a position without endpoint"),
        pytest.param(write(e=[["u", 1]], l=[[0, [1, 2]]]), id="a list that is too short"),
        pytest.param(write(e=[["u", 1]], l=[[0, [-1, 0, 0, 0]]]), id="a load below zero"),
        pytest.param(write(e=[["u", 1]], l=[[0, [2**62, 0, 0, 0]]]), id="a load beyond all bounds"),
        pytest.param(write(e=[["u", 1]], l=[[0, [1.5, 0, 0, 0]]]), id="half a request"),
        pytest.param(write(e=[["u", 1]], t=[[0, [2**60] * FLOW_WIDTH]]), id="a flow beyond all bounds"),
        pytest.param(write(e=[["u", 1]], r=[[0, [math.nan, *SUMS[1:]]]]), id="a sum that is no number"),
        pytest.param(write(e=[["u", 1]], r=[[0, [math.inf, *SUMS[1:]]]]), id="a sum without end"),
        pytest.param(write(e=[["u", 1]], r=[[0, [-1.0, *SUMS[1:]]]]), id="a sum below zero"),
        pytest.param(write(m=[["ns", "m", [math.nan] * MODEL_WIDTH]]), id="a size that is no number"),
        pytest.param(write(u=[["ns", "m", "", [1.0]]]), id="a user without name"),
        pytest.param(write(e=[["u", 1]], p=[[0, b"1234567"]]), id="half a block"),
        pytest.param(write(e=[["u", 70_000]]), id="no port"),
        pytest.param(write(e=[["u", 1]] * (MAX_ENDPOINTS + 1)), id="endpoints beyond all bounds"),
        pytest.param(write(e=[["u", 1]], l=[[0, [1] * 100]]), id="a list that is too long"),
        pytest.param(write(i=b"gw"), id="bytes for text"),
        pytest.param(write(e=[[b"\xff\xfe".decode("latin-1") * 200, 1]]), id="a long uid"),
    ],
)
def test_what_is_hostile_is_refused_and_changes_nothing(data: bytes) -> None:
    with pytest.raises(BadMessage):
        decode(data)
    listener = Instance("gw-2")
    listener.replica.take(told(), 0.0, 11.0)
    listener.replica.take(data, 0.0, 11.0)
    assert listener.replica.refused == 1
    listener.replica.refused = 0
    assert_understood(listener)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    try:
        decode(data)
    except BadMessage:
        return


@given(st.data())
def test_any_damage_to_a_message_is_survived(data: st.DataObject) -> None:
    message = bytearray(told())
    for _ in range(data.draw(st.integers(1, 6))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    listener = Instance("gw-2")
    listener.replica.take(bytes(message), 0.0, 11.0)
    for _ in listener.replica.take_snapshot([bytes(message), b"x"], 0.0, 11.0):
        pass
    listener.replica.keep_house(12.0)
    for endpoint in listener.engines:
        load = listener.loads.of(endpoint)
        assert load.requests >= 0
        assert not math.isnan(load.learnt.failure_ratio)
    assert listener.replica.messages(12.0)


@given(st.lists(st.integers(0, 2**64 - 1)))
def test_blocks_survive_the_wire(blocks: list[int]) -> None:
    assert unpack_blocks(pack_blocks(blocks)) == blocks


def test_a_message_is_small() -> None:
    quiet = Message(instance="gw-1", incarnation=1, sequence=1)
    assert len(encode(quiet)) < 20
