"""Volumes as directories, and what a container sees of them."""

from __future__ import annotations

import asyncio
import base64
import os
import stat
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import pytest

from pybrix.api.core import ConfigMap, Secret, Volume
from pybrix.api.meta import ObjectMeta
from pybrix.cluster.nodeagent.namespaces import mount_namespace_command
from pybrix.cluster.nodeagent.volumes import (
    Mount,
    Sources,
    VolumeError,
    refuse_names,
    render_mount_script,
    resolve_mounts,
    write_volume,
)
from tests.support.pods import make_container, make_pod

SOURCES = Sources(
    {"cm": ConfigMap(metadata=ObjectMeta(name="cm"), data={"a.txt": "A", "b.txt": "B"}, binary_data={"c": "AAE="})},
    {"s": Secret(metadata=ObjectMeta(name="s"), data={"token": base64.b64encode(b"hunter2").decode()})},
    pod_ip="127.65.0.9",
    tokens={("", 3607): "for the API server"},
)
POD = make_pod(labels={"app": "web", "zone": "z1"})


def volume(**kind: Any) -> Volume:
    return msgspec.convert({"name": "v"} | kind, Volume)


def files(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("kind", "want"),
    [
        pytest.param({"emptyDir": {}}, {}, id="emptyDir"),
        pytest.param({"configMap": {"name": "cm"}}, {"a.txt": b"A", "b.txt": b"B", "c": b"\0\1"}, id="configMap"),
        pytest.param(
            {"configMap": {"name": "cm", "items": [{"key": "a.txt", "path": "d/e"}]}}, {"d/e": b"A"}, id="chosen keys"
        ),
        pytest.param({"configMap": {"name": "none", "optional": True}}, {}, id="optional"),
        pytest.param({"secret": {"secretName": "s"}}, {"token": b"hunter2"}, id="secret"),
        pytest.param(
            {"downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
            {"l": b'app="web"\nzone="z1"'},
            id="downward API",
        ),
        pytest.param(
            {"projected": {"sources": [{"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}}]}},
            {"token": b"for the API server"},
            id="token",
        ),
        pytest.param(
            {"projected": {"sources": [{"configMap": {"name": "cm"}}, {"secret": {"name": "s"}}]}},
            {"a.txt": b"A", "b.txt": b"B", "c": b"\0\1", "token": b"hunter2"},
            id="projected",
        ),
    ],
)
def test_content(tmp_path: Path, kind: dict[str, Any], want: dict[str, bytes]) -> None:
    assert files(write_volume(volume(**kind), POD, SOURCES, tmp_path / "v")) == want


_ITEMS = [{"key": "a.txt", "path": "a", "mode": 0o400}, {"key": "b.txt", "path": "b"}]
_FIELDS = [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]


@pytest.mark.parametrize(
    ("kind", "want"),
    [
        pytest.param({"configMap": {"name": "cm", "items": _ITEMS}}, {"a": 0o400, "b": 0o644}, id="configMap"),
        pytest.param(
            {"configMap": {"name": "cm", "items": _ITEMS, "defaultMode": 0o755}},
            {"a": 0o400, "b": 0o755},
            id="programs",
        ),
        pytest.param({"secret": {"secretName": "s"}}, {"token": 0o644}, id="secret"),
        pytest.param({"secret": {"secretName": "s", "defaultMode": 0o440}}, {"token": 0o440}, id="secret for a group"),
        pytest.param({"downwardAPI": {"items": _FIELDS, "defaultMode": 0}}, {"l": 0}, id="downward API"),
        pytest.param(
            {
                "projected": {
                    "defaultMode": 0o440,
                    "sources": [
                        {"configMap": {"name": "cm", "items": _ITEMS}},
                        {"secret": {"name": "s"}},
                        {"downwardAPI": {"items": [_FIELDS[0] | {"mode": 0o600}]}},
                        {"serviceAccountToken": {"path": "sa", "expirationSeconds": 3607}},
                    ],
                }
            },
            {"a": 0o400, "b": 0o440, "token": 0o440, "l": 0o600, "sa": 0o440},
            id="projected",
        ),
    ],
)
def test_modes(tmp_path: Path, kind: dict[str, Any], want: dict[str, int]) -> None:
    for _ in range(2):
        directory = write_volume(volume(**kind), POD, SOURCES, tmp_path / "pod" / "v")
        assert {p.name: stat.S_IMODE(p.stat().st_mode) for p in directory.iterdir()} == want
    assert stat.S_IMODE(directory.parent.stat().st_mode) == 0o700


def test_a_changed_source_changes_the_files(tmp_path: Path) -> None:
    write_volume(volume(configMap={"name": "cm"}), POD, SOURCES, tmp_path / "v")
    changed = Sources({"cm": ConfigMap(data={"a.txt": "new"})}, {})
    assert files(write_volume(volume(configMap={"name": "cm"}), POD, changed, tmp_path / "v")) == {"a.txt": b"new"}


def test_an_empty_dir_keeps_what_was_written(tmp_path: Path) -> None:
    directory = write_volume(volume(emptyDir={}), POD, SOURCES, tmp_path / "v")
    (directory / "kept").write_text("x")
    assert files(write_volume(volume(emptyDir={}), POD, SOURCES, tmp_path / "v")) == {"kept": b"x"}


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ({"configMap": {"name": "none"}}, 'configmap "none" not found'),
        ({"secret": {"secretName": "none"}}, 'secret "none" not found'),
        ({"configMap": {"name": "cm", "items": [{"key": "x", "path": "y"}]}}, "has no key x"),
        ({"configMap": {"name": "cm", "items": [{"key": "a.txt", "path": "../y"}]}}, "is no path inside a volume"),
        ({"persistentVolumeClaim": {"claimName": "c"}}, 'persistentvolumeclaim "c" not found'),
        ({"hostPath": {"path": "/nonexistent/x", "type": "Directory"}}, "type check failed"),
        ({"projected": {"sources": [{"clusterTrustBundle": {"path": "t"}}]}}, "cannot project clusterTrustBundle"),
        ({"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}, "no token of the service account"),
    ],
)
def test_what_cannot_be_made_says_why(tmp_path: Path, kind: dict[str, Any], message: str) -> None:
    with pytest.raises(VolumeError, match=message):
        write_volume(volume(**kind), POD, SOURCES, tmp_path / "v")


@pytest.mark.parametrize("path", ["relative", "/", "/a/../b"])
def test_impossible_mount_paths_are_refused(tmp_path: Path, path: str) -> None:
    container = make_pod("p", make_container(volumeMounts=[{"name": "v", "mountPath": path}])).spec.containers[0]
    with pytest.raises(VolumeError):
        resolve_mounts(container, {"v": tmp_path}, frozenset())


@pytest.mark.parametrize(
    ("pod", "message"),
    [
        (make_pod("p", make_container("../x")), "container name '../x' is not a DNS label"),
        (make_pod("p", make_container("a"), make_container("a")), "two containers have the same name"),
        (make_pod("p", volumes=[{"name": "a/b"}]), "volume name 'a/b' is not a DNS label"),
        (make_pod("p", uid="../../etc"), "is not a UID"),
        (make_pod("p"), ""),
    ],
)
def test_names_that_would_lead_out_of_the_pods_directory_are_refused(pod: Any, message: str) -> None:
    assert message in refuse_names(pod)
    assert bool(message) == bool(refuse_names(pod))


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A directory of the machine with one file, in which containers mount."""
    directory = tmp_path / "machine"
    directory.mkdir()
    (directory / "there").write_text("old")
    return directory


def mount(source: Path, target: Path, *, read_only: bool = False) -> Mount:
    return Mount(source, PurePosixPath(target), read_only)


async def run(tmp_path: Path, mounts: list[Mount], script: str) -> tuple[int, str]:
    command = await mount_namespace_command(os.defpath)
    if not command:
        pytest.skip("this machine allows no mount namespaces")
    text = render_mount_script(sorted(mounts, key=lambda m: len(m.target.parts)), tmp_path / "scratch")
    process = await asyncio.create_subprocess_exec(
        *command,
        "/bin/sh",
        "-c",
        text,
        "mounts",
        "sh",
        "-c",
        script,
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


def made(tmp_path: Path, name: str, **content: str) -> Path:
    directory = tmp_path / name
    directory.mkdir()
    for file, text in content.items():
        (directory / file).write_text(text)
    return directory


class TestMounts:
    async def test_at_the_root_of_the_machine(self, tmp_path: Path) -> None:
        source = made(tmp_path, "v", f="hello")
        target = Path("/pybrix-test-models/deep")
        at = mount(source, target)
        code, got = await run(
            tmp_path, [at], "cat /pybrix-test-models/deep/f; echo x > /pybrix-test-models/deep/g; pwd"
        )
        assert (code, got) == (0, f"hello{tmp_path}\n")
        assert (source / "g").read_text() == "x\n"
        assert not target.parent.exists()

    async def test_inside_a_directory_of_the_machine(self, tmp_path: Path, elsewhere: Path) -> None:
        at = mount(made(tmp_path, "v", f="hello"), elsewhere / "new" / "path")
        code, got = await run(tmp_path, [at], f"cd {elsewhere}; cat there new/path/f")
        assert (code, got) == (0, "oldhello")
        assert [p.name for p in elsewhere.iterdir()] == ["there"]

    async def test_in_dev_whose_devices_go_on_to_work(self, tmp_path: Path) -> None:
        message = tmp_path / "message"
        message.touch()
        script = "echo x >/dev/null; head -c1 /dev/zero | wc -c; script -qec 'test -t 0 && echo tty' /dev/null"
        at = mount(message, Path("/dev/pybrix-test-message"))
        code, got = await run(tmp_path, [at], f"{script}; echo said >/dev/pybrix-test-message")
        assert (code, got.split()) == (0, ["1", "tty"])
        assert message.read_text() == "said\n"
        assert not Path("/dev/pybrix-test-message").exists()

    async def test_beside_entries_of_any_name(self, tmp_path: Path, elsewhere: Path) -> None:
        names = ["a b", "tab\tbed", "back\\slash", "#hash", "quo'te", ".hidden", "ünïcode", "$HOME"]
        for name in names:
            (elsewhere / name).mkdir()
            (elsewhere / name / "f").write_text(name)
            (elsewhere / f"{name}.txt").write_text(name)
            (elsewhere / f"{name}.link").symlink_to(f"{name}.txt")
        (elsewhere / "plain.link").symlink_to("there")
        at = mount(made(tmp_path, "v", f="hello"), elsewhere / "new")
        code, got = await run(
            tmp_path, [at], f"cd {elsewhere}; cat */f .hidden/f *.txt .hidden.txt *.link .hidden.link"
        )
        assert code == 0, got
        want = [*names, *names, "hello", *names, "old"]
        assert len(got) == sum(len(text) for text in want)
        assert all(got.count(name) >= 3 for name in names)

    async def test_over_a_directory_of_the_machine(self, tmp_path: Path, elsewhere: Path) -> None:
        code, got = await run(tmp_path, [mount(made(tmp_path, "v", f="hello"), elsewhere)], f"ls {elsewhere}")
        assert (code, got) == (0, "f\n")

    async def test_one_in_another_and_single_files(self, tmp_path: Path, elsewhere: Path) -> None:
        outer, inner = made(tmp_path, "outer"), made(tmp_path, "inner", f="hello")
        mounts = [
            mount(outer, elsewhere / "o"),
            mount(inner, elsewhere / "o" / "i"),
            mount(inner / "f", elsewhere / "conf" / "one.txt"),
        ]
        code, got = await run(tmp_path, mounts, f"cd {elsewhere}; cat o/i/f conf/one.txt; echo x > o/y")
        assert (code, got) == (0, "hellohello")
        assert (outer / "y").read_text() == "x\n"

    async def test_read_only(self, tmp_path: Path, elsewhere: Path) -> None:
        at = mount(made(tmp_path, "v", f="hello"), elsewhere / "ro", read_only=True)
        code, got = await run(tmp_path, [at], f"echo x > {elsewhere}/ro/f")
        assert code != 0
        assert "Read-only" in got
