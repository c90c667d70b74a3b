"""Paths that requests may name, and mounted Secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from pybrix.sidecar.errors import RequestError
from pybrix.sidecar.paths import PathRules, read_secret


@pytest.mark.parametrize("path", ["/models/a", "/data", "/mnt/x/../y"[:6]])
def test_without_prefixes_all_but_the_systems_paths(path: str) -> None:
    assert PathRules(()).check(path, "p") == path


@pytest.mark.parametrize(
    "path", ["/", "/etc/passwd", "/proc/1/environ", "/var/run/secrets/kubernetes.io/x", "/run/x", "/sys", "//etc/x"]
)
def test_the_systems_paths_are_refused(path: str) -> None:
    with pytest.raises(RequestError) as refusal:
        PathRules(()).check(path, "p")
    assert refusal.value.status == 403


def test_prefixes_are_directories(tmp_path: Path) -> None:
    rules = PathRules((f"{tmp_path}/a/",))
    assert rules.check(f"{tmp_path}/a/b", "p") == f"{tmp_path}/a/b"
    for path in (f"{tmp_path}/ab", str(tmp_path), "/models"):
        with pytest.raises(RequestError):
            rules.check(path, "p")
    for path in ("relative", f"{tmp_path}/a/../b"):
        with pytest.raises(RequestError) as refusal:
            rules.check(path, "p")
        assert refusal.value.status == 422


def test_links_out_of_a_prefix_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/link").symlink_to("/etc")
    with pytest.raises(RequestError):
        PathRules((f"{tmp_path}/a",)).check(f"{tmp_path}/a/link/passwd", "p")
    with pytest.raises(RequestError):
        PathRules(()).check(f"{tmp_path}/a/link/passwd", "p")


def mount(directory: Path, data: dict[str, str]) -> None:
    """Lay a Secret out as the kubelet does: files in a dated directory, and links to them."""
    dated = directory / "..2026_01_01"
    dated.mkdir(parents=True)
    (directory / "..data").symlink_to(dated.name)
    for name, value in data.items():
        (dated / name).write_text(value)
        (directory / name).symlink_to(f"..data/{name}")


def test_a_mounted_secret_is_read(tmp_path: Path) -> None:
    mount(tmp_path / "hub", {"huggingface_token": "t\n"})
    assert read_secret(tmp_path, "hub").hub_token() == "t"


def test_a_secret_that_is_mounted_at_the_directory_itself(tmp_path: Path) -> None:
    mount(tmp_path, {"HF_TOKEN": "t"})
    assert read_secret(tmp_path, "any").hub_token() == "t"


def test_secrets_do_not_lead_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("top")
    mount(tmp_path / "m" / "s", {"a": "b"})
    (tmp_path / "m/s/hf_token").symlink_to(tmp_path / "outside")
    assert not read_secret(tmp_path / "m", "s").hub_token()
    for name in ("../outside", "a/b", "..data", ""):
        with pytest.raises(RequestError) as refusal:
            read_secret(tmp_path / "m", name)
        assert refusal.value.status == 422
    with pytest.raises(RequestError) as refusal:
        read_secret(tmp_path / "nothing", "s")
    assert refusal.value.status == 400
