"""Which models a gateway serves, so that whoever deploys one can wait for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import msgspec

from pybrix.local.asking import ask_socket

ModelList = Callable[[], Awaitable[set[str]]]
"""Returns the names of the models that one gateway serves now; none while it does not answer."""

_TIMEOUT = aiohttp.ClientTimeout(total=2)


async def listed_by_envoy(gateway_url: str) -> set[str]:
    """Ask as a client does."""
    try:
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT) as session,
            session.get(f"{gateway_url}/v1/models") as response,
        ):
            listing = msgspec.json.decode(await response.read())
            return {model["id"] for model in listing["data"]} if response.status == 200 else set()
    except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError, KeyError):
        return set()


async def listed_by_brain(admin_socket: Path) -> set[str]:
    """Ask the brain, of a gateway whose Envoy answers nobody without an API key."""
    try:
        view = await ask_socket(admin_socket, "/debug/view", raise_for_status=True)
        return {entry["model"] for entry in view["models"] if entry["endpoints"]}
    except (aiohttp.ClientError, OSError, msgspec.MsgspecError, KeyError):
        return set()
