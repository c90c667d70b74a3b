"""What Envoys of one run directory share so that one can take over from another: an id, shared memory, an epoch.

Each successor has an epoch one above its predecessor's. Of three that live at the same time Envoy ends the oldest at
once, whatever it still has to do: so a successor waits until the one before its predecessor is gone.

A predecessor is ended by its successor, when the drain time is over, and by nobody else: a successor that finds it gone
before blocks for ten seconds and aborts (Envoy 1.40), at the end of the drain time or when it is asked for statistics.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import zlib
from pathlib import Path

import aiohttp
import psutil
import structlog

from pybrix.base.errors import UsageError
from pybrix.envoy.admin import EnvoyAdmin
from pybrix.envoy.paths import EnvoyPaths

log = structlog.get_logger()

PARENT_GRACE_S = 1
"""Old and new Envoy of a hot restart live side by side for the drain time, and this much longer."""
# Envoy multiplies the id by ten and keeps it in 31 bits.
_BASE_IDS = 200_000_000
# It adds the epoch modulo this to the multiple, for the names of sockets.
_EPOCHS = 3
_POLL_S = 0.1
# An Envoy that was told to end, as the kernel does when its parent dies, answers no more and is gone soon.
_ENDING_S = 1.0


def base_id(run_dir: Path) -> int:
    """Return the id under which an Envoy shares memory with its successor: the same for as long as a run directory is.

    Pods that share a machine's network may have directories of their own under one path, so the inode counts too.
    """
    identity = str(run_dir.absolute())
    with contextlib.suppress(FileNotFoundError):
        found = run_dir.stat()
        identity += f":{found.st_dev}:{found.st_ino}"
    return zlib.crc32(identity.encode()) % _BASE_IDS


def count_live(run_dir: Path) -> int:
    """Return how many Envoys of a run directory are alive, those that drain included."""
    number = base_id(run_dir) * 10
    sockets = Path("/proc/net/unix").read_text(errors="replace")
    return sum(f"@envoy_domain_socket_parent_{number + each}@" in sockets for each in range(_EPOCHS))


async def find_epoch(paths: EnvoyPaths) -> int | None:
    """Return the epoch of the Envoy that answers on a run directory's admin socket; None when there is none."""
    if not paths.admin_socket.exists():
        return None
    with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
        async with EnvoyAdmin(paths.admin_socket) as admin:
            return await admin.restart_epoch()
    return None


async def next_epoch(paths: EnvoyPaths, patience_s: float) -> int:
    """Return the epoch of the Envoy to be started: 0, or one above that of the Envoy that it takes over from.

    Args:
        patience_s: how long to wait for one that still drains from the last time.

    Raises:
        UsageError: one serves of which nobody can say what its epoch is.
    """
    await _until_live(paths.run_dir, 1, patience_s)
    serving = await find_epoch(paths)
    if serving is not None:
        return serving + 1
    await _until_live(paths.run_dir, 0, _ENDING_S)
    # Somebody has removed its socket, or a successor that did not come up had it closed: it serves on.
    if epochs := _epochs_of_processes(paths.run_dir):
        return max(epochs) + 1
    if count_live(paths.run_dir) == 0:
        return 0
    raise UsageError(
        f"an Envoy serves in {paths.run_dir}, but does not answer on {paths.admin_socket}, and its process is not "
        "to be seen from here: it cannot be taken over from",
        "end that Envoy, then start this one again",
    )


def _epochs_of_processes(run_dir: Path) -> list[int]:
    """Return the epochs of the Envoys of a run directory that live, as their command lines have them."""
    if count_live(run_dir) == 0:
        return []
    wanted, epochs = str(base_id(run_dir)), []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            options = dict(itertools.pairwise(process.cmdline()))
            if options.get("--base-id") == wanted:
                epochs.append(int(options.get("--restart-epoch", "0")))
    return epochs


async def _until_live(run_dir: Path, count: int, patience_s: float) -> None:
    """Return when no more than so many Envoys live, or the time is over."""
    for _ in range(math.ceil(patience_s / _POLL_S)):
        if count_live(run_dir) <= count:
            return
        await asyncio.sleep(_POLL_S)


def forget_shared_memory(run_dir: Path) -> None:
    """Remove what Envoy leaves behind in /dev/shm, unless another Envoy of this run directory is alive."""
    try:
        if count_live(run_dir) == 0:
            Path(f"/dev/shm/envoy_shared_memory_{base_id(run_dir) * 10}").unlink(missing_ok=True)
    except OSError as err:
        log.warning("envoy's shared memory was not removed", error=str(err))
