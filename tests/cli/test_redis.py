"""A Redis that does not answer is said when it is given, not found out later."""

from __future__ import annotations

import socket
from pathlib import Path

from pybrix.cli.redis import connection_problem


def test_what_listens_answers_and_what_does_not_has_a_reason(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert connection_problem(f"127.0.0.1:{port}") is None
    assert connection_problem(f"127.0.0.1:{port}") == "connection refused"
    assert connection_problem("127.0.0.1:99999") is not None
    path = tmp_path / "redis.sock"
    assert connection_problem(str(path)) == "no such file or directory"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        assert connection_problem(str(path)) is None
