"""Events about pods, written in their order beside the work they tell of."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from pybrix.api.core import Pod
from pybrix.runtime.events import EventRecorder

_log = structlog.get_logger(__name__)

QUEUE_LIMIT = 1000
"""Events that may wait for a slow API server; further ones are dropped."""


@dataclass(frozen=True, slots=True)
class _Pending:
    about: Pod
    reason: str
    message: str
    type: str


class EventQueue:
    """Take events at once and write them one after the other."""

    def __init__(self, recorder: EventRecorder) -> None:
        self._recorder = recorder
        self._pending: asyncio.Queue[_Pending] = asyncio.Queue(QUEUE_LIMIT)

    def emit(self, about: Pod, reason: str, message: str, *, is_warning: bool = False) -> None:
        """Queue an event."""
        try:
            self._pending.put_nowait(_Pending(about, reason, message, "Warning" if is_warning else "Normal"))
        except asyncio.QueueFull:
            _log.warning("event dropped", pod=str(about.key), reason=reason)

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            it = await self._pending.get()
            await self._recorder.record(it.about, it.reason, it.message, it.type)
            self._pending.task_done()

    async def flush(self) -> None:
        """Wait until everything queued so far is written."""
        await self._pending.join()
