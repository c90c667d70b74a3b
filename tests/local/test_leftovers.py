"""Which processes belong to an installation whose supervisor is gone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from pybrix.api.config import GatewayConfiguration
from pybrix.base.errors import UsageError
from pybrix.envoy.process import envoy_arguments
from pybrix.local.components import balancer, brain, cluster, controllers, envoy
from pybrix.local.layout import Layout
from pybrix.local.leftovers import end_leftovers, find_parts, is_part, is_supervisor, nothing_runs
from pybrix.local.state import ProcessRecord

# A package of the name whose `up` starts what its last arguments say, and of which anything else waits for a signal.
_STAND_IN = """
import signal, subprocess, sys
if sys.argv[1] == "up":
    subprocess.Popen([sys.executable, "-m", "pybrix", *sys.argv[2:]], start_new_session=True)
print("started", flush=True)
signal.pause()
"""


def commands(layout: Layout) -> list[tuple[str, ...]]:
    config, second = GatewayConfiguration(), layout.gateway(2)
    paths = second.envoy_paths
    return [
        cluster(layout, 0).argv,
        brain(layout, second).argv,
        envoy(layout, second, config, None).argv,
        balancer(layout, config, None).argv,
        controllers(layout).argv,
        ("/usr/bin/envoy", *envoy_arguments(config, paths, 0, Path("envoy.log"))),
    ]


def test_what_a_supervisor_starts_is_told_from_what_that_of_other_data_starts(tmp_path: Path) -> None:
    here, there = Layout(tmp_path / "a"), Layout(tmp_path / "ab")
    assert [is_part(each, here) for each in commands(here)] == [True] * 6
    assert [is_part(each, there) for each in commands(here)] == [False] * 6


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param([], id="a process that is gone"),
        pytest.param(["vim", "{root}/kubeconfig"], id="an editor"),
        pytest.param(["python", "-m", "pybrix", "down", "--data-dir", "{root}"], id="a command on the same data"),
        pytest.param(["python", "-m", "pybrix", "cluster", "run", "--data-dir"], id="an option without a value"),
        pytest.param(
            ["python", "-m", "pybrix", "controllers", "run", "--kubeconfig", "{root}/kubeconfig"], id="one by hand"
        ),
    ],
)
def test_others_are_no_parts(tmp_path: Path, arguments: list[str]) -> None:
    assert not is_part([each.format(root=tmp_path) for each in arguments], Layout(tmp_path))


@pytest.mark.parametrize("arguments", [["python", "-m", "pybrix", "up"], ["python", "/venv/bin/pybrix", "up", "-d"]])
def test_supervisors_are_known(arguments: list[str]) -> None:
    assert is_supervisor(arguments)
    assert not is_supervisor([each.replace("up", "down") for each in arguments])


class World:
    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.layout = Layout(directory / "data")
        self._stack = stack
        (directory / "pybrix").mkdir()
        (directory / "pybrix" / "__init__.py").touch()
        (directory / "pybrix" / "__main__.py").write_text(_STAND_IN)
        self._directory = directory

    def start(self, *words: str, is_by_hand: bool = False) -> psutil.Process:
        process = self._stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", "pybrix", *words],
                cwd=self._directory,
                stdout=subprocess.PIPE,
                start_new_session=not is_by_hand,
            )
        )
        self._stack.callback(process.kill)
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        return psutil.Process(process.pid)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(tmp_path, stack)


def cluster_of(layout: Layout) -> tuple[str, ...]:
    return ("cluster", "run", "--data-dir", str(layout.root))


def test_what_is_on_no_record_is_ended_and_others_are_not(world: World) -> None:
    part = world.start(*cluster_of(world.layout))
    of_other_data = world.start(*cluster_of(Layout(world.layout.root / "other")))
    by_hand = world.start(*cluster_of(world.layout), is_by_hand=True)
    assert find_parts(world.layout) == [part]
    assert f"is gone, though processes run on {world.layout.root} (1)" in str(nothing_runs(world.layout))
    assert end_leftovers(world.layout, (), 5.0) == 1
    assert not part.is_running()
    assert of_other_data.is_running()
    assert by_hand.is_running()
    assert str(nothing_runs(world.layout)).startswith("nothing runs on")


def test_what_is_on_record_is_ended_and_one_with_its_number_is_not(world: World) -> None:
    recorded = world.start("something", "else")
    record = ProcessRecord.of(recorded.pid)
    assert end_leftovers(world.layout, [ProcessRecord(record.pid, record.started_s - 1000)], 1.0) == 0
    assert recorded.is_running()
    assert end_leftovers(world.layout, [record], 5.0) == 1
    assert not recorded.is_running()


def test_what_a_supervisor_without_a_lock_watches_is_left_to_it(world: World) -> None:
    supervisor = world.start("up", *cluster_of(world.layout))
    with pytest.raises(UsageError, match=f"process {supervisor.pid}"):
        end_leftovers(world.layout, (), 5.0)
    (part,) = find_parts(world.layout)
    supervisor.kill()
    supervisor.wait(5)
    assert end_leftovers(world.layout, (), 5.0) == 1
    assert not part.is_running()
