"""Tasks end although a cancellation was lost."""

from __future__ import annotations

import asyncio

import pytest

from pybrix.base.cancellation import cancel_until_ended, run_cancellable


class Deaf:
    """Work that loses the first cancellations, as a client does whose answer comes at the same moment."""

    def __init__(self, losses: int) -> None:
        self.losses = losses
        self.has_ended = False

    async def work(self) -> None:
        try:
            while True:
                try:
                    await asyncio.sleep(3600)
                except asyncio.CancelledError:
                    if not self.losses:
                        raise
                    self.losses -= 1
        finally:
            self.has_ended = True


@pytest.mark.parametrize("losses", [0, 1, 3])
async def test_work_that_loses_cancellations_ends_all_the_same(losses: int) -> None:
    deaf = Deaf(losses)
    task = asyncio.ensure_future(run_cancellable(deaf.work()))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert deaf.has_ended


async def test_all_tasks_have_ended() -> None:
    some = [Deaf(losses) for losses in (0, 2, 1)]
    tasks = [asyncio.ensure_future(each.work()) for each in some]
    await asyncio.sleep(0.01)
    await cancel_until_ended(*tasks)
    assert all(each.has_ended for each in some)
    await cancel_until_ended()


async def test_what_it_raises_is_raised() -> None:
    async def fails() -> None:
        raise ValueError("why")

    with pytest.raises(ValueError, match="why"):
        await run_cancellable(fails())
