"""What can go wrong when a gateway starts or is asked about itself.

UsageError
├── BrainRunning         another brain lives on the same run directory
├── BrainUnavailable     no brain answers on the run directory's admin socket
└── AccountsUnavailable  users and API keys cannot be read or changed now

BadMessage               what another gateway said cannot be used: counted, and left out
"""

from __future__ import annotations

from pathlib import Path

from pybrix.base.errors import PybrixError, UsageError


class BrainRunning(UsageError):
    """A living brain holds the run directory. `pid` is 0 when it is not known."""

    def __init__(self, run_dir: Path, pid: int) -> None:
        who = f"process {pid}" if pid else "another process"
        super().__init__(f"a brain already runs on {run_dir} ({who})", "stop it, or pass another --run-dir")
        self.run_dir = run_dir
        self.pid = pid


class BrainUnavailable(UsageError):
    """Nothing (or nothing that makes sense: `why` says what) answers on the admin socket."""

    def __init__(self, socket_path: Path, why: str = "") -> None:
        detail = f": {why}" if why else ""
        super().__init__(f"no brain answers on {socket_path}{detail}", "is `pybrix gateway brain` running?")
        self.socket_path = socket_path


class AccountsUnavailable(UsageError):
    """Where users and API keys are kept does not answer, or does not take any more."""


class BadMessage(PybrixError):
    """What arrived from another gateway (or from whoever can write where they write) is no message."""
