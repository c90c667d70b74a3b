"""However `pybrix up` is made to stop, nothing that it started lives on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.installation import PYBRIX, Installation, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def processes_of(data_dir: Path) -> list[psutil.Process]:
    """Return the processes whose command line or environment names the data directory."""
    found = []
    for process in psutil.process_iter():
        try:
            told = [*process.cmdline(), *process.environ().values()]
            if any(str(data_dir) in text for text in told) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return [process for process in found if process.pid != os.getpid()]


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    it = Installation(tmp_path / "up")
    yield it
    it.down()


def start(installation: Installation, *options: str) -> subprocess.Popen[str]:
    """Start `pybrix up` and return at once."""
    argv = [*PYBRIX, "up", "--simulate", "1", "--port", "0", "--data-dir", str(installation.data_dir), *options]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


async def is_ready(installation: Installation) -> bool:
    try:
        return bool(installation.state["is_ready"])
    except FileNotFoundError:
        return False


async def nothing_lives(installation: Installation) -> bool:
    return processes_of(installation.data_dir) == []


async def test_when_nobody_reads_what_it_says(installation: Installation) -> None:
    with start(installation) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        await eventually(lambda: is_ready(installation), "ready without a reader", timeout_s=60)
        process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(process.wait, 60) == 0
    assert await nothing_lives(installation)


async def test_when_the_terminal_closes(installation: Installation) -> None:
    with start(installation) as process:
        await eventually(lambda: is_ready(installation), "ready", timeout_s=60)
        process.send_signal(signal.SIGHUP)
        assert await asyncio.to_thread(process.wait, 60) == 0
    assert await nothing_lives(installation)


async def test_when_a_detached_start_is_interrupted(installation: Installation) -> None:
    with start(installation, "--detach") as process:
        assert process.stdout is not None
        # The cluster runs, the rest does not yet.
        while "cluster" not in await asyncio.to_thread(process.stdout.readline):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(process.wait, 60) == 1
    await eventually(lambda: nothing_lives(installation), "the other side has stopped")


@pytest.mark.soak
async def test_when_the_cluster_process_hangs(installation: Installation) -> None:
    started = await asyncio.to_thread(installation.up, "--simulate", "1")
    assert started.returncode == 0, started.stderr
    installation.process("cluster").send_signal(signal.SIGSTOP)
    stopped = await asyncio.to_thread(installation.down)
    assert stopped.returncode == 0, stopped.stderr
    assert await nothing_lives(installation)


async def test_a_damaged_state_file_does_not_keep_it_from_being_stopped(installation: Installation) -> None:
    started = await asyncio.to_thread(installation.up, "--simulate", "1")
    assert started.returncode == 0, started.stderr
    (installation.data_dir / "up.json").write_text("")
    stopped = await asyncio.to_thread(installation.down)
    assert stopped.returncode == 0, stopped.stderr
    assert await nothing_lives(installation)


async def test_what_a_killed_supervisor_left_is_stopped_without_its_record(installation: Installation) -> None:
    started = await asyncio.to_thread(installation.up, "--simulate", "1")
    assert started.returncode == 0, started.stderr
    psutil.Process(installation.state["supervisor"]["pid"]).kill()
    (installation.data_dir / "up.json").unlink()
    stopped = await asyncio.to_thread(installation.down)
    assert (stopped.returncode, stopped.stdout) == (0, "stopped what an earlier run left behind\n"), stopped.stderr
    assert await nothing_lives(installation)
