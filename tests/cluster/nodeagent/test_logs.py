"""Where a tail begins, and rotation."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.api.core import Pod
from pybrix.base.clock import SystemClock
from pybrix.cluster.nodeagent.logs import NodeLogs, rotate, rotated_path, tail_offset
from pybrix.cluster.nodeagent.logtimes import LogClock, LogTimes, Mark, offset_since, written_at
from pybrix.cluster.nodeagent.runner import Runner
from pybrix.kube.errors import BadRequest
from tests.support.clocks import FakeClock
from tests.support.pods import NOW, make_pod


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
        self.clock = FakeClock(NOW)
        self.logs = NodeLogs(lambda key: self.pod, runner, self.clock)
        self.log_clock = LogClock()

    async def read(self, **options: Any) -> str:
        chunks = self.logs.read("default", "p", "main", **options)
        return b"".join([chunk async for chunk in chunks]).decode()

    def write(self, text: str, second: int) -> None:
        """Append at a time, as the node agent notes it."""
        if not self.path.exists():
            self.path.touch()
            self.log_clock.follow(self.path)
        with self.path.open("a") as file:
            file.write(text)
        moment = NOW.timestamp() + second
        os.utime(self.path, (moment, moment))
        self.log_clock._look(self.path)


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


async def test_lines_have_the_times_at_which_they_were_written(tmp_path: Path) -> None:
    it = Logged(tmp_path)
    it.write("one\ntwo\n", 0)
    it.write("three\nfo", 5)
    it.write("ur\n", 7)
    assert (await it.read(timestamps=True)).splitlines() == [
        "2026-01-02T12:00:00.000000000Z one",
        "2026-01-02T12:00:00.000000000Z two",
        "2026-01-02T12:00:05.000000000Z three",
        "2026-01-02T12:00:05.000000000Z four",
    ]
    assert await it.read(timestamps=True, tail_lines=1) == "2026-01-02T12:00:05.000000000Z four\n"


async def test_lines_since_a_moment_or_for_some_seconds(tmp_path: Path) -> None:
    it = Logged(tmp_path)
    for second in range(0, 50, 10):
        it.write(f"at {second}\n", second)
    it.clock.advance(50)
    assert await it.read(since_seconds=25) == "at 30\nat 40\n"
    assert await it.read(since_time="2026-01-02T12:00:20Z") == "at 20\nat 30\nat 40\n"
    assert await it.read(since_seconds=25, tail_lines=1) == "at 40\n"
    assert await it.read(since_seconds=5) == ""
    assert await it.read(since_seconds=1000, tail_lines=10) == await it.read()
    with pytest.raises(BadRequest, match="sinceTime"):
        await it.read(since_time="yesterday")


async def test_times_survive_rotation(tmp_path: Path) -> None:
    it = Logged(tmp_path)
    for turn in range(3):
        it.write("old\n" * 3, 10 * turn)
        assert rotate(it.path, limit_bytes=5)
        it.log_clock._look(it.path)
    it.write("new\n", 40)
    assert [line[17:19] + line[30:] for line in (await it.read(timestamps=True)).splitlines()] == [
        "20 old", "20 old", "20 old", "40 new",
    ]  # fmt: skip
    it.clock.advance(50)
    assert await it.read(since_seconds=20) == "new\n"
    assert await it.read(since_seconds=30) == "old\nold\nold\nnew\n"
    # What was rotated away twice is forgotten.
    assert len(LogTimes.load(it.path).older) <= 2


@given(
    growth=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), max_size=10),
    offset=st.integers(0, 100),
    moment=st.integers(0, 100),
)
def test_times_and_offsets_agree(growth: list[tuple[int, int]], offset: int, moment: int) -> None:
    marks, at, length = [], 0, 0
    for seconds, size in growth:
        at, length = at + seconds, length + size
        marks.append(Mark(at, length))
    written = written_at(marks, offset, 1000.0)
    assert (written == 1000.0) == (offset >= length)
    begin = offset_since(marks, moment)
    # Everything before was written earlier, what follows was not.
    assert all(written_at(marks, o, 1000.0) < moment for o in range(begin))
    assert written_at(marks, begin, 1000.0) >= moment
