"""Kills at any instant, and a disk without room: what was acknowledged is there, and what cannot be done is said."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.apiserver import RunningApiServer, running_api_server
from tests.support.contract import MERGE, Api, config_map, connect
from tests.support.controlplane import ControlPlane

WRITERS = 8


class Writer:
    """Creates, changes and deletes objects of its own, and knows what was acknowledged of each.

    `known[name]` is the acknowledged value (None: deleted); `tried[name]` what was asked for and may have happened.
    """

    def __init__(self, api: Api, number: int, chance: random.Random) -> None:
        self.api = api
        self._number = number
        self._chance = chance
        self._count = 0
        self.known: dict[str, str | None] = {}
        self.tried: dict[str, str | None] = {}

    async def run(self) -> None:
        """Write until the server is gone."""
        try:
            while True:
                await self._write()
        except (TimeoutError, aiohttp.ClientError, ConnectionError):
            return

    async def _write(self) -> None:
        self._count += 1
        living = [name for name, value in self.known.items() if value is not None]
        action = self._chance.choice(("create", "patch", "patch", "delete")) if living else "create"
        name = f"w{self._number}-{self._count}" if action == "create" else self._chance.choice(living)
        value = None if action == "delete" else str(self._count)
        self.tried[name] = value
        path = self.api.at("configmaps", "" if action == "create" else name)
        if action == "create":
            answer = await self.api.create(path, config_map(name, x=str(value)))
        elif action == "patch":
            answer = await self.api.patch(path, {"data": {"x": value}}, MERGE)
        else:
            answer = await self.api.delete(path)
        assert answer.code in (200, 201), answer.body
        self.known[name] = value
        del self.tried[name]

    def check(self, found: dict[str, str]) -> None:
        """Compare with what is there; a write under way may have happened or not."""
        for name, value in self.known.items():
            allowed = {value, self.tried.get(name, value)}
            assert found.get(name) in allowed, (name, value, self.tried.get(name), found.get(name))
        # From here on, what is there is what is known.
        for name in self.tried:
            self.known[name] = found.get(name)
        self.tried.clear()


async def crash_and_compare(directory: Path, rounds: int, seed: int) -> None:
    chance = random.Random(seed)
    plane = ControlPlane(directory)
    plane.start()
    try:
        async with connect(plane.kubeconfig) as first:
            namespace = first.namespace
            writers: list[Writer] = []
            for number in range(rounds):
                async with connect(plane.kubeconfig) as api:
                    api.namespace = namespace
                    if number == 0:
                        writers = [Writer(api, n, chance) for n in range(WRITERS)]
                    for writer in writers:
                        writer.api = api
                    tasks = [asyncio.create_task(writer.run()) for writer in writers]
                    await asyncio.sleep(chance.uniform(0.05, 0.4))
                    plane.kill()
                    await asyncio.gather(*tasks)
                    plane.start()
                    api.namespace = ""
                async with connect(plane.kubeconfig) as reader:
                    listed = await reader.get(f"/api/v1/namespaces/{namespace}/configmaps")
                    found = {o["metadata"]["name"]: o.get("data", {}).get("x", "") for o in listed.body["items"]}
                for writer in writers:
                    writer.check(found)
            assert sum(len(writer.known) for writer in writers) > rounds
    finally:
        plane.kill()


async def test_killed_server_loses_no_acknowledged_write(tmp_path: Path) -> None:
    await crash_and_compare(tmp_path, 2, seed=7)


@pytest.mark.soak
async def test_server_that_is_killed_again_and_again_loses_no_acknowledged_write(tmp_path: Path) -> None:
    await crash_and_compare(tmp_path, 100, seed=11)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningApiServer]:
    async with running_api_server(tmp_path) as running:
        yield running


async def test_full_disk_is_said_nothing_changes_and_reading_goes_on(server: RunningApiServer) -> None:
    async with connect(server.kubeconfig) as api:
        made = await api.create(api.at("configmaps"), config_map("c", x="1"))
        server.store._database.limit_pages(1)
        large: dict[str, Any] = {"data": {"x": "y" * 100_000}}
        answers = [await api.patch(api.at("configmaps", "c"), large) for _ in range(3)]
        assert {a.code for a in answers} == {507}
        assert "no room to write" in answers[0].body["message"]
        assert "free disk space" in answers[0].body["message"]
        got = await api.get(api.at("configmaps", "c"))
        assert (got.body["data"], got.body["metadata"]["resourceVersion"]) == (
            {"x": "1"},
            made.body["metadata"]["resourceVersion"],
        )
        # What fits again is written again.
        server.store._database.limit_pages(1_000_000)
        assert (await api.patch(api.at("configmaps", "c"), large)).code == 200
