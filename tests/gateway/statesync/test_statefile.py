"""What is saved is there after a restart, as it has faded; what is damaged is no reason not to start."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from pybrix.gateway.indexes.load import LoadTable, Weight
from pybrix.gateway.indexes.reservations import Reservations
from pybrix.gateway.statesync import statefile
from pybrix.gateway.statesync.statefile import BlocksDocument, Restorer, StateDocument
from pybrix.gateway.view.facts import ModelKey
from tests.support.gateway import facts, view_of
from tests.support.statesync import MODEL, Instance, engine

VIEW = view_of(facts("a", uid="pod-0", ip="127.64.0.1"), facts("b", uid="pod-1", ip="127.64.0.2"))
RENEWAL_S = 10.0


def make_reservations() -> tuple[LoadTable, Reservations]:
    loads = LoadTable()
    return loads, Reservations(loads, "i1", lambda: "x", RENEWAL_S)


def save(directory: Path, instance: Instance, now_s: float) -> None:
    state, blocks = instance.snapshot(now_s)
    statefile.save(directory, StateDocument(1000.0, "gw-1", 7, state, []))
    statefile.save(directory, BlocksDocument(1000.0, blocks))


def restore(directory: Path, instance: Instance, now_s: float, age_s: float) -> None:
    loaded, blocks = statefile.load_state(directory), statefile.load_blocks(directory)
    assert loaded is not None
    assert blocks is not None
    restorer = Restorer(
        instance.replica.own,
        loads=instance.loads,
        indexes=instance.indexes,
        sizes=instance.sizes,
        live=frozenset(instance.engines),
        models=frozenset([MODEL]),
    )
    restorer.restore(loaded[1], now_s, age_s)
    for place in range(len(blocks.blocks)):
        restorer.restore_blocks(blocks, place)


def test_what_was_learnt_is_there_after_a_restart(tmp_path: Path) -> None:
    before, after = Instance("gw-1"), Instance("gw-1", incarnation=8)
    before.begin(engine(0), range(40), "ann", 10.0)
    before.begin(engine(1), range(20), "bob", 10.0)
    before.end(1, 10.5)
    save(tmp_path, before, 11.0)
    # Another process: its monotonic clock says something else.
    restore(tmp_path, after, 500.0, 30.0)
    assert after.indexes.prefix.match(range(40), [engine(0), engine(1)]) == [40, 20]
    assert after.loads.of(engine(1)).learnt.latency_ms == pytest.approx(900)
    assert after.sizes[MODEL].decode_tokens(None) == 30
    want = before.indexes.users.of(("default", "m"), "ann", 41.0)
    assert after.indexes.users.of(("default", "m"), "ann", 500.0) == pytest.approx(want, rel=0.01)
    assert after.counts() == {}, "only requests that are known by their reservations count again"
    assert after.indexes.backlogs.tokens(engine(0), 500.0) == 0.0, "60 tokens are prefilled within 30 s"
    # It is this gateway's own, so it is what it tells.
    listener = Instance("gw-2")
    for data in after.replica.messages(500.0):
        listener.replica.take(data, 0.0, 20.0)
    assert listener.loads.of(engine(1)).learnt.latency_ms == pytest.approx(900)
    assert listener.sizes[MODEL].decode_tokens(None) == 30


def test_a_requests_end_and_its_renewals_are_known_after_a_restart() -> None:
    loads, reservations = make_reservations()
    endpoint = VIEW.models[ModelKey("default", "m")].endpoints[0]
    held = reservations.reserve((endpoint,), Weight(100, 40, 20), 0.0)
    saved = statefile.render_held(reservations, 3.0)

    loads, again = make_reservations()
    assert statefile.restore_held(saved, again, statefile.endpoint_finder(VIEW), 600.0, 2.0) == 1
    assert loads.of(endpoint.id).own == (1, 100, 40, 20)
    assert next(iter(again)).since_s == 595.0
    # It is believed in until a renewal is missed, with the usual delay.
    assert again.expire(600.0 + RENEWAL_S + 1.9) == []
    assert again.renew(held, endpoint, 611.0)
    assert again.expire(611.0 + 2 * RENEWAL_S) == []
    assert again.release(held) is not None
    assert loads.of(endpoint.id).requests == 0


def test_a_request_of_which_nothing_is_heard_is_given_up_soon() -> None:
    _, reservations = make_reservations()
    endpoint = VIEW.models[ModelKey("default", "m")].endpoints[0]
    reservations.reserve((endpoint,), Weight(), 0.0)
    saved = statefile.render_held(reservations, 1.0)
    loads, again = make_reservations()
    statefile.restore_held(saved, again, statefile.endpoint_finder(VIEW), 600.0, 1.0)
    assert len(again.expire(600.0 + RENEWAL_S + 2.1)) == 1
    assert loads.of(endpoint.id).requests == 0


def test_a_request_that_was_silent_for_too_long_or_whose_pod_is_gone_is_not_counted() -> None:
    _, reservations = make_reservations()
    endpoint = VIEW.models[ModelKey("default", "m")].endpoints[0]
    reservations.reserve((endpoint,), Weight(), 0.0)
    saved = statefile.render_held(reservations, 1.0)
    loads, again = make_reservations()
    assert statefile.restore_held(saved, again, statefile.endpoint_finder(VIEW), 600.0, 40.0) == 0
    assert statefile.restore_held(saved, again, statefile.endpoint_finder(view_of()), 600.0, 1.0) == 0
    assert len(loads) == 0


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode({"saved_at_s": 1.0}),
        msgspec.msgpack.encode(StateDocument(1.0, "gw-1", 1, b"no message", [])),
        msgspec.msgpack.encode(StateDocument(1.0, "gw-1", 1, b"", [], format=2)),
    ],
)
def test_a_file_that_cannot_be_used_is_left_out(tmp_path: Path, text: bytes) -> None:
    (tmp_path / statefile.STATE_FILE).write_bytes(text)
    (tmp_path / statefile.BLOCKS_FILE).write_bytes(text)
    assert statefile.load_state(tmp_path) is None
    assert statefile.load_blocks(tmp_path) is None


def test_a_directory_of_a_release_without_saved_state_is_a_cold_start(tmp_path: Path) -> None:
    assert statefile.load_state(tmp_path) is None
    assert statefile.load_blocks(tmp_path) is None
