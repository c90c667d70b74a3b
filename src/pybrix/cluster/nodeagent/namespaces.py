"""Whether this machine gives processes mount namespaces of their own, and how."""

from __future__ import annotations

import asyncio
import os
import shutil

import structlog

_log = structlog.get_logger(__name__)


async def mount_namespace_command(search_path: str) -> tuple[str, ...]:
    """Return the command that runs its arguments in a new mount namespace; empty where the machine allows none.

    Root needs no user namespace; others get one in which they are root. Found by trying, since a kernel, a sandbox or
    a security module may each refuse it.
    """
    unshare = shutil.which("unshare", path=f"{search_path}:/usr/bin:/bin")
    if unshare is None:
        return ()
    candidates: list[tuple[str, ...]] = [(unshare, "--user", "--map-root-user", "--mount")]
    if os.geteuid() == 0:
        candidates.insert(0, (unshare, "--mount"))
    for command in candidates:
        # A private tmpfs over an empty place is what every container with volumes needs.
        process = await asyncio.create_subprocess_exec(
            *command,
            "/bin/sh",
            "-c",
            "mount -t tmpfs tmpfs /mnt && mount --bind /mnt /mnt",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        if await process.wait() == 0:
            return command
    _log.warning("no mount namespaces: pods with volume mounts cannot run")
    return ()
