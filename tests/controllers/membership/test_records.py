"""What is published: the text that AIBrix's readers expect, and versions that only grow."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from pybrix.controllers.membership.records import Member, Record, decode, encode, next_record, slot_counts

A, B = Member("c-0", "10.0.0.1", 9600), Member("c-1", "10.0.0.2", 9600)
OWNER = "KVCachePool default/c"


def following(stored: Record | None, *members: Member, **more: object) -> Record:
    return next_record(stored, members, owner=OWNER, slots=8, **more)  # type: ignore[arg-type]


def test_the_text_is_as_aibrix_has_it() -> None:
    record = following(None, A)
    assert json.loads(encode(record)) == {
        "nodes": [{"name": "c-0", "addr": "10.0.0.1", "port": 9600, "slots": [{"start": 0, "end": 7}]}],
        "version": 1,
        "owner": OWNER,
    }


def test_a_reader_that_counts_from_start_to_end_finds_every_slot_once() -> None:
    """As `construct_cluster` of `aibrix_kvcache` reads it, which knows no range that wraps around."""
    record = next_record(None, [A, B], owner=OWNER, slots=4096)
    found = [s for n in record.nodes for piece in n.slots for s in range(piece.start, piece.end + 1)]
    assert sorted(found) == list(range(4096))
    assert slot_counts(record) == {"c-0": 2048, "c-1": 2048}


def test_nothing_changes_nothing() -> None:
    record = following(None, A, B)
    assert following(record, B, A) is record


def test_a_new_address_is_published_without_moving_a_slot() -> None:
    record = following(None, A, B)
    moved = following(record, A, Member("c-1", "10.0.0.9", 9600))
    assert moved.version == 2
    assert moved.owners == record.owners
    assert [node.addr for node in moved.nodes] == ["10.0.0.1", "10.0.0.9"]


def test_a_server_that_forgot_gets_the_same_slots_and_a_later_version() -> None:
    record = following(following(None, A), A, B)
    again = following(None, A, B, known=record)
    assert again.nodes == record.nodes
    assert again.version == 3
    # Neither server nor process know, but people were told.
    assert following(None, A, B, least_version=7).version == 8


def test_without_members_nothing_is_assigned_and_the_version_grows() -> None:
    record = following(following(None, A))
    assert (record.nodes, record.version) == ((), 2)
    assert following(record, A).version == 3


def test_a_record_of_aibrix_is_continued() -> None:
    stored = decode(
        b'{"nodes":[{"name":"c-0","addr":"10.0.0.1","port":9600,"slots":[{"start":0,"end":7}]}],"version":41}'
    )
    assert stored is not None
    mine = following(stored, A)
    assert (mine.version, mine.owner, mine.nodes) == (42, OWNER, stored.nodes)


@given(st.binary(max_size=64))
def test_what_is_no_record_is_none(content: bytes) -> None:
    decode(content)
    assert decode(b"[]") is None
    assert decode(b"\xff") is None
