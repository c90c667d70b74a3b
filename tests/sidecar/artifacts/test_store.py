"""The artifacts on the disk: complete or not there, shared, evicted, found again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pybrix.base.errors import UsageError
from pybrix.sidecar.artifacts.credentials import Credentials
from pybrix.sidecar.artifacts.errors import (
    ArtifactTooLarge,
    DiskFull,
    ListingHostile,
    SourceRefused,
    SourceUnavailable,
)
from pybrix.sidecar.artifacts.source import HubSource
from tests.support.artifacts import MIB, open_shelf
from tests.support.sources import ADAPTER, Origin, git_blob, origin, publish_repository, tar_gz
from tests.support.waiting import until_now

DATA = bytes(range(256)) * 20_000


@pytest.fixture
async def source() -> AsyncIterator[Origin]:
    async with origin() as running:
        yield running


async def test_the_same_is_fetched_once(tmp_path: Path, source: Origin) -> None:
    url = source.put("/x.bin", DATA)
    async with open_shelf(tmp_path) as shelf:
        first, second = await shelf.get(url), await shelf.get(url)
        assert first == second
    async with open_shelf(tmp_path) as shelf:
        assert (await shelf.get(url)).key == first.key
        assert shelf.store.counters.hits == 1
    assert len(source.bodies()) == 1


async def test_another_version_is_another_artifact(tmp_path: Path, source: Origin) -> None:
    url = source.put("/x.bin", DATA)
    async with open_shelf(tmp_path) as shelf:
        first = await shelf.get(url)
        source.put("/x.bin", b"other")
        assert await shelf.read(url) == {"x.bin": b"other"}
        assert (first.files_dir / "x.bin").read_bytes() == DATA


async def test_the_same_bytes_at_another_url_are_another_artifact(tmp_path: Path, source: Origin) -> None:
    async with open_shelf(tmp_path) as shelf:
        keys = {(await shelf.get(source.put(path, DATA))).key for path in ("/a/x", "/b/x")}
        assert len(keys) == 2


async def test_requests_for_one_artifact_are_joined(tmp_path: Path, source: Origin) -> None:
    url = source.put("/x.bin", DATA)
    source.gate = asyncio.Event()
    async with open_shelf(tmp_path) as shelf, asyncio.TaskGroup() as group:
        waiting = [group.create_task(shelf.get(url)) for _ in range(20)]
        await source.half_sent.wait()
        gives_up = waiting.pop()
        gives_up.cancel()
        source.gate.set()
        artifacts = await asyncio.gather(*waiting)
        assert len({artifact.key for artifact in artifacts}) == 1
        assert shelf.store.counters.joined == 19
    assert len(source.bodies()) == 1


async def test_who_gives_up_does_not_end_it(tmp_path: Path, source: Origin) -> None:
    url = source.put("/x.bin", DATA)
    source.gate = asyncio.Event()
    async with open_shelf(tmp_path) as shelf:
        async with asyncio.TaskGroup() as group:
            only = group.create_task(shelf.get(url))
            await source.half_sent.wait()
            only.cancel()
        source.gate.set()
        assert await shelf.read(url) == {"x.bin": DATA}
    assert len(source.bodies()) == 1


async def test_what_nobody_waits_for_ends_and_is_gone_on_with_later(tmp_path: Path, source: Origin) -> None:
    url = source.put("/x.bin", DATA)
    source.gate = asyncio.Event()
    async with open_shelf(tmp_path) as shelf:
        shelf.store._linger_s = 0.05
        async with asyncio.TaskGroup() as group:
            only = group.create_task(shelf.get(url))
            await source.half_sent.wait()
            (flight,) = shelf.store.flights()
            await until_now(lambda: flight.progress.received_bytes >= 2 * MIB)
            only.cancel()
        await until_now(lambda: not shelf.store.flights())
        assert shelf.store.counters.downloads["http", "Abandoned"] == 1
        assert not shelf.complete()
        source.gate.set()
        source.gate = None
        assert await shelf.read(url) == {"x.bin": DATA}
    assert source.bodies()[-1].headers["Range"].startswith("bytes=")


async def test_who_comes_while_it_lingers_joins(tmp_path: Path, source: Origin) -> None:
    url = source.put("/x.bin", DATA)
    source.gate = asyncio.Event()
    async with open_shelf(tmp_path) as shelf, asyncio.TaskGroup() as group:
        shelf.store._linger_s = 0.3
        first = group.create_task(shelf.get(url))
        await source.half_sent.wait()
        first.cancel()
        await asyncio.sleep(0)
        second = group.create_task(shelf.get(url))
        await until_now(lambda: shelf.store.counters.joined == 1)
        await asyncio.sleep(0.4)
        source.gate.set()
        await second
    assert len(source.bodies()) == 1


async def test_a_failure_is_told_to_all_who_wait(tmp_path: Path, source: Origin) -> None:
    url = source.put("/x.bin", DATA)
    source.cuts = [0] * 99
    async with open_shelf(tmp_path) as shelf:
        results = await asyncio.gather(*(shelf.get(url) for _ in range(5)), return_exceptions=True)
        assert [type(result) for result in results] == [SourceUnavailable] * 5
        source.cuts = []
        assert await shelf.read(url) == {"x.bin": DATA}


async def test_a_sidecar_that_ends_in_the_middle_goes_on_the_next_time(tmp_path: Path, source: Origin) -> None:
    url = source.put("/x.bin", DATA)
    source.gate = asyncio.Event()
    async with open_shelf(tmp_path) as shelf:
        waiting = asyncio.ensure_future(shelf.get(url))
        await source.half_sent.wait()
        (flight,) = shelf.store.flights()
        await until_now(lambda: flight.progress.received_bytes >= 2 * MIB)
        await shelf.store.close()
        with pytest.raises(SourceUnavailable, match="stops"):
            await waiting
        assert not shelf.complete()
    source.gate.set()
    source.gate = None
    async with open_shelf(tmp_path) as shelf:
        assert await shelf.read(url) == {"x.bin": DATA}
        assert not shelf.partial()
    assert source.bodies()[-1].headers["Range"].startswith("bytes=")
    assert source.bodies()[-1].sent_bytes < len(DATA)


async def test_files_of_a_listing_that_are_complete_are_not_fetched_again(tmp_path: Path, source: Origin) -> None:
    publish_repository(source, "org/lora", {"a": b"a" * 2000, "b": b"b" * 2000})
    source.broken.add("/org/lora/resolve/c0ffee1/b")
    async with open_shelf(tmp_path, hub=source.url, concurrency=1) as shelf:
        with pytest.raises(SourceUnavailable):
            await shelf.read("hf://org/lora")
        source.broken.clear()
        assert await shelf.read("hf://org/lora") == {"a": b"a" * 2000, "b": b"b" * 2000}
    assert len(source.bodies("/org/lora/resolve/c0ffee1/a")) == 1


async def test_what_is_not_complete_after_a_crash_does_not_count(tmp_path: Path, source: Origin) -> None:
    url = source.put("/x.bin", DATA)
    async with open_shelf(tmp_path) as shelf:
        artifact = await shelf.get(url)
    # A crash can leave a directory without a manifest only by tampering; a manifest that is cut, by a broken disk.
    (tmp_path / "artifacts" / artifact.key / "manifest.json").write_bytes(b'{"key"')
    (tmp_path / "trash" / "1-0").mkdir()
    async with open_shelf(tmp_path) as shelf:
        assert not shelf.complete()
        assert not list((tmp_path / "trash").iterdir())
        assert await shelf.read(url) == {"x.bin": DATA}


async def test_the_least_recently_used_leaves(tmp_path: Path, source: Origin) -> None:
    urls = [source.put(f"/{name}", name.encode() * 4 * MIB) for name in "abc"]
    async with open_shelf(tmp_path, budget_bytes=9 * MIB) as shelf:
        first = await shelf.get(urls[0])
        second = await shelf.get(urls[1])
        await shelf.get(urls[0])
        third = await shelf.get(urls[2])
        assert shelf.complete() == {first.key, third.key}
        assert second.key not in shelf.complete()
        assert shelf.store.counters.evictions == 1
        assert not list((tmp_path / "trash").iterdir())


async def test_the_order_survives_a_restart(tmp_path: Path, source: Origin) -> None:
    urls = [source.put(f"/{name}", name.encode() * 4 * MIB) for name in "abc"]
    async with open_shelf(tmp_path, budget_bytes=9 * MIB) as shelf:
        first = await shelf.get(urls[0])
        await shelf.get(urls[1])
        os.utime(tmp_path / "artifacts" / first.key / "manifest.json", (1, 1))
    async with open_shelf(tmp_path, budget_bytes=9 * MIB) as shelf:
        await shelf.get(urls[2])
        assert first.key not in shelf.complete()


async def test_what_is_loaded_stays(tmp_path: Path, source: Origin) -> None:
    urls = [source.put(f"/{name}", name.encode() * 4 * MIB) for name in "abc"]
    async with open_shelf(tmp_path, budget_bytes=9 * MIB) as shelf:
        first, second = await shelf.get(urls[0]), await shelf.get(urls[1])
        shelf.loaded |= {first.key, second.key}
        with pytest.raises(DiskFull):
            await shelf.get(urls[2])
        assert shelf.complete() == {first.key, second.key}
        shelf.loaded.remove(second.key)
        await shelf.get(urls[2])
        assert first.key in shelf.complete()
        assert second.key not in shelf.complete()


async def test_what_is_about_to_be_loaded_stays(tmp_path: Path, source: Origin) -> None:
    publish_repository(source, "org/lora", {"a": b"a" * 4 * MIB})
    url = source.put("/x", b"x" * 6 * MIB)
    async with open_shelf(tmp_path, hub=source.url, budget_bytes=9 * MIB) as shelf:
        async with shelf.library.lease(HubSource("org/lora"), Credentials()) as artifact:
            with pytest.raises(DiskFull):
                await shelf.get(url)
            assert not await shelf.store.remove(artifact.key)
        await shelf.get(url)
        assert artifact.key not in shelf.complete()


async def test_parts_that_nobody_fetches_leave_first(tmp_path: Path, source: Origin) -> None:
    urls = [source.put(f"/{name}", name.encode() * 4 * MIB) for name in "abc"]
    async with open_shelf(tmp_path, budget_bytes=9 * MIB, attempts=1) as shelf:
        first = await shelf.get(urls[0])
        source.cuts = [3 * MIB]
        with pytest.raises(SourceUnavailable):
            await shelf.get(urls[1])
        assert len(shelf.partial()) == 1
        third = await shelf.get(urls[2])
        assert shelf.complete() == {first.key, third.key}
        assert not shelf.partial()


async def test_two_downloads_are_not_promised_the_same_room(tmp_path: Path, source: Origin) -> None:
    urls = [source.put(f"/{name}", name.encode() * 4 * MIB) for name in "ab"]
    async with open_shelf(tmp_path, budget_bytes=6 * MIB) as shelf:
        results = await asyncio.gather(*(shelf.get(url) for url in urls), return_exceptions=True)
        assert sorted(type(result).__name__ for result in results) == ["Artifact", "DiskFull"]


async def test_a_disk_that_is_full(tmp_path: Path, source: Origin) -> None:
    url = source.put("/x", DATA)
    async with open_shelf(tmp_path, free_bytes=64 * MIB) as shelf:
        with pytest.raises(DiskFull, match="the disk lacks"):
            await shelf.get(url)
    assert not source.bodies()


async def test_an_archive_counts_unpacked(tmp_path: Path, source: Origin) -> None:
    url = source.put("/lora.tgz", tar_gz({"adapter_config.json": b"{}", "zeros": bytes(4 * MIB)}))
    async with open_shelf(tmp_path, budget_bytes=3 * MIB) as shelf:
        with pytest.raises(DiskFull):
            await shelf.get(url)
    async with open_shelf(tmp_path, limit_bytes=3 * MIB) as shelf:
        with pytest.raises(ArtifactTooLarge):
            await shelf.get(url)
    async with open_shelf(tmp_path) as shelf:
        files = await shelf.read(url)
        assert sorted(files) == ["adapter_config.json", "zeros"]
        (manifest,) = shelf.store.manifests()
        assert manifest.size_bytes == 4 * MIB + 2
        assert not shelf.partial()


async def test_while_the_source_is_away_the_same_question_gets_what_is_here(tmp_path: Path) -> None:
    async with origin() as hub:
        publish_repository(hub, "org/lora", ADAPTER)
        hub.required = "Bearer good"
        async with open_shelf(tmp_path, hub=hub.url) as shelf:
            artifact = await shelf.get("hf://org/lora", huggingface_token="good")
        url = hub.url
    # The same after a restart of the sidecar.
    async with open_shelf(tmp_path, hub=url) as shelf:
        assert await shelf.read("hf://org/lora", huggingface_token="good") == ADAPTER
        assert (await shelf.get("hf://org/lora", huggingface_token="good")).key == artifact.key
        for others in ({"huggingface_token": "other"}, {}):
            with pytest.raises(SourceUnavailable):
                await shelf.get("hf://org/lora", **others)


async def test_what_is_here_is_not_given_to_who_the_source_refuses(tmp_path: Path, source: Origin) -> None:
    publish_repository(source, "org/lora", ADAPTER)
    source.required = "Bearer good"
    async with open_shelf(tmp_path, hub=source.url) as shelf:
        await shelf.get("hf://org/lora", huggingface_token="good")
        with pytest.raises(SourceRefused):
            await shelf.get("hf://org/lora", huggingface_token="bad")


async def test_no_credential_is_written_to_the_disk(tmp_path: Path, source: Origin) -> None:
    publish_repository(source, "org/lora", ADAPTER)
    async with open_shelf(tmp_path, hub=source.url) as shelf:
        await shelf.get("hf://org/lora", huggingface_token="top-secret-token")
        await shelf.get(source.put("/x.bin", b"x"), headers='{"X-Key": "top-secret-header"}')
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert b"top-secret" not in path.read_bytes()
    assert (tmp_path / ".pybrix-key").stat().st_mode & 0o777 == 0o600


async def test_engines_of_other_users_can_read(tmp_path: Path, source: Origin) -> None:
    publish_repository(source, "org/lora", {"sub/a": b"x"})
    old = os.umask(0o077)
    try:
        async with open_shelf(tmp_path, hub=source.url) as shelf:
            artifact = await shelf.get("hf://org/lora")
    finally:
        os.umask(old)
    assert (artifact.files_dir / "sub/a").stat().st_mode & 0o777 == 0o644
    assert (artifact.files_dir / "sub").stat().st_mode & 0o777 == 0o755


async def test_two_sidecars_do_not_share_a_directory(tmp_path: Path) -> None:
    async with open_shelf(tmp_path):
        with pytest.raises(UsageError, match="another sidecar"):
            async with open_shelf(tmp_path):
                pass


@pytest.mark.parametrize("name", ["../../evil", "/etc/evil", "a/../../evil", ".pybrix-x", "a\\..\\evil", "a\0b"])
async def test_a_hostile_listing_writes_nothing(tmp_path: Path, source: Origin, name: str) -> None:
    data = b"evil"
    source.answers["/api/models/org/lora/revision/main"] = {
        "sha": "abc",
        "siblings": [{"rfilename": name, "size": len(data), "blobId": git_blob(data)}],
    }
    async with open_shelf(tmp_path / "deep" / "store", hub=source.url) as shelf:
        with pytest.raises(ListingHostile):
            await shelf.get("hf://org/lora")
        assert not shelf.partial()
        assert not shelf.complete()
    assert not list(tmp_path.rglob("*evil*"))
