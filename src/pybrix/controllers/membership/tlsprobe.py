"""What TLS is to a connection that failed without a word: one side asks, the other hangs up."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress

from pybrix.controllers.membership.store import split_address

_TLS_RECORDS = (b"\x15", b"\x16")
"""What an answer of TLS begins with: an alert, or a handshake."""


async def tls_problem(
    address: str,
    greeting: bytes,
    context: ssl.SSLContext | None,
    *,
    server_name: str = "",
    is_silent: bool,
    timeout_s: float,
) -> str:
    """Return what is wrong with TLS between us and a server that did not answer; empty when nothing was seen.

    Args:
        greeting: what a server without TLS answers at once.
        context: ours, or None where no TLS is set.
        server_name: the name that the server's certificate has to hold; its address when empty.
        is_silent: the server let time pass, rather than to hang up: it has refused nothing, then.
    """
    is_tls = context is not None
    if await _speaks_otherwise(*split_address(address), greeting, is_tls=is_tls, timeout_s=timeout_s):
        return (
            f"{address} does not speak TLS, and tls is set" if is_tls else f"{address} speaks TLS, and tls is not set"
        )
    if context is None or is_silent or not await _refuses_certificate(address, context, server_name, timeout_s):
        return ""
    return f"{address} asks for a client certificate that it trusts"


async def _speaks_otherwise(host: str, port: int, greeting: bytes, *, is_tls: bool, timeout_s: float) -> bool:
    context: ssl.SSLContext | None = None
    if not is_tls:
        # Only whether there is a handshake matters here; nothing is sent over it.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(host, port, ssl=context)
            try:
                if not is_tls:
                    return True
                writer.write(greeting)
                first = await reader.read(1)
                return bool(first) and first not in _TLS_RECORDS
            finally:
                writer.close()
                with suppress(OSError, ssl.SSLError):
                    await writer.wait_closed()
    except ssl.SSLError as err:
        # An alert is TLS, too: the server wants a certificate of ours.
        return not is_tls and "ALERT" in str(err).upper()
    except (OSError, TimeoutError, EOFError):
        return False


async def _refuses_certificate(address: str, context: ssl.SSLContext, server_name: str, timeout_s: float) -> bool:
    """Say whether the server ends a connection over the client's certificate, or over there being none.

    With TLS 1.3 that comes after the client's handshake, as an alert in place of the first answer. Nothing is sent:
    to what the server does not read any more, it answers with a reset that may overtake the alert.
    """
    host, port = split_address(address)
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=server_name or host)
            try:
                await reader.read(1)
            finally:
                writer.close()
                with suppress(OSError, ssl.SSLError):
                    await writer.wait_closed()
    except ssl.SSLCertVerificationError:
        return False
    except ssl.SSLError as err:
        return "ALERT" in str(err).upper()
    except (OSError, TimeoutError, EOFError):
        return False
    return False
