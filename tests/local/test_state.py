from __future__ import annotations

import os
import socket
from contextlib import closing
from pathlib import Path

import pytest

from pybrix.base.errors import UsageError
from pybrix.base.ports import claim_port
from pybrix.local.defaults import DEFAULT_DATA_DIR
from pybrix.local.layout import Layout
from pybrix.local.state import ProcessRecord, UpState, locked, read_state, write_state


def make_layout(directory: Path) -> Layout:
    layout = Layout(directory)
    layout.create()
    return layout


def make_state() -> UpState:
    me = ProcessRecord.of(os.getpid())
    return UpState(supervisor=me, gateway_url="http://127.0.0.1:8080", kubeconfig="k", run_dir="r", processes={"a": me})


def test_state_round_trips(tmp_path: Path) -> None:
    layout = make_layout(tmp_path)
    assert read_state(layout) is None
    write_state(layout, make_state())
    assert read_state(layout) == make_state()


def test_a_damaged_state_file_says_so(tmp_path: Path) -> None:
    layout = make_layout(tmp_path)
    layout.state_file.write_text("{")
    with pytest.raises(UsageError, match="is damaged"):
        read_state(layout)


def test_the_second_on_the_same_data_learns_where_the_first_answers(tmp_path: Path) -> None:
    layout = make_layout(tmp_path)
    with locked(layout):
        write_state(layout, make_state())
        with pytest.raises(UsageError, match=r"already running.*http://127\.0\.0\.1:8080"), locked(layout):
            pass
    with locked(layout):
        pass


def test_directories_with_sockets_are_private(tmp_path: Path) -> None:
    layout = make_layout(tmp_path / "d")
    assert layout.run_dir.stat().st_mode & 0o777 == 0o700
    assert layout.root.stat().st_mode & 0o077 == 0


def test_a_long_data_directory_gets_a_short_run_directory(tmp_path: Path) -> None:
    deep = Layout(tmp_path.joinpath(*["a-rather-long-name"] * 6))
    assert len(str(deep.run_dir / "brain-admin.sock")) <= 107
    assert Layout(tmp_path / "other").run_dir != deep.run_dir


def test_a_data_directory_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"cannot make .*--data-dir"):
        Layout(tmp_path / "file" / "d").create()


def test_ports() -> None:
    free = claim_port("127.0.0.1", 0, "--port")
    assert claim_port("127.0.0.1", free, "--port") == free
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=rf"port {port} on 127\.0\.0\.1 is taken.*--port"):
            claim_port("127.0.0.1", port, "--port")


def test_advised_commands_name_the_data_directory_unless_it_is_the_usual_one(tmp_path: Path) -> None:
    assert Layout(tmp_path / "a b").command("down") == f"pybrix down --data-dir '{tmp_path}/a b'"
    assert Layout(Path(DEFAULT_DATA_DIR).expanduser()).command("up --gateways 2") == "pybrix up --gateways 2"
