"""Adapters go first, and nothing else while one of them is held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from pybrix.base.errors import UsageError
from pybrix.install.removal import ADAPTERS, remove_held
from pybrix.kube.errors import NotFound
from tests.support.clocks import LoopClock


class Adapters:
    """Adapters of which controllers let go after they were looked at so many times."""

    def __init__(self, count: int, looks: int) -> None:
        self.left = {f"a{number}" for number in range(count)}
        self.deleted: list[str] = []
        self.looks = looks

    async def get_raw(self, data: Mapping[str, Any]) -> dict[str, Any]:
        return dict(data)

    async def list_raw(self, api_version: str, kind: str) -> Sequence[dict[str, Any]]:
        if self.deleted:
            self.looks -= 1
        names = sorted(self.left) if self.looks > 0 else []
        return [{"kind": kind, "metadata": {"namespace": "n", "name": name}} for name in names]

    async def delete_raw(self, data: Mapping[str, Any]) -> None:
        self.deleted.append(data["metadata"]["name"])
        if data["metadata"]["name"] == "a1":
            # Somebody else was faster.
            raise NotFound(404, "NotFound", "gone")


async def test_they_are_deleted_and_waited_for() -> None:
    client = Adapters(3, looks=2)
    await remove_held(client, ADAPTERS, LoopClock(), timeout_s=60)
    assert (client.deleted, client.looks) == (["a0", "a1", "a2"], 0)


async def test_those_that_stay_are_named() -> None:
    with pytest.raises(UsageError, match=r"let go of ModelAdapter/n/a0, .*/a4 and 2 more; everything else") as raised:
        await remove_held(Adapters(7, looks=1_000), ADAPTERS, LoopClock(), timeout_s=0)
    assert "install.md" in str(raised.value)
