"""Listening ports: free ones, and a clear word about taken ones."""

from __future__ import annotations

import errno
import socket

from pybrix.base.errors import UsageError


def claim_port(address: str, port: int, option: str) -> int:
    """Return `port` if it can be listened on, or a free one for 0.

    Raises:
        UsageError: the port is taken or not permitted; the remedy names `option`.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as err:
            if err.errno == errno.EADDRINUSE:
                problem = f"port {port} on {address} is taken by another program"
            else:
                problem = f"cannot listen on {address}:{port}: {err.strerror}"
            raise UsageError(problem, f"choose another one with {option} PORT, or {option} 0 for any free one") from err
        chosen: int = probe.getsockname()[1]
        return chosen
