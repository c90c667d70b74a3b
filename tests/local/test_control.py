"""Orders to a supervisor over its socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from pybrix.base.errors import UsageError
from pybrix.local import control
from pybrix.local.control import Control, ControlServer, NoControl, SupervisorSeen
from pybrix.local.layout import Layout
from pybrix.local.upgrade import Seen
from tests.support.waiting import until


class Obedient:
    """Does what it is told, when `go_on` lets it."""

    def __init__(self) -> None:
        self.done: list[object] = []
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.asked = asyncio.Event()

    def seen(self) -> SupervisorSeen:
        return SupervisorSeen("1f", "0.1", "/usr/bin/python3")

    def components(self) -> list[Seen]:
        return [Seen("brain", 1, stop_grace_s=10.0)]

    async def replace(self, name: str) -> None:
        self.asked.set()
        await self.go_on.wait()
        if name == "ghost":
            raise UsageError("there is no ghost here", "there are brain")
        self.done.append(name)

    async def scale(self, count: int) -> None:
        self.done.append(count)

    async def hand_over(self, python: str) -> None:
        self.done.append(python)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    layout.create()
    return layout


@pytest_asyncio.fixture
async def obedient(layout: Layout) -> AsyncIterator[Obedient]:
    orders = Obedient()
    server = ControlServer(orders, layout.control_socket)
    await server.start()
    yield orders
    await server.stop()
    assert not layout.control_socket.exists()


async def test_orders_are_carried_out(obedient: Obedient, layout: Layout) -> None:
    orders = Control(layout)
    assert await orders.supervisor() == obedient.seen()
    assert await orders.components() == obedient.components()
    await orders.replace("brain")
    await orders.scale(3)
    await orders.hand_over("/usr/bin/python3")
    assert obedient.done == ["brain", 3, "/usr/bin/python3"]
    assert layout.control_socket.stat().st_mode & 0o777 == 0o600


async def test_what_did_not_work_is_told_in_the_supervisors_words(obedient: Obedient, layout: Layout) -> None:
    with pytest.raises(UsageError, match=r"no ghost here.*there are brain"):
        await Control(layout).replace("ghost")


async def test_one_order_at_a_time(obedient: Obedient, layout: Layout) -> None:
    orders = Control(layout)
    obedient.go_on.clear()
    async with asyncio.TaskGroup() as group:
        group.create_task(orders.replace("brain"))
        await obedient.asked.wait()
        with pytest.raises(UsageError, match="something else is being changed"):
            await orders.scale(2)
        assert await orders.components(), "to look is always allowed"
        obedient.go_on.set()
    assert obedient.done == ["brain"]


async def test_nobody_takes_orders(layout: Layout) -> None:
    with pytest.raises(NoControl, match=r"nobody takes orders on .*pybrix status --data-dir"):
        await Control(Layout(layout.root / "nobody")).components()


async def test_a_socket_that_was_removed_is_made_again(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_SOCKET_CHECK_S", 0.01)
    server = ControlServer(Obedient(), layout.control_socket)
    await server.start()
    keeping = asyncio.create_task(server.keep_listening())
    layout.control_socket.unlink()

    async def is_there() -> bool:
        return layout.control_socket.exists()

    await until(is_there)
    assert await Control(layout).components()
    assert layout.control_socket.stat().st_mode & 0o777 == 0o600
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    await server.stop()
    assert not layout.control_socket.exists()
