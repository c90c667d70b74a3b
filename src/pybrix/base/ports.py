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
            remedy = f"choose another one with {option} PORT, or {option} 0 for any free one"
            if err.errno == errno.EADDRINUSE:
                raise UsageError(f"port {port} on {address} is taken by another program", remedy) from err
            if err.errno == errno.EACCES:
                raise UsageError(f"port {port} needs rights that this user does not have", remedy) from err
            raise UsageError(
                f"cannot listen on {address}: {err.strerror}", "choose an address of this machine"
            ) from err
        chosen: int = probe.getsockname()[1]
        return chosen
