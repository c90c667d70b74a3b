"""Load and unload LoRA adapters: fetch the artifact, then tell the engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakValueDictionary

import structlog

from pybrix.engine.adapters import AlreadyLoaded, EngineTimeout, ServedModel
from pybrix.sidecar.artifacts.credentials import Credentials
from pybrix.sidecar.artifacts.errors import NotAnAdapter
from pybrix.sidecar.artifacts.library import Library
from pybrix.sidecar.artifacts.source import BucketSource, LocalSource, WebSource, parse_source
from pybrix.sidecar.artifacts.store import ArtifactStore, GivenUp
from pybrix.sidecar.engine import EngineAdmin
from pybrix.sidecar.errors import RequestError
from pybrix.sidecar.loaded import LoadedAdapters, LoadedRecord
from pybrix.sidecar.paths import PathRules, read_secret
from pybrix.sidecar.wire import DelegatedLoad, DirectLoad, Unload

log = structlog.get_logger()

CONFIG_NAME = "adapter_config.json"


@dataclass(eq=False, slots=True)
class _Wish:
    """What shall be loaded under a name, as long as somebody waits for it."""

    artifact_url: str
    waiting: list[GivenUp] = field(default_factory=list)

    def give_up(self, name: str) -> None:
        """Let nobody wait for a download any longer."""
        for given_up in self.waiting:
            if not given_up.done():
                given_up.set_result(_superseded(name))


@dataclass(frozen=True, slots=True)
class Loaded:
    """How a load ended."""

    path: str
    was_there: bool
    """The engine had exactly this already."""


class AdapterService:
    """Loads and unloads.

    Args:
        admin: the engine.
        library: artifacts by URL.
        store: where they are; asked to delete what is unloaded.
        loaded: what the engine has.
        rules: which absolute paths may be loaded.
        secrets_dir: where Secrets are mounted.
    """

    def __init__(
        self,
        admin: EngineAdmin,
        library: Library,
        store: ArtifactStore,
        loaded: LoadedAdapters,
        rules: PathRules,
        secrets_dir: Path,
    ) -> None:
        self._admin = admin
        self._library = library
        self._store = store
        self._loaded = loaded
        self._rules = rules
        self._secrets_dir = secrets_dir
        self._wishes: dict[str, _Wish] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def load(self, request: DelegatedLoad, api_key: str, given_up: GivenUp | None = None) -> Loaded:
        """Fetch an artifact and have it loaded under a name; what has the name already is replaced.

        Args:
            request: what is to be loaded.
            api_key: for the engine.
            given_up: is set by who asked and left, and here when another request for the name comes.

        Raises:
            RequestError, ArtifactError, AdapterError: it is not loaded.
        """
        source = parse_source(request.artifact_url)
        credentials = await self._find_credentials(request)
        # Before anything is fetched: whoever the engine turns away shall not fill the disk.
        await self._admin.list_models(api_key)
        given_up = given_up or asyncio.get_running_loop().create_future()
        async with self._wish(request.lora_name, request.artifact_url, given_up) as wish:
            if isinstance(source, LocalSource):
                path = self._rules.check(source.path, "artifact_url")
                return await self._put(wish, LoadedRecord(request.lora_name, path, ""), api_key)
            async with self._library.lease(source, credentials, given_up) as artifact:
                named = source.adapter_dir if isinstance(source, BucketSource | WebSource) else ""
                directory = find_adapter((file.path for file in artifact.manifest.files), named)
                record = LoadedRecord(request.lora_name, str(artifact.files_dir / directory), artifact.key)
                return await self._put(wish, record, api_key)

    async def load_direct(self, request: DirectLoad, api_key: str) -> None:
        """Have the engine load what it finds itself: a path, or a repository of the model hub.

        Raises:
            RequestError, AdapterError: it is not loaded.
        """
        path = request.lora_path
        if path.startswith("/"):
            path = self._rules.check(path, "lora_path")
        async with self._lock(request.lora_name):
            await self._admin.load(request.lora_name, path, api_key)
            self._loaded.note(LoadedRecord(request.lora_name, path, ""))

    async def unload(self, request: Unload, api_key: str) -> bool:
        """Have an adapter unloaded, and delete its files when nothing else uses them; false when it was not loaded.

        Loads of this name that still wait for their download end as superseded.

        Raises:
            AdapterError: the engine does not do it.
        """
        name = request.lora_name
        if (wish := self._wishes.pop(name, None)) is not None:
            wish.give_up(name)
        async with self._lock(name):
            was_there = await self._admin.unload(name, api_key)
            record = self._loaded.forget(name)
        if record is not None and record.key and request.cleanup_local and not self._loaded.uses(record.key):
            await self._store.remove(record.key)
        log.info("adapter unloaded", adapter=name, was_there=was_there)
        return was_there

    async def _find_credentials(self, request: DelegatedLoad) -> Credentials:
        credentials = request.parse_credentials()
        if request.credentials_secret:
            mounted = await asyncio.to_thread(read_secret, self._secrets_dir, request.credentials_secret)
            credentials = credentials.merged(mounted)
        return credentials

    async def _put(self, wish: _Wish, record: LoadedRecord, api_key: str) -> Loaded:
        """Have exactly this loaded, whatever the engine has under the name now."""
        name = record.name
        async with self._lock(name):
            if self._wishes.get(name) is not wish:
                raise _superseded(name)
            present = await self._find(name, api_key)
            if present is not None and self._is_same(present, record):
                self._loaded.note(record)
                return Loaded(record.path, was_there=True)
            if present is not None:
                if not present.is_adapter and self._loaded.find(name) is None:
                    raise RequestError(409, "NameTaken", f"{name} is the name of a base model", "lora_name")
                log.info("adapter is replaced", adapter=name, path=record.path)
                await self._admin.unload(name, api_key)
            try:
                await self._admin.load(name, record.path, api_key)
            except (AlreadyLoaded, EngineTimeout):
                # Somebody else was faster, or the answer got lost and not the deed.
                found = await self._find(name, api_key)
                if found is None or found.root != record.path:
                    raise
            self._loaded.note(record)
        log.info("adapter loaded", adapter=name, path=record.path)
        return Loaded(record.path, was_there=False)

    async def _find(self, name: str, api_key: str) -> ServedModel | None:
        models = await self._admin.list_models(api_key)
        return next((model for model in models if model.id == name), None)

    def _is_same(self, present: ServedModel, record: LoadedRecord) -> bool:
        """Say whether the engine has this artifact: by the path it tells, else by what it was told."""
        if present.root is not None and present.is_adapter:
            return present.root == record.path
        return self._loaded.find(record.name) == record

    @asynccontextmanager
    async def _wish(self, name: str, artifact_url: str, given_up: GivenUp) -> AsyncIterator[_Wish]:
        """Hold a wish; the same one joins, another one supersedes."""
        wish = self._wishes.get(name)
        if wish is None or wish.artifact_url != artifact_url:
            if wish is not None:
                wish.give_up(name)
            wish = self._wishes[name] = _Wish(artifact_url)
        wish.waiting.append(given_up)
        try:
            yield wish
        finally:
            wish.waiting.remove(given_up)
            if not wish.waiting and self._wishes.get(name) is wish:
                del self._wishes[name]

    @asynccontextmanager
    async def _lock(self, name: str) -> AsyncIterator[None]:
        lock = self._locks.get(name)
        if lock is None:
            lock = self._locks[name] = asyncio.Lock()
        async with lock:
            yield


def _superseded(name: str) -> RequestError:
    return RequestError(409, "Superseded", f"another request for {name} came meanwhile", "lora_name")


def find_adapter(paths: Iterable[str], named: str = "") -> str:
    """Return the directory of the one adapter among an artifact's files, empty for the top.

    Archives often hold one directory that holds the rest; repositories often hold checkpoints beside the adapter.

    Args:
        paths: of the files.
        named: the directory that the URL names; empty when it names none.

    Raises:
        NotAnAdapter: there is none, or several of which none is at the top, or none where it is said to be.
    """
    every = tuple(paths)
    directories = sorted(
        path.rpartition("/")[0] for path in every if path == CONFIG_NAME or path.endswith("/" + CONFIG_NAME)
    )
    if named:
        if named in directories:
            return named
        some = ", ".join(directory or "the top" for directory in directories[:5]) or "nowhere"
        raise NotAnAdapter(f"the artifact has no {named}/{CONFIG_NAME}; adapters are in: {some}")
    if "" in directories:
        return ""
    if len(directories) == 1:
        return directories[0]
    if directories:
        raise NotAnAdapter(
            f"the artifact holds several adapters: {', '.join(directories[:5])}; "
            "name one at the end of the URL: #dir=NAME, or /NAME for hf://"
        )
    some = ", ".join(sorted(every)[:5])
    raise NotAnAdapter(f"the artifact has no {CONFIG_NAME}; it has {len(every)} files: {some}")
