"""The state file of a running installation (`up.json`) and the lock that makes it the only one on its data."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import psutil

from pybrix.base.errors import UsageError
from pybrix.local.layout import Layout


class DamagedState(UsageError):
    """The state file cannot be understood; who runs is still known from the lock."""


class ProcessRecord(msgspec.Struct, frozen=True):
    """A process, told apart from a later one of the same number by its start time (seconds since the epoch)."""

    pid: int
    started_s: float

    @classmethod
    def of(cls, pid: int) -> ProcessRecord:
        return cls(pid, psutil.Process(pid).create_time())

    def find(self) -> psutil.Process | None:
        """Return the process if it is still the one that was recorded and not a zombie."""
        try:
            process = psutil.Process(self.pid)
            if abs(process.create_time() - self.started_s) > 0.02 or process.status() == psutil.STATUS_ZOMBIE:
                return None
        except psutil.NoSuchProcess:
            return None
        return process


class UpState(msgspec.Struct):
    """What runs and where. `models` are those that this `pybrix up` was asked for.

    What a release before this one has written has neither `gateways` nor `has_balancer`: it had one gateway. Nor has it
    `release`, that of the supervisor: all that write it take orders.
    """

    supervisor: ProcessRecord
    gateway_url: str
    kubeconfig: str
    run_dir: str
    is_ready: bool = False
    models: list[str] = []
    gateways: int = 1
    has_balancer: bool = False
    release: str = ""
    processes: dict[str, ProcessRecord] = {}


def read_state(layout: Layout) -> UpState | None:
    """Return the state file's content, or None when there is none."""
    try:
        return msgspec.json.decode(layout.state_file.read_bytes(), type=UpState)
    except FileNotFoundError:
        return None
    except OSError as err:
        raise UsageError(f"cannot read {layout.state_file}: {err.strerror}", "choose another --data-dir") from err
    except msgspec.MsgspecError as err:
        raise DamagedState(
            f"{layout.state_file} is damaged: {err}", f"stop what runs with `{layout.command('down')}`"
        ) from err


def write_state(layout: Layout, state: UpState) -> None:
    """Replace the state file in one step."""
    write_atomically(layout.state_file, msgspec.json.format(msgspec.json.encode(state)))


def write_atomically(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    Raises:
        UsageError: the file cannot be written (disk full, no permission).
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as err:
        temporary.unlink(missing_ok=True)
        raise UsageError(
            f"cannot write {path}: {err.strerror}", "free some space or choose another --data-dir"
        ) from err


@contextmanager
def locked(layout: Layout) -> Iterator[None]:
    """Hold the data directory. The kernel lets go of the lock when the process ends, however it ends.

    Raises:
        UsageError: another `pybrix up` holds it; the message says where it answers.
    """
    descriptor = os.open(layout.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"pybrix is already running on {layout.root} (process {_read_pid(descriptor)}){_answering(layout)}",
                f"stop it with `{layout.command('down')}`, or choose another --data-dir",
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def find_supervisor(layout: Layout) -> psutil.Process | None:
    """Return the process that holds the data directory; None when nobody does."""
    try:
        descriptor = os.open(layout.lock_file, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = _read_pid(descriptor)
        return psutil.Process(pid) if pid and psutil.pid_exists(pid) else None
    finally:
        os.close(descriptor)
    return None


def _read_pid(descriptor: int) -> int:
    text = os.pread(descriptor, 32, 0).strip()
    return int(text) if text.isdigit() else 0


def _answering(layout: Layout) -> str:
    try:
        state = read_state(layout)
    except UsageError:
        return ""
    return f", gateway {state.gateway_url}" if state else ""
