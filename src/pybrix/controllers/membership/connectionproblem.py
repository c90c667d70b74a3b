"""Why there is no connection, for people."""

from __future__ import annotations

import errno
import os


def connection_problem(err: BaseException) -> str:
    """Return why there is no connection, in the system's words: libraries add the address and what TLS would be."""
    cause: BaseException | None = err
    while cause is not None:
        number = cause.errno if isinstance(cause, OSError) else None
        if number is not None and number > 0:
            return os.strerror(number)
        if isinstance(cause, ConnectionResetError):
            # As aiohttp raises it without a number, below "Can not write request body".
            return os.strerror(errno.ECONNRESET)
        cause = cause.__cause__ or cause.__context__
    return str(err) or type(err).__name__
