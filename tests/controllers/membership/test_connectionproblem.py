"""What people are told when there is no connection."""

from __future__ import annotations

import errno

import pytest
from aiohttp import ClientConnectionResetError, ClientOSError

from pybrix.controllers.membership.connectionproblem import connection_problem


def caused(err: Exception, cause: BaseException) -> Exception:
    err.__cause__ = cause
    return err


@pytest.mark.parametrize(
    ("err", "want"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 2379)"), "Connection refused"),
        (caused(RuntimeError("no host"), OSError(errno.EHOSTUNREACH, "x")), "No route to host"),
        (
            caused(
                ClientOSError(None, "Can not write request body for http://127.0.0.1:2379/v3/kv/range"),
                ClientConnectionResetError("Cannot write to closing transport"),
            ),
            "Connection reset by peer",
        ),
        (ValueError("something else"), "something else"),
        (TimeoutError(), "TimeoutError"),
    ],
    ids=["by its number", "by that of its cause", "a connection that ends under a request", "its text", "its name"],
)
def test_the_system_says_why(err: Exception, want: str) -> None:
    assert connection_problem(err) == want
