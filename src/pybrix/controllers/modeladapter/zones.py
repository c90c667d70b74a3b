"""The zones of nodes, read one by one: nodes rarely change, and a namespaced controller may not see them at all."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from pybrix.api.core import Node
from pybrix.api.identity import ObjectKey
from pybrix.base.clock import Clock
from pybrix.kube.errors import KubeError, StatusError
from pybrix.kube.interface import Client

ZONE = "topology.kubernetes.io/zone"
FRESH_S = 3600.0
RETRY_S = 60.0

_log = structlog.get_logger()


class Zones:
    """Zones as they were read last."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._known: dict[str, tuple[str, float]] = {}

    async def read(self, nodes: Iterable[str]) -> dict[str, str]:
        """Return the zone of each node that has one. One that cannot be read has none: traffic needs no zone."""
        found: dict[str, str] = {}
        for name in {*nodes} - {""}:
            now_s = self._clock.monotonic_s()
            known = self._known.get(name)
            if known is None or now_s >= known[1]:
                zone, fresh_s = await self._fetch(name, known[0] if known is not None else "")
                known = self._known[name] = (zone, now_s + fresh_s)
            if known[0]:
                found[name] = known[0]
        return found

    async def _fetch(self, name: str, before: str) -> tuple[str, float]:
        try:
            node = await self._client.get(Node, ObjectKey("", name))
        except StatusError as err:
            _log.info("zone of a node not known", node=name, error=str(err))
            return before, FRESH_S
        except KubeError as err:
            _log.info("zone of a node not read", node=name, error=str(err))
            return before, RETRY_S
        return node.metadata.labels.get(ZONE, ""), FRESH_S
