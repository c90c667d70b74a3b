"""Which brain is asked where none is named."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pybrix.base.errors import UsageError
from pybrix.cli.brain import running_dir
from pybrix.gateway.admin import SOCKET_NAME
from pybrix.local import leftovers
from pybrix.local.layout import Layout
from pybrix.local.state import ProcessRecord, UpState, write_state


@pytest.fixture
def layout() -> Iterator[Layout]:
    with tempfile.TemporaryDirectory(prefix="pb") as name:
        layout = Layout(Path(name))
        layout.create()
        layout.gateway(2).create()
        state = UpState(ProcessRecord(1, 0.0), "http://127.0.0.1:1", "kubeconfig", str(layout.run_dir), gateways=2)
        write_state(layout, state)
        yield layout


def listen(run_dir: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(run_dir / SOCKET_NAME))
    listener.listen()
    return listener


def test_the_first_that_listens_is_asked(layout: Layout) -> None:
    first, second = layout.gateway(1).run_dir, layout.gateway(2).run_dir
    assert running_dir(None, layout.root) == first, "none listens: it is the first that is missed"
    with listen(second):
        assert running_dir(None, layout.root) == second
        with listen(first):
            assert running_dir(None, layout.root) == first
        assert running_dir(None, layout.root) == second, "a socket that was left behind"
        assert running_dir(first, layout.root) == first, "the one that is named"


def test_without_a_state_file_what_runs_is_not_denied(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    layout.state_file.unlink()
    with pytest.raises(UsageError, match=r"nothing runs on .* or pass --data-dir or --run-dir"):
        running_dir(None, layout.root)
    monkeypatch.setattr(leftovers, "find_parts", lambda _: ["a process"])
    with pytest.raises(UsageError, match=r"up\.json is gone, though processes run"):
        running_dir(None, layout.root)
