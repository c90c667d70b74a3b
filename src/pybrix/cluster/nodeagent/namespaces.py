"""Whether this machine gives processes mount namespaces of their own, and how."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import structlog

from pybrix.cluster.nodeagent.volumes import Mount, render_mount_script

_log = structlog.get_logger(__name__)


async def mount_namespace_command(search_path: str) -> tuple[str, ...]:
    """Return the command that runs its arguments in a new mount namespace; empty where the machine allows none.

    Root needs no user namespace; others get one in which they are root. Found by trying, since a kernel, a sandbox or
    a security module may each refuse it.
    """
    unshare = shutil.which("unshare", path=f"{search_path}:/usr/bin:/bin")
    if unshare is None:
        return ()
    # With a host name of its own too, where that is allowed.
    candidates: list[tuple[str, ...]] = [
        (unshare, "--user", "--map-root-user", "--mount", "--uts"),
        (unshare, "--user", "--map-root-user", "--mount"),
    ]
    if os.geteuid() == 0:
        candidates = [(unshare, "--mount", "--uts"), (unshare, "--mount"), *candidates]
    for command in candidates:
        # A private tmpfs over an empty place is what every container with volumes needs.
        if await _succeeds((*command, "/bin/sh", "-c", "mount -t tmpfs tmpfs /mnt && mount --bind /mnt /mnt")):
            return command
    _log.warning("no mount namespaces: pods with volume mounts cannot run")
    return ()


async def can_mount_in_dev(namespace_command: Sequence[str], scratch: Path) -> bool:
    """Say whether a container can have a file of its own in /dev; a sandbox may refuse what that takes.

    Args:
        namespace_command: see `mount_namespace_command`.
        scratch: a directory of the machine that belongs to the agent.
    """
    if not namespace_command:
        return False
    scratch.mkdir(parents=True, exist_ok=True)
    (scratch / "file").touch()
    script = render_mount_script((Mount(scratch / "file", PurePosixPath("/dev/pybrix-trial")),), scratch)
    trial = (*namespace_command, "/bin/sh", "-c", script, "pybrix-mounts", "/bin/sh", "-c", ": >/dev/null")
    if await _succeeds(trial):
        return True
    _log.warning("no files of pods in /dev: termination messages that are written there are lost")
    return False


async def _succeeds(command: Sequence[str]) -> bool:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    return await process.wait() == 0
