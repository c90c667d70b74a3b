"""End tasks of which a library may lose a cancellation.

Before Python 3.12 `asyncio.wait_for` returns a result that comes together with a cancellation and forgets the latter
(https://github.com/python/cpython/issues/86296). Redis's client sends and connects by it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

CANCEL_AGAIN_S = 0.2


async def cancel_until_ended(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks, as often as it takes, until all of them have ended."""
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=CANCEL_AGAIN_S)


async def run_cancellable(work: Coroutine[Any, Any, None]) -> None:
    """Run something that ends when it is cancelled, and raise what it raises."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task})
    finally:
        await cancel_until_ended(task)
    await task
