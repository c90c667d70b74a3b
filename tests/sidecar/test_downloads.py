"""Models on the disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.runtimesidecar import RunningSidecar, running_sidecar
from tests.support.sources import Origin, origin, publish_repository
from tests.support.waiting import until

FILES = {"config.json": b"{}", "model.safetensors": b"w" * 5000}


@pytest.fixture
async def source() -> AsyncIterator[Origin]:
    async with origin() as running:
        publish_repository(running, "org/model", FILES)
        yield running


@pytest.fixture
async def sidecar(tmp_path: Path, source: Origin) -> AsyncIterator[RunningSidecar]:
    async with running_sidecar(tmp_path / "adapters", "http://127.0.0.1:1", hub=source.url) as running:
        yield running


async def cards(sidecar: RunningSidecar) -> dict[str, dict[str, Any]]:
    """Return the list of models by name."""
    async with sidecar.client.get("/v1/model/list") as response:
        assert response.status == 200
        answer = await response.json()
    assert answer["object"] == "list"
    return {card["model_name"]: card for card in answer["data"]}


async def settled(sidecar: RunningSidecar, name: str) -> dict[str, Any]:
    """Return a model's card once nothing is under way."""

    async def is_settled() -> bool:
        return bool((await cards(sidecar))[name]["model_status"] != "downloading")

    await until(is_settled)
    return (await cards(sidecar))[name]


async def download(sidecar: RunningSidecar, **fields: Any) -> dict[str, Any]:
    answer = await sidecar.post("/v1/model/download", {"model_uri": "org/model", **fields})
    assert answer.status == 200, answer
    return answer.body


def files_of(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir() if not file.name.startswith(".")}


async def test_a_model_is_downloaded_in_the_background(sidecar: RunningSidecar, source: Origin, tmp_path: Path) -> None:
    assert await cards(sidecar) == {}
    source.gate = asyncio.Event()
    first = await download(sidecar)
    assert first == {
        "model_name": "model",
        "model_root_path": str(tmp_path / "models/model"),
        "source": "huggingface",
        "model_status": "downloading",
        "held_bytes": 0,
    }
    await source.half_sent.wait()
    assert not (tmp_path / "models/model").exists()
    again = await download(sidecar)
    assert again["model_status"] == "downloading"
    assert again["total_bytes"] == 5002
    source.gate.set()
    assert (await settled(sidecar, "model"))["model_status"] == "downloaded"
    assert files_of(tmp_path / "models/model") == FILES
    assert (await download(sidecar))["model_status"] == "downloaded"
    assert len(source.bodies()) == 2
    assert not (tmp_path / "models/.pybrix-work/model").exists()


async def test_it_is_known_after_a_restart(tmp_path: Path, source: Origin) -> None:
    for _ in range(2):
        async with running_sidecar(tmp_path / "adapters", "http://127.0.0.1:1", hub=source.url) as sidecar:
            await download(sidecar)
            card = await settled(sidecar, "model")
            assert (card["model_status"], card["source"]) == ("downloaded", "huggingface")
    assert len(source.bodies()) == 2


async def test_a_failure_is_told_and_the_next_request_begins_again(sidecar: RunningSidecar, source: Origin) -> None:
    source.failures = [404]
    await download(sidecar)
    failed = await settled(sidecar, "model")
    assert failed["model_status"] == "no_operation"
    assert "no such thing" in failed["error"]
    again = await download(sidecar)
    assert again["model_status"] == "downloading"
    assert again["error"] == failed["error"]
    assert (await settled(sidecar, "model"))["model_status"] == "downloaded"


async def test_another_uri_under_the_same_name_replaces_it(
    sidecar: RunningSidecar, source: Origin, tmp_path: Path
) -> None:
    await download(sidecar)
    await settled(sidecar, "model")
    publish_repository(source, "org/other", {"config.json": b"{1}"})
    await download(sidecar, model_uri="hf://org/other", model_name="model")
    await settled(sidecar, "model")
    assert files_of(tmp_path / "models/model") == {"config.json": b"{1}"}


async def test_what_others_put_there_is_not_touched(sidecar: RunningSidecar, tmp_path: Path) -> None:
    (tmp_path / "models/model").mkdir(parents=True)
    (tmp_path / "models/model/mine").write_text("x")
    assert (await cards(sidecar))["model"]["model_status"] == "unknown"
    answer = await sidecar.post("/v1/model/download", {"model_uri": "org/model"})
    assert (answer.status, answer.body["type"]) == (409, "Occupied")
    await download(sidecar, download_extra_config={"force_download": True})
    await settled(sidecar, "model")
    assert files_of(tmp_path / "models/model") == FILES


async def test_a_directory_and_a_name_of_ones_own(tmp_path: Path, source: Origin) -> None:
    allowed = str(tmp_path / "mine")
    async with running_sidecar(
        tmp_path / "adapters", "http://127.0.0.1:1", hub=source.url, allowed_paths=(allowed,)
    ) as sidecar:
        await download(sidecar, local_dir=allowed, model_name="m")

        async def is_there() -> bool:
            return (tmp_path / "mine/m/config.json").exists()

        await until(is_there)
        async with sidecar.client.get("/v1/model/list", json={"local_dir": allowed}) as response:
            assert [card["model_name"] for card in (await response.json())["data"]] == ["m"]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"local_dir": "/etc"}, 403),
        ({"local_dir": "/tmp/../etc"}, 422),
        ({"local_dir": "relative"}, 422),
        ({"model_name": "../x"}, 422),
        ({"model_name": ".pybrix-work"}, 422),
        ({"model_uri": "/models/x"}, 400),
        ({"model_uri": "ftp://x"}, 400),
        ({"other": 1}, 422),
    ],
    ids=str,
)
async def test_wrong_requests(sidecar: RunningSidecar, fields: dict[str, str], status: int) -> None:
    answer = await sidecar.post("/v1/model/download", {"model_uri": "org/model", **fields})
    assert answer.status == status, answer


async def test_only_wanted_suffixes(tmp_path: Path, source: Origin) -> None:
    async with running_sidecar(
        tmp_path / "adapters", "http://127.0.0.1:1", hub=source.url, suffixes=(".json",)
    ) as sidecar:
        await download(sidecar)
        await settled(sidecar, "model")
    assert list(files_of(tmp_path / "models/model")) == ["config.json"]
