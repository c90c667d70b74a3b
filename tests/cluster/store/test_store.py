"""The store keeps what it acknowledged, numbers every change, and replays them."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybrix.api.identity import ObjectKey, Uid
from pybrix.base.clock import SystemClock
from pybrix.cluster.errors import (
    DataLocked,
    HistoryGone,
    SlowSubscriber,
    StoreConflict,
    StoreCorrupt,
    StoreFailed,
    StoreFull,
    StoreTooNew,
)
from pybrix.cluster.store.database import REVISION_GAP_AFTER_REBOOT, Database
from pybrix.cluster.store.schema import APPLICATION_ID, MIGRATIONS, SCHEMA_VERSION
from pybrix.cluster.store.store import Store

KEY = ObjectKey("default", "a")


def config_map(name: str = "a", uid: str = "u-a", **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default", "uid": uid}, "data": data}


def open_store(tmp_path: Path, **options: Any) -> Store:
    return Store.open(tmp_path / "cluster.db", clock=SystemClock(), **options)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path)
    yield opened
    opened.close()


def test_each_write_gets_the_next_revision_of_the_whole_store(store: Store) -> None:
    first = store.create("configmaps", KEY, config_map())
    second = store.create("secrets", KEY, config_map())
    assert (first.revision, second.revision, store.revision) == (1, 2, 2)
    assert second.data["metadata"]["resourceVersion"] == "2"


def test_update_needs_the_revision_that_is_there(store: Store) -> None:
    first = store.create("configmaps", KEY, config_map())
    store.update("configmaps", KEY, config_map(x="1"), expected=first.revision)
    with pytest.raises(StoreConflict) as caught:
        store.update("configmaps", KEY, config_map(x="2"), expected=first.revision)
    assert caught.value.found == 2
    got = store.get("configmaps", KEY)
    assert got is not None
    assert got.data["data"] == {"x": "1"}


def test_creating_twice_is_a_conflict_and_deleting_what_is_gone_too(store: Store) -> None:
    first = store.create("configmaps", KEY, config_map())
    with pytest.raises(StoreConflict):
        store.create("configmaps", KEY, config_map())
    store.delete("configmaps", KEY, expected=first.revision)
    with pytest.raises(StoreConflict):
        store.delete("configmaps", KEY, expected=first.revision)


def test_recreated_object_is_found_by_its_own_uid_only(store: Store) -> None:
    first = store.create("pods", KEY, config_map(uid="one"))
    store.delete("pods", KEY, expected=first.revision)
    store.create("pods", KEY, config_map(uid="two"))
    assert store.by_uid(Uid("one")) is None
    assert store.by_uid(Uid("two")) is not None


def test_reopened_store_holds_the_same_objects_and_revision(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    first = store.create("configmaps", KEY, config_map(x="1"))
    store.create("configmaps", ObjectKey("default", "b"), config_map("b", "u-b"))
    store.update("configmaps", KEY, config_map(x="2"), expected=first.revision)
    store.delete("configmaps", ObjectKey("default", "b"), expected=2)
    store.close()
    again = open_store(tmp_path)
    assert [(o.key.name, o.data["data"], o.revision) for o in again.iterate()] == [("a", {"x": "2"}, 3)]
    assert again.revision == 4
    again.close()


async def test_watch_from_a_version_before_a_restart_replays_what_followed(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    first = store.create("configmaps", KEY, config_map())
    store.update("configmaps", KEY, config_map(x="2"), expected=first.revision)
    store.delete("configmaps", KEY, expected=2)
    store.close()
    again = open_store(tmp_path)
    changes = again.subscribe("configmaps", since=1).take()
    assert [(str(c.type), c.revision) for c in changes] == [("MODIFIED", 2), ("DELETED", 3)]
    assert changes[0].previous is not None
    assert changes[0].previous.data["data"] == {}
    again.close()


async def test_watch_from_a_version_out_of_the_history_is_gone_also_after_a_restart(tmp_path: Path) -> None:
    store = open_store(tmp_path, history_limit=10)
    stored = store.create("configmaps", KEY, config_map())
    for number in range(2_000):
        stored = store.update("configmaps", KEY, config_map(n=str(number)), expected=stored.revision)
    with pytest.raises(HistoryGone):
        store.subscribe("configmaps", since=5)
    assert len(store.subscribe("configmaps", since=store.revision - 10).take()) == 10
    store.close()
    again = open_store(tmp_path, history_limit=10)
    with pytest.raises(HistoryGone):
        again.subscribe("configmaps", since=5)
    changes = again.subscribe("configmaps", since=again.revision - 10).take()
    assert [c.object.data["data"]["n"] for c in changes] == [str(n) for n in range(1990, 2000)]
    assert all(c.previous is not None for c in changes)
    again.close()


def test_obsolete_rows_are_compacted_and_the_revision_goes_on(tmp_path: Path) -> None:
    store = open_store(tmp_path, history_limit=10)
    for number in range(1_000):
        made = store.create("configmaps", KEY, config_map(uid=str(number)))
        store.delete("configmaps", KEY, expected=made.revision)
    store.close()
    with sqlite3.connect(tmp_path / "cluster.db") as raw:
        (rows,) = raw.execute("SELECT count(*) FROM log").fetchone()
    raw.close()
    assert rows < 1_100
    again = open_store(tmp_path)
    assert again.revision == 2_000
    assert again.resources() == []
    again.close()


async def test_subscription_sees_its_resource_and_namespace_only(store: Store) -> None:
    everything = store.subscribe()
    mine = store.subscribe("configmaps", "default")
    store.create("configmaps", KEY, config_map())
    store.create("configmaps", ObjectKey("other", "a"), config_map(uid="2"))
    store.create("secrets", KEY, config_map(uid="3"))
    assert [c.object.uid for c in mine.take()] == ["u-a"]
    assert len(everything.take()) == 3


async def test_subscriber_that_does_not_keep_up_is_cut_off(store: Store) -> None:
    cuts: list[str] = []
    slow = store.subscribe("configmaps", limit=3)
    slow.on_cut = lambda: cuts.append("cut")
    stored = store.create("configmaps", KEY, config_map())
    for number in range(5):
        stored = store.update("configmaps", KEY, config_map(n=str(number)), expected=stored.revision)
    assert cuts == ["cut"]
    with pytest.raises(SlowSubscriber):
        await slow.next()


async def test_closing_the_store_ends_its_subscriptions(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    subscription = store.subscribe()
    waiter = asyncio.ensure_future(subscription.next())
    await asyncio.sleep(0)
    store.close()
    assert await waiter is None


def test_list_at_an_earlier_revision_undoes_what_followed(store: Store) -> None:
    first = store.create("configmaps", KEY, config_map(x="1"))
    store.create("configmaps", ObjectKey("default", "b"), config_map("b", "u-b"))
    store.update("configmaps", KEY, config_map(x="2"), expected=first.revision)
    store.delete("configmaps", ObjectKey("default", "b"), expected=2)
    then = store.list_at("configmaps", "default", 2)
    assert [(o.key.name, o.data["data"]) for o in then] == [("a", {"x": "1"}), ("b", {})]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["put", "delete"])), max_size=40))
def test_any_run_of_writes_reopens_to_the_same_state_and_every_past_list_agrees(
    tmp_path_factory: pytest.TempPathFactory, moves: list[tuple[str, str]]
) -> None:
    path = tmp_path_factory.mktemp("store")
    store = open_store(path)
    past: dict[int, list[str]] = {0: []}
    for name, move in moves:
        key = ObjectKey("default", name)
        there = store.get("configmaps", key)
        if move == "delete" and there is not None:
            store.delete("configmaps", key, expected=there.revision)
        elif move == "put" and there is None:
            store.create("configmaps", key, config_map(name, f"u{store.revision}"))
        elif move == "put" and there is not None:
            store.update("configmaps", key, config_map(name, there.uid), expected=there.revision)
        past[store.revision] = [f"{o.key}@{o.revision}" for o in store.list("configmaps")]
    store.close()
    again = open_store(path)
    for revision, want in past.items():
        assert [f"{o.key}@{o.revision}" for o in again.list_at("configmaps", None, revision)] == want
    again.close()


def test_second_process_on_the_same_data_is_told_who_has_it(tmp_path: Path, store: Store) -> None:
    with pytest.raises(DataLocked, match=f"in use by process {os.getpid()}"):
        open_store(tmp_path)


def test_lock_is_free_again_after_close(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    open_store(tmp_path).close()


def test_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    with sqlite3.connect(tmp_path / "cluster.db") as raw:
        raw.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    raw.close()
    with pytest.raises(StoreTooNew, match="schema version"):
        open_store(tmp_path)


def test_database_of_version_1_is_migrated_with_its_objects(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "cluster.db") as raw:
        raw.executescript(MIGRATIONS[0])
        raw.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        raw.execute("PRAGMA user_version = 1")
        body = b'{"metadata":{"name":"a","namespace":"default","uid":"u-a","resourceVersion":"7"},"data":{}}'
        raw.execute("INSERT INTO log VALUES (7, 'ADDED', 'configmaps', 'default', 'a', ?)", (body,))
    raw.close()
    store = open_store(tmp_path)
    got = store.by_uid(Uid("u-a"))
    assert got is not None
    assert (got.key, got.revision, store.revision) == (KEY, 7, 7)
    store.close()


def test_foreign_or_damaged_file_is_a_clear_error_and_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "cluster.db"
    path.write_bytes(b"this is no database at all, only text" * 200)
    before = path.read_bytes()
    with pytest.raises(StoreCorrupt, match="is damaged"):
        open_store(tmp_path)
    assert path.read_bytes() == before
    path.unlink()
    with sqlite3.connect(path) as raw:
        raw.execute("CREATE TABLE other (x)")
    raw.close()
    with pytest.raises(StoreCorrupt, match="another program"):
        open_store(tmp_path)


def test_damaged_pages_are_noticed_at_start(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for number in range(200):
        store.create(
            "configmaps", ObjectKey("default", f"c{number}"), config_map(f"c{number}", str(number), x="y" * 500)
        )
    store.close()
    path = tmp_path / "cluster.db"
    damaged = bytearray(path.read_bytes())
    for start in range(4096, len(damaged), 4096):
        damaged[start : start + 64] = b"\xff" * 64
    path.write_bytes(damaged)
    with pytest.raises(StoreCorrupt):
        open_store(tmp_path)


def test_full_disk_fails_the_write_and_changes_nothing(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "cluster.db")
    store = Store(database, clock=SystemClock(), history_limit=100, history_limit_bytes=1 << 20)
    kept = store.create("configmaps", KEY, config_map(x="1"))
    database.limit_pages(12)
    subscription_seen = store.revision
    with pytest.raises(StoreFull, match="free disk space"):
        store.update("configmaps", KEY, config_map(x="y" * 200_000), expected=kept.revision)
    assert store.revision == subscription_seen
    got = store.get("configmaps", KEY)
    assert got is not None
    assert got.data["data"] == {"x": "1"}
    store.update("configmaps", KEY, config_map(x="2"), expected=kept.revision)
    store.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_directory_without_permission_is_a_clear_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreFailed):
        open_store(tmp_path)


def test_directory_in_place_of_the_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "cluster.db").mkdir()
    with pytest.raises(StoreFailed, match="cannot write"):
        open_store(tmp_path)


def test_reboot_leaves_a_gap_so_that_no_lost_revision_is_issued_again(tmp_path: Path) -> None:
    path = tmp_path / "cluster.db"
    Database.open(path, boot_id="first").close()
    store = Store(
        Database.open(path, boot_id="first"), clock=SystemClock(), history_limit=9, history_limit_bytes=1 << 20
    )
    store.create("configmaps", KEY, config_map())
    store.close()
    store = Store(
        Database.open(path, boot_id="second"), clock=SystemClock(), history_limit=9, history_limit_bytes=1 << 20
    )
    assert store.revision == 1 + REVISION_GAP_AFTER_REBOOT
    with pytest.raises(HistoryGone):
        store.subscribe(since=1)
    assert store.get("configmaps", KEY) is not None
    store.close()


def test_killed_process_loses_no_acknowledged_write(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from pybrix.api.identity import ObjectKey
        from pybrix.base.clock import SystemClock
        from pybrix.cluster.store.store import Store
        store = Store.open(Path(sys.argv[1]), clock=SystemClock())
        for number in range(1_000_000):
            name = f"c{number}"
            store.create("configmaps", ObjectKey("default", name), {"metadata": {"name": name, "uid": name}})
            print(name, flush=True)
        """
    )
    path = tmp_path / "cluster.db"
    process = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        acknowledged = [process.stdout.readline().strip() for _ in range(300)]
        process.send_signal(signal.SIGKILL)
        acknowledged += [line.strip() for line in process.stdout if line.endswith("\n")]
    process.wait()
    store = Store.open(path, clock=SystemClock())
    assert all(store.get("configmaps", ObjectKey("default", name)) is not None for name in acknowledged)
    store.close()
