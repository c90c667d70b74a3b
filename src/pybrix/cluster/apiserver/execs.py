"""Where commands in containers run: the node agent, as the API server sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

STDIN, STDOUT, STDERR = 0, 1, 2
"""Channels, as on the wire and as file descriptors."""


class ExecSession(Protocol):
    """A command that runs."""

    async def read(self) -> tuple[int, bytes] | None:
        """Return the next output and its channel; None at the end of all. Output of a terminal is all on STDOUT."""
        ...

    async def write(self, data: bytes) -> None:
        """Send input; nobody may be there to take it."""
        ...

    def close_input(self) -> None: ...

    def resize(self, width: int, height: int) -> None:
        """Tell the terminal's size, in characters; without a terminal nothing happens."""
        ...

    async def wait(self) -> int:
        """Return the exit code; 128 and the signal's number when one ended it."""
        ...

    async def close(self) -> None:
        """End the command if it still runs."""
        ...


class ExecProvider(Protocol):
    """Runs commands in the containers of a node, or of several."""

    def require_running(self, namespace: str, name: str, container: str) -> None:
        """Check that a container can take commands.

        Raises:
            kube.errors.BadRequest: it does not run.
            kube.errors.NotFound: no node has such a pod.
        """
        ...

    async def execute(
        self, namespace: str, name: str, container: str, command: Sequence[str], *, has_input: bool, has_terminal: bool
    ) -> ExecSession:
        """Start a command with the environment, the files and the address of a container.

        Raises:
            kube.errors.BadRequest: the container does not run.
            kube.errors.NotFound: no node has such a pod.
        """
        ...
