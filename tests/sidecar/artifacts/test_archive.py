"""Archives that others made."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from pybrix.sidecar.artifacts.archive import measure, unpack
from pybrix.sidecar.artifacts.errors import ArtifactError, ArtifactTooLarge, ListingHostile, SourceInvalid
from tests.support.sources import tar_gz, zipped

FILES = {"a/adapter_config.json": b"{}", "a/b/weights": b"w" * 5000}
LIMIT = 10_000


def put(tmp_path: Path, name: str, data: bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


def unpacked(path: Path, limit_bytes: int = LIMIT) -> dict[str, bytes]:
    """Unpack next to the archive and return what is there."""
    contents = measure(path, limit_bytes, "x")
    into = path.parent / "out"
    sizes = unpack(path, into, contents, limit_bytes, "x")
    found = {str(file.relative_to(into)): file.read_bytes() for file in into.rglob("*") if file.is_file()}
    assert sizes == {name: len(data) for name, data in found.items()}
    return found


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz", "x.TGZ", "x.zip"])
def test_files_are_unpacked(tmp_path: Path, name: str) -> None:
    data = zipped(FILES) if name.endswith("zip") else tar_gz(FILES)
    assert unpacked(put(tmp_path, name, data)) == FILES


def test_a_tar_without_compression(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        directory = tarfile.TarInfo("d")
        directory.type = tarfile.DIRTYPE
        tar.addfile(directory)
        info = tarfile.TarInfo("./d/x")
        info.size, info.mode = 3, 0o4777
        tar.addfile(info, io.BytesIO(b"abc"))
    assert unpacked(put(tmp_path, "x.tar", out.getvalue())) == {"d/x": b"abc"}
    assert stat.S_IMODE((tmp_path / "out/d/x").stat().st_mode) == 0o644


def zip_with_link() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        pytest.param("x.tgz", tar_gz({"../../evil": b"x"}), id="tar climbs"),
        pytest.param("x.tgz", tar_gz({"/tmp/si-evil": b"x"}), id="tar absolute"),
        pytest.param("x.tgz", tar_gz({}, links={"l": "/etc"}), id="tar links"),
        pytest.param("x.tgz", tar_gz({"l/x": b"x"}, links={"l": "/tmp"}), id="tar writes through a link"),
        pytest.param("x.tgz", tar_gz({"a": b"x", "a/b": b"x"}), id="file and directory"),
        pytest.param("x.zip", zipped({"../evil": b"x"}), id="zip climbs"),
        pytest.param("x.zip", zip_with_link(), id="zip links"),
    ],
)
def test_hostile_archives_write_nothing(tmp_path: Path, name: str, data: bytes) -> None:
    directory = tmp_path / "in" / "side"
    directory.mkdir(parents=True)
    with pytest.raises(ListingHostile):
        unpacked(put(directory, name, data))
    assert {path.name for path in tmp_path.rglob("*")} == {"in", "side", name}


@pytest.mark.parametrize("name", ["x.tgz", "x.zip"])
def test_bombs_are_found_before_they_are_unpacked(tmp_path: Path, name: str) -> None:
    bomb = {"zeros": bytes(5_000_000)}
    path = put(tmp_path, name, zipped(bomb) if name.endswith("zip") else tar_gz(bomb))
    assert path.stat().st_size < 20_000
    with pytest.raises(ArtifactTooLarge):
        unpacked(path)
    assert not (tmp_path / "out").exists()


def test_a_zip_that_lies_about_its_size_is_stopped(tmp_path: Path) -> None:
    data = zipped({"x": b"a" * 50_000}).replace((50_000).to_bytes(4, "little"), (5).to_bytes(4, "little"))
    with pytest.raises(ArtifactError):
        unpacked(put(tmp_path, "x.zip", data))


@pytest.mark.parametrize("name", ["x.tgz", "x.zip", "x.tar"])
@pytest.mark.parametrize("data", [b"", b"no archive at all", tar_gz(FILES)[:-40], zipped(FILES)[:-40]])
def test_broken_archives_are_refused(tmp_path: Path, name: str, data: bytes) -> None:
    with pytest.raises(SourceInvalid):
        unpacked(put(tmp_path, name, data))
