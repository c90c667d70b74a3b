"""Whether the Redis that a command is given answers."""

from __future__ import annotations

import socket

_TIMEOUT_S = 2.0


def connection_problem(address: str) -> str | None:
    """Return why no connection to HOST:PORT, or to a Unix socket's path, comes about; None when it does."""
    host, _, port = address.rpartition(":")
    try:
        if address.startswith("/"):
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(_TIMEOUT_S)
                client.connect(address)
        else:
            socket.create_connection((host, int(port)), _TIMEOUT_S).close()
    except (OSError, OverflowError) as err:
        return (getattr(err, "strerror", None) or str(err) or type(err).__name__).lower()
    return None
