"""Where a tail begins, and rotation."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.api.core import Pod
from pybrix.base.clock import SystemClock
from pybrix.cluster.nodeagent.logs import NodeLogs, rotate, rotated_path, tail_offset
from pybrix.cluster.nodeagent.runner import Runner
from tests.support.pods import make_pod


@given(st.lists(st.text("ab", max_size=3), max_size=12), st.booleans(), st.integers(0, 15))
def test_a_tail_is_the_last_lines(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], is_closed: bool, count: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "tail.log"
    text = "\n".join(lines) + ("\n" if is_closed else "")
    path.write_text(text)
    got = text[tail_offset(path, count) :]
    want = text.splitlines(keepends=True)[-count:] if count else []
    assert got == "".join(want)


def test_a_tail_of_a_large_file(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_text("".join(f"line {n}\n" for n in range(50_000)))
    assert path.read_text()[tail_offset(path, 30_000) :].startswith("line 20000\n")


class Logged:
    """A pod with a log file."""

    def __init__(self, directory: Path) -> None:
        self.pod: Pod = make_pod("p")
        runner = Runner(directory, SystemClock())
        self.path = runner.pod_dir(self.pod.uid) / "main" / "0.log"
        self.path.parent.mkdir(parents=True)
        self.path.with_suffix(".json").write_text("{}")
        self.logs = NodeLogs(lambda key: self.pod, runner)

    async def read(self, tail_lines: int | None = None, limit_bytes: int | None = None) -> str:
        chunks = self.logs.read("default", "p", "main", tail_lines=tail_lines, limit_bytes=limit_bytes)
        return b"".join([chunk async for chunk in chunks]).decode()


async def test_a_rotated_log_reads_as_one(tmp_path: Path) -> None:
    it = Logged(tmp_path)
    it.path.write_text("1\n2\n3\n")
    assert rotate(it.path, limit_bytes=5)
    with it.path.open("a") as file:
        file.write("4\n5\n")
    assert await it.read() == "1\n2\n3\n4\n5\n"
    assert await it.read(tail_lines=1) == "5\n"
    assert await it.read(tail_lines=3) == "3\n4\n5\n"
    assert await it.read(limit_bytes=7) == "1\n2\n3\n4"
    assert await it.read(limit_bytes=3) == "1\n2"


def test_a_program_that_appends_goes_on_in_the_emptied_file(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, b"old\n")
    assert rotate(path, limit_bytes=1)
    os.write(descriptor, b"new\n")
    os.close(descriptor)
    assert (path.read_text(), rotated_path(path).read_text()) == ("new\n", "old\n")


def test_a_small_log_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    assert not rotate(path)
    path.write_text("x")
    assert not rotate(path)
    assert not rotated_path(path).exists()
