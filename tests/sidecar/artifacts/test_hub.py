"""Repositories of the model hub."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pybrix.sidecar.artifacts.credentials import Credentials
from pybrix.sidecar.artifacts.errors import ChecksumMismatch, SourceInvalid, SourceMissing, SourceUnavailable
from tests.support.artifacts import Shelf, open_shelf
from tests.support.sources import ADAPTER, Origin, origin, publish_repository


@pytest.fixture
async def hub() -> AsyncIterator[Origin]:
    async with origin() as running:
        yield running


@pytest.fixture
async def shelf(tmp_path: Path, hub: Origin) -> AsyncIterator[Shelf]:
    async with open_shelf(tmp_path, hub=hub.url) as opened:
        yield opened


async def test_all_files_of_the_commit_come(shelf: Shelf, hub: Origin) -> None:
    publish_repository(hub, "org/lora", {**ADAPTER, "deep/er/x y.txt": b"x", ".gitattributes": b"lfs"})
    assert await shelf.read("hf://org/lora") == {**ADAPTER, "deep/er/x y.txt": b"x"}
    (manifest,) = shelf.store.manifests()
    assert manifest.revision == "c0ffee1"
    assert {file.checksum.partition(":")[0] for file in manifest.files} == {"sha256", "git-blob"}


async def test_a_revision_and_a_directory(shelf: Shelf, hub: Origin) -> None:
    publish_repository(hub, "org/loras", {"a/x": b"1", "ab/x": b"2", "x": b"3"}, revision="v1", commit="abc1")
    publish_repository(hub, "org/loras", {"a/x": b"4"}, commit="abc2")
    assert await shelf.read("hf://org/loras@v1/a") == {"x": b"1"}
    assert await shelf.read("hf://org/loras?revision=v1") == {"a/x": b"1", "ab/x": b"2", "x": b"3"}
    assert await shelf.read("hf://org/loras/a") == {"x": b"4"}
    with pytest.raises(SourceMissing):
        await shelf.read("hf://org/loras/none")


async def test_a_new_commit_is_another_artifact_of_which_only_the_new_is_checked(shelf: Shelf, hub: Origin) -> None:
    publish_repository(hub, "org/lora", {"a": b"1"}, commit="abc1")
    first = await shelf.get("hf://org/lora")
    publish_repository(hub, "org/lora", {"a": b"2"}, commit="abc2")
    second = await shelf.get("hf://org/lora")
    assert first.key != second.key


async def test_the_token_goes_to_the_hub_and_not_to_its_cdn(shelf: Shelf, hub: Origin) -> None:
    async with origin() as cdn:
        publish_repository(hub, "org/lora", ADAPTER)
        for name, data in ADAPTER.items():
            hub.redirects[f"/org/lora/resolve/c0ffee1/{name}"] = cdn.put(f"/blob/{name}", data)
        hub.required = "Bearer hf_token"
        assert await shelf.read("hf://org/lora", HF_TOKEN="hf_token") == ADAPTER
        assert len(cdn.asked) == len(ADAPTER)
        assert not any("Authorization" in asked.headers for asked in cdn.asked)


@pytest.mark.parametrize("name", list(ADAPTER))
async def test_other_bytes_than_the_hub_lists_are_refused(shelf: Shelf, hub: Origin, name: str) -> None:
    publish_repository(hub, "org/lora", ADAPTER)
    served = hub.files[f"/org/lora/resolve/c0ffee1/{name}"]
    served.data = b"X" + served.data[1:]
    with pytest.raises(ChecksumMismatch):
        await shelf.read("hf://org/lora")


async def test_more_bytes_than_the_hub_lists_are_refused(shelf: Shelf, hub: Origin) -> None:
    publish_repository(hub, "org/lora", ADAPTER)
    hub.files["/org/lora/resolve/c0ffee1/adapter_config.json"].data += b" " * 1000
    with pytest.raises(ChecksumMismatch, match="more than"):
        await shelf.read("hf://org/lora")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({}, SourceUnavailable),
        ([], SourceUnavailable),
        ({"sha": "../..", "siblings": [{"rfilename": "a"}]}, SourceInvalid),
        ({"sha": "abc", "siblings": []}, SourceMissing),
    ],
)
async def test_odd_answers_of_the_hub(shelf: Shelf, hub: Origin, answer: object, error: type[Exception]) -> None:
    hub.answers["/api/models/org/lora/revision/main"] = answer
    with pytest.raises(error):
        await shelf.read("hf://org/lora")


async def test_the_sidecars_own_token_is_for_requests_that_bring_none(tmp_path: Path, hub: Origin) -> None:
    publish_repository(hub, "org/lora", ADAPTER)
    hub.required = "Bearer own"
    async with open_shelf(tmp_path / "own", hub=hub.url, defaults=Credentials({"HF_TOKEN": "own"})) as shelf:
        assert await shelf.read("hf://org/lora") == ADAPTER
        hub.asked.clear()
        with pytest.raises(Exception, match="other credentials"):
            await shelf.read("hf://org/lora", aws_region="eu")
        assert "Authorization" not in hub.asked[0].headers
