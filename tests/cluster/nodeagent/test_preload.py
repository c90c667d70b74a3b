"""Where the bind shim is loaded from, with real processes."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from pybrix.cluster.images import Program
from pybrix.cluster.nodeagent.preload import (
    Preload,
    UnsafeDirectoryError,
    find_preload,
    is_carriable,
    require_private,
)
from pybrix.cluster.nodeagent.preparation import Launchable, Machine, prepare
from pybrix.cluster.nodeagent.shim import build_shim
from pybrix.cluster.nodeagent.volumes import Sources
from tests.support.pods import make_container, make_pod

PATH = os.defpath + ":/usr/local/bin"
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


async def built(directory: Path) -> Path:
    library = await build_shim(directory, search_path=PATH)
    assert library is not None
    return library


def shared(path: Path, mode: int) -> Path:
    path.mkdir()
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("path", "want"),
    [("/a/d\u00fc-1.so", True), ("/with space/a", False), ("/a:b", False), ("/a\nb", False), ("/$LIB/a", False)],
)
def test_what_ld_preload_can_carry(path: str, want: bool) -> None:
    assert is_carriable(Path(path)) == want


@needs_compiler
async def test_an_ordinary_path_is_used_as_it_is(tmp_path: Path) -> None:
    library = await built(tmp_path / "shim")
    assert await find_preload(library, search_path=PATH, directories=[tmp_path]) == Preload(library, library)


@needs_compiler
async def test_a_path_that_cannot_be_carried_is_copied_to_a_private_directory(tmp_path: Path) -> None:
    library, sticky = await built(tmp_path / "with space:colon"), shared(tmp_path / "tmp", 0o1777)
    found = await find_preload(library, search_path=PATH, directories=[sticky])
    assert found is not None
    assert found.path.parent.parent == sticky
    assert stat.S_IMODE(found.path.parent.stat().st_mode) == 0o700
    assert found.path.read_bytes() == library.read_bytes()
    # Swept away, or changed: it is made again before the next container starts.
    shutil.rmtree(found.path.parent)
    assert found.problem([]) == ""
    assert found.path.read_bytes() == library.read_bytes()
    found.path.write_bytes(b"other")
    assert found.problem([]) == ""
    assert found.path.read_bytes() == library.read_bytes()


@needs_compiler
async def test_a_directory_that_others_can_write_is_passed_over(tmp_path: Path) -> None:
    library, open_to_all = await built(tmp_path / "with space"), shared(tmp_path / "open", 0o777)
    assert await find_preload(library, search_path=PATH, directories=[open_to_all]) is None
    sticky, other = shared(tmp_path / "sticky", 0o1777), shared(tmp_path / "other", 0o1777)
    first = await find_preload(library, search_path=PATH, directories=[sticky, other])
    assert first is not None
    first.path.parent.chmod(0o777)
    assert "private" in first.problem([])
    second = await find_preload(library, search_path=PATH, directories=[sticky, other])
    assert second is not None
    assert second.path.is_relative_to(other)


@needs_compiler
async def test_a_link_in_the_place_of_the_directory_is_not_followed(tmp_path: Path) -> None:
    library, sticky = await built(tmp_path / "with space"), shared(tmp_path / "tmp", 0o1777)
    found = await find_preload(library, search_path=PATH, directories=[sticky])
    assert found is not None
    shutil.rmtree(found.path.parent)
    found.path.parent.symlink_to(shared(tmp_path / "elsewhere", 0o700))
    assert "private" in found.problem([])
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_directory_below_one_that_others_can_write_is_not_private(tmp_path: Path) -> None:
    (shared(tmp_path / "open", 0o777) / "below").mkdir(mode=0o700)
    with pytest.raises(UnsafeDirectoryError, match="others can write"):
        require_private(tmp_path / "open" / "below")


async def test_what_is_no_library_is_found_out(tmp_path: Path) -> None:
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"nothing")
    assert await find_preload(broken, search_path=PATH, directories=[tmp_path]) is None


def test_a_mount_may_hide_the_library(tmp_path: Path) -> None:
    library = tmp_path / "a.so"
    library.touch()
    assert Preload(library, library).problem([PurePosixPath("/elsewhere")]) == ""
    assert "hides" in Preload(library, library).problem([PurePosixPath(tmp_path)])


class TestPreparation:
    """A container whose shim cannot be used is told where to listen, or a Warning says that it is not."""

    def prepared(self, tmp_path: Path, shim: Preload | None, **fields: Any) -> Launchable:
        pod = make_pod("p", make_container(**fields))
        programs = {"pybrix/simulator": Program(("/bin/sleep",), ("--host", "{pod_ip}"))}
        machine = Machine(base_env={"PATH": PATH}, programs=programs, shim=shim, shim_problem="no place")
        address, container = "127.65.0.9", pod.spec.containers[0]
        found = prepare(pod, container, machine, pod_dir=tmp_path, sources=Sources({}, {}, address))
        assert isinstance(found, Launchable)
        return found

    def test_with_the_shim(self, tmp_path: Path) -> None:
        library = tmp_path / "a.so"
        library.touch()
        found = self.prepared(tmp_path, Preload(library, library))
        assert found.argv == ("/bin/sleep",)
        assert found.env["LD_PRELOAD"] == str(library)

    @pytest.mark.parametrize("is_missing", [True, False], ids=["gone", "never there"])
    def test_without_it_a_known_image_is_told_its_address(self, tmp_path: Path, is_missing: bool) -> None:
        gone = tmp_path / "gone.so"
        found = self.prepared(tmp_path, Preload(gone, gone) if is_missing else None)
        assert found.argv == ("/bin/sleep", "--host", "127.65.0.9")
        assert "LD_PRELOAD" not in found.env
        assert found.warnings == ()

    def test_without_it_any_other_program_gives_a_warning(self, tmp_path: Path) -> None:
        found = self.prepared(tmp_path, None, image="busybox", command=["/bin/sleep", "1"])
        assert found.argv == ("/bin/sleep", "1")
        assert "no place" in found.warnings[0].message
