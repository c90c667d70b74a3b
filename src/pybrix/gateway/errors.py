"""What can go wrong when a gateway starts or is asked about itself.

UsageError
├── ConfigurationError   a configuration file is wrong; the message names the path in it
├── BrainRunning         another brain lives on the same run directory
└── BrainUnavailable     no brain answers on the run directory's admin socket
"""

from __future__ import annotations

from pathlib import Path

from pybrix.base.errors import UsageError


class ConfigurationError(UsageError):
    """A `GatewayConfiguration` does not decode.

    Args:
        source: the file, or another name of where the text comes from.
        problem: what is wrong, naming the path in the document.
    """

    def __init__(self, source: str, problem: str) -> None:
        super().__init__(f"{source}: {problem}")
        self.source = source


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
