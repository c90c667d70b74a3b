"""Envoy's admin interface, over its Unix socket."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
import msgspec

_TIMEOUT = aiohttp.ClientTimeout(total=5)


class EnvoyAdmin:
    """Ask and tell a running Envoy. Every method raises `aiohttp.ClientError` or `TimeoutError` when it is away."""

    def __init__(self, socket: Path) -> None:
        # A connection for each question: after a hot restart a kept one would still lead to the predecessor.
        connector = aiohttp.UnixConnector(str(socket), force_close=True)
        self._session = aiohttp.ClientSession(base_url="http://envoy", connector=connector, timeout=_TIMEOUT)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def is_live(self) -> bool:
        """Return whether Envoy has its clusters and takes work; False while it starts or drains."""
        async with self._session.get("/ready") as answer:
            return answer.status == 200

    async def restart_epoch(self) -> int:
        """Return the epoch with which the Envoy that answers was started."""
        async with self._session.get("/server_info") as answer:
            answer.raise_for_status()
            return msgspec.json.decode(await answer.read(), type=_ServerInfo).command_line_options.restart_epoch

    async def stats(self, pattern: str) -> dict[str, int]:
        """Return counters and gauges whose name matches the regular expression."""
        async with self._session.get("/stats", params={"filter": pattern, "format": "json"}) as answer:
            answer.raise_for_status()
            page = msgspec.json.decode(await answer.read(), type=_StatsPage)
        return {each.name: each.value for each in page.stats if each.name and isinstance(each.value, int)}

    async def rejected_updates(self) -> Mapping[str, int]:
        """Return how often each configuration file was refused; empty when all is well. Envoy's log says why."""
        return {name: count for name, count in (await self.stats(r"update_rejected$")).items() if count}

    async def fail_health_checks(self) -> None:
        """Answer health checks with 503 from now on, and ask clients to leave (`connection: close`, HTTP/2 GOAWAY)."""
        await self._post("/healthcheck/fail")

    async def close_listeners(self) -> None:
        """Accept no more connections; those that are there stay."""
        await self._post("/drain_listeners")

    async def _post(self, path: str) -> None:
        async with self._session.post(path) as answer:
            answer.raise_for_status()

    async def active_requests(self) -> int:
        """Return how many requests of clients are under way."""
        return sum((await self.stats(r"^http\.gateway\.downstream_rq_active$")).values())


class _CommandLineOptions(msgspec.Struct):
    restart_epoch: int = 0


class _ServerInfo(msgspec.Struct):
    command_line_options: _CommandLineOptions


class _Stat(msgspec.Struct):
    name: str = ""
    value: object = None


class _StatsPage(msgspec.Struct):
    stats: list[_Stat]
