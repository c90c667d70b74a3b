"""One Envoy per test module."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest_asyncio

from tests.support.real_envoy import Gateway, start_gateway


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module_gateway() -> AsyncIterator[Gateway]:
    async with AsyncExitStack() as stack:
        yield await start_gateway(stack)


@pytest_asyncio.fixture(loop_scope="module")
async def gateway(module_gateway: Gateway) -> Gateway:
    """The module's gateway, as if nothing had happened yet."""
    await module_gateway.reset()
    return module_gateway
