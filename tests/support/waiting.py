"""Wait for something that only polling can see: a file, or the answer of another process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

POLL_S = 0.005


async def until(check: Callable[[], Awaitable[bool]], timeout_s: float = 60.0) -> None:
    """Return when `check` says yes. Raises TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while not await check():  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)


async def until_now(check: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Return when `check`, which does not wait, says yes. Raises TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while not check():  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)
