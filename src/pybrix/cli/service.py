"""What long-running commands share: JSON logs on stderr, signals as an event, errors for people as one line."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import structlog
import uvloop

from pybrix.base.errors import PybrixError, UsageError


class Stop(asyncio.Event):
    """Set by the first SIGTERM or SIGINT; the second one sets `hurry`: what is still under way is to be cut."""

    def __init__(self) -> None:
        super().__init__()
        self.hurry = asyncio.Event()

    def on_signal(self) -> None:
        """Take one signal in."""
        (self.hurry if self.is_set() else self).set()


def run_service(main: Callable[[Stop], Coroutine[Any, Any, None]]) -> None:
    """Run `main(stop)` on uvloop; SIGTERM and SIGINT set `stop`, once more its `hurry`.

    Raises:
        UsageError: what `main` raised for people, also out of a group of errors.
    """
    # Tracebacks without locals: those hold prompts and keys of clients.
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )

    async def until_stopped() -> None:
        stop = Stop()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.on_signal)
        await main(stop)

    try:
        uvloop.run(until_stopped())
    except BaseExceptionGroup as group:
        for error in _leaves(group):
            if isinstance(error, (PybrixError, OSError)):
                raise UsageError(str(error)) from error
        raise
    except OSError as err:
        raise UsageError(str(err)) from err


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
