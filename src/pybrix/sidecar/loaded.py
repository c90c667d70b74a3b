"""What the engine has loaded from this disk: remembered across restarts, and compared with what the engine says."""

from __future__ import annotations

import hashlib
from collections.abc import Set
from pathlib import Path

import msgspec
import structlog

from pybrix.engine.adapters import AdapterError
from pybrix.sidecar.engine import EngineAdmin

log = structlog.get_logger()


class LoadedRecord(msgspec.Struct, frozen=True):
    """An adapter that the engine was told to load."""

    name: str
    path: str
    key: str
    """The artifact's, empty when it is none of the store."""


class LoadedAdapters:
    """Records in files, so that a restarted sidecar evicts nothing that its engine still reads.

    Args:
        root: the store's directory.
        admin: the engine, which has the last word when it answers.
    """

    def __init__(self, root: Path, admin: EngineAdmin) -> None:
        self._root = root
        self._admin = admin
        self._records: dict[str, LoadedRecord] = {}

    def open(self) -> None:
        """Read what an earlier sidecar wrote."""
        directory = self._root / "loaded"
        directory.mkdir(parents=True, exist_ok=True)
        for path in directory.glob("*.json"):
            try:
                record = msgspec.json.decode(path.read_bytes(), type=LoadedRecord)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                log.warning("record of a loaded adapter cannot be read, it is deleted", path=str(path))
                path.unlink()
                continue
            self._records[record.name] = record

    def note(self, record: LoadedRecord) -> None:
        """Remember that an adapter is loaded."""
        path = self._path(record.name)
        fresh = path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(record))
        fresh.replace(path)
        self._records[record.name] = record

    def find(self, name: str) -> LoadedRecord | None:
        """Return what was loaded under a name last, None when nothing was or it was unloaded."""
        return self._records.get(name)

    def forget(self, name: str) -> LoadedRecord | None:
        """Return and drop the record of a name."""
        self._path(name).unlink(missing_ok=True)
        return self._records.pop(name, None)

    def uses(self, key: str) -> bool:
        """Say whether some record is of this artifact."""
        return any(record.key == key for record in self._records.values())

    @property
    def names(self) -> tuple[str, ...]:
        """Names on record."""
        return tuple(sorted(self._records))

    async def fetch_keys(self) -> Set[str]:
        """Return the artifacts that the engine has loaded; all on record when it does not say.

        The engine's list holds good for when it was asked: what was noted since is in use as well.
        """
        before = dict(self._records)
        try:
            models = await self._admin.list_models()
        except AdapterError as err:
            log.info("engine does not say what is loaded, all on record counts", error=err.message)
            return {record.key for record in self._records.values()}
        listed = {model.id for model in models}
        keys = {key_in(self._root, model.root or "") for model in models}
        for name, record in self._records.items():
            if name in listed or before.get(name) != record:
                keys.add(record.key)
        return keys - {""}

    def _path(self, name: str) -> Path:
        # A name may be as long as a file's name may be, before anything is added.
        return self._root / "loaded" / f"{hashlib.sha256(name.encode()).hexdigest()[:40]}.json"


def key_in(root: Path, path: str) -> str:
    """Return the key of the artifact that a path is in, empty for other paths."""
    base = f"{root / 'artifacts'}/"
    return path.removeprefix(base).partition("/")[0] if path.startswith(base) else ""
