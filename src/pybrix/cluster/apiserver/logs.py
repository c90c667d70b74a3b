"""What the server asks of a node agent: the output of a container."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol


class LogProvider(Protocol):
    """Read what containers of this node printed."""

    def read(
        self,
        namespace: str,
        name: str,
        container: str,
        *,
        follow: bool = False,
        tail_lines: int | None = None,
        since_seconds: int | None = None,
        since_time: str | None = None,
        previous: bool = False,
        timestamps: bool = False,
        limit_bytes: int | None = None,
    ) -> AsyncIterator[bytes]:
        """Yield pieces of the log; with `follow` until the container ends.

        Raises (before the first piece):
            kube.errors.BadRequest: the container has not started, or has no previous run.
            kube.errors.NotFound: this node knows no such pod.
        """
        ...
