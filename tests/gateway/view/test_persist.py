"""The view on disk."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from pybrix.gateway.view.persist import ViewKeeper, load_view, parse_view, render_view, save_view
from pybrix.gateway.view.snapshot import build_view
from tests.support.gateway import MovableClock, adapter_facts, facts, slice_facts, view_of


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    view = build_view(
        [facts("a", uid="u1"), facts("b", namespace="two", ready=False)],
        [slice_facts("lora", "u1", addresses=["127.64.0.9"])],
        [adapter_facts("lora"), adapter_facts("later", ready=False, message="no pod")],
    )
    assert len(view.models) == 4
    save_view(tmp_path / "view.json", render_view(view, "2026-01-01T00:00:00Z"))
    loaded = load_view(tmp_path / "view.json")
    assert loaded is not None
    assert loaded[0].models == view.models
    assert loaded[1] == "2026-01-01T00:00:00Z"
    assert os.listdir(tmp_path) == ["view.json"]


def test_a_file_from_before_adapters_is_read(tmp_path: Path) -> None:
    pod = '{"uid":"u1","namespace":"default","name":"a","model":"m","port":8000,"address":"127.64.0.1","labels":{}}'
    (tmp_path / "view.json").write_text(f'{{"schemaVersion":1,"savedAt":"x","pods":[{pod}]}}')
    loaded = load_view(tmp_path / "view.json")
    assert loaded is not None
    assert list(loaded[0].by_host) == ["127.64.0.1:8000"]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"", id="it is empty"),
        pytest.param(b'{"schemaVersion":1,"savedAt":"x","pods":[{"uid":', id="it is cut off"),
        pytest.param(b'{"schemaVersion":3,"savedAt":"x","pods":[]}', id="a newer program wrote it"),
        pytest.param(b"[]", id="it is something else"),
    ],
)
def test_a_file_that_cannot_be_used_is_no_view(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "view.json").write_bytes(text)
    assert load_view(tmp_path / "view.json") is None
    with pytest.raises(ValueError, match=r"damaged|schema version 3"):
        parse_view(text)


def test_no_file_is_no_view(tmp_path: Path) -> None:
    assert load_view(tmp_path / "view.json") is None


async def test_the_keeper_writes_the_latest_view_once(tmp_path: Path) -> None:
    path = tmp_path / "view.json"
    keeper = ViewKeeper(path, MovableClock())
    keeper.keep(view_of(facts("a")))
    keeper.keep(view_of(facts("b")))
    await keeper.write_now()
    loaded = load_view(path)
    assert loaded is not None
    assert [p.name for p in loaded[0].pods.values()] == ["b"]
    path.unlink()
    await keeper.write_now()
    assert not path.exists()


async def test_a_disk_that_refuses_is_no_end(tmp_path: Path) -> None:
    keeper = ViewKeeper(tmp_path / "missing" / "view.json", MovableClock())
    keeper.keep(view_of(facts("a")))
    async with asyncio.timeout(60):
        await keeper.write_now()
