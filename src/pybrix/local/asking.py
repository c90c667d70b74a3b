"""What parts of an installation say of themselves on their Unix sockets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import msgspec

_TIMEOUT = aiohttp.ClientTimeout(total=2)


async def ask_socket(socket: Path, path: str, *, raise_for_status: bool = False) -> dict[str, Any]:
    """Return the document that a part shows on its socket; one that is not ready may show it with status 503.

    Raises:
        aiohttp.ClientError, OSError: nobody answers, or with an error where that is to be raised.
        TimeoutError: the answer takes more than 2 s.
        msgspec.MsgspecError: it is no JSON document.
    """
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket)), timeout=_TIMEOUT) as session,
        session.get(f"http://localhost{path}", raise_for_status=raise_for_status) as response,
    ):
        document: dict[str, Any] = msgspec.json.decode(await response.read())
        return document
