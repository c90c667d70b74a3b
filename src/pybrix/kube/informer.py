"""A cache of one kind that follows the API server: list, watch, list again when the watch cannot go on.

    pods = Informer(client, Pod, label_selector="app=web")
    pods.add_index("node", lambda pod: [pod.spec.node_name])
    pods.add_handler(lambda event, old, new: ...)
    async with asyncio.TaskGroup() as group:
        group.create_task(pods.run())
        await pods.wait_synced()
        pods.get(key), pods.by_uid(uid), pods.by_index("node", "node-1")

While the server is away the last contents stay and `last_contact_s` ages. Objects are shared: never modify them.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from typing import Generic, TypeVar

import structlog

from pybrix.api.identity import ObjectKey, Uid
from pybrix.api.meta import Object
from pybrix.kube.backoff import Backoff
from pybrix.kube.errors import Forbidden, Gone, KubeError, NotFound, TooManyRequests
from pybrix.kube.interface import Client, EventType
from pybrix.kube.objectstore import Handler, IndexFunction, Objects, ObjectStore

T = TypeVar("T", bound=Object)

FIRST_RETRY_S = 0.1
LAST_RETRY_S = 10.0
SHORT_WATCH_S = 1.0
"""A watch that ends sooner than this is followed by a pause, lest client and server spin."""

_log = structlog.get_logger()


class Informer(Generic[T]):
    """Hold the objects of a kind that a namespace (None: all) and selectors leave.

    Args:
        chance: spreads retries; a seeded one makes them repeatable. None: a fresh one.
    """

    def __init__(
        self,
        client: Client,
        cls: type[T],
        *,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
        chance: random.Random | None = None,
    ) -> None:
        self.cls = cls
        self.namespace = namespace
        self.last_contact_s: float | None = None
        """When the server last answered, on the event loop's clock (`time.monotonic()`); None before the first time."""
        self.is_parked = False
        """Whether the server does not know the kind (its CRD is missing); the list is retried until it does."""
        self.is_forbidden = False
        """Whether the server does not let this client read the kind; the list is retried until it does."""
        self._client = client
        self._selectors = {"label_selector": label_selector, "field_selector": field_selector}
        self._store: ObjectStore[T] = ObjectStore()
        self._synced = asyncio.Event()
        self._settled = asyncio.Event()
        self._backoff = Backoff(chance or random.Random(), first_s=FIRST_RETRY_S, limit_s=LAST_RETRY_S)
        self._log = _log.bind(kind=cls.gvk.kind)

    @property
    def has_synced(self) -> bool:
        """Say whether the contents were complete once."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        await self._synced.wait()

    async def wait_settled(self) -> None:
        """Return when the contents were complete once, or the server has said that they are not to be had (yet).

        For a reader that can do without the kind: its CRD may be missing, or the right to read it.
        """
        await self._settled.wait()

    def get(self, key: ObjectKey) -> T | None:
        return self._store.get(key)

    def by_uid(self, uid: Uid) -> T | None:
        return self._store.by_uid(uid)

    def list(self, namespace: str | None = None) -> list[T]:
        return self._store.list(namespace)

    def add_index(self, name: str, values_of: IndexFunction[T]) -> None:
        """Index by the strings that `values_of` finds in an object.

        Raises:
            ValueError: there is an index of that name with another function.
        """
        self._store.add_index(name, values_of)

    def by_index(self, name: str, value: str) -> Objects[T]:
        return self._store.by_index(name, value)

    def add_handler(self, handler: Handler[T]) -> None:
        """Call `handler(event, old, new)` for what is there (as ADDED) and for every change from now on."""
        self._store.add_handler(handler)

    async def run(self) -> None:
        """Follow the server until cancelled."""
        version = ""
        while True:
            try:
                if not version:
                    version = await self._list()
                version = await self._watch(version)
            except Gone as err:
                self._log.info("listing again", why=str(err))
                version = ""
                # A server that calls its own fresh version too old must not be asked in a tight loop.
                await asyncio.sleep(self._backoff.next_s())
            except KubeError as err:
                # After a lost connection the server may hold restored data with lower versions: only a list is safe.
                version = ""
                await self._pause_after(err)

    async def _list(self) -> str:
        found = await self._client.list(self.cls, self.namespace, **self._selectors)
        self._touch()
        if self.is_parked or self.is_forbidden:
            self.is_parked = self.is_forbidden = False
            self._log.info("the kind can be read now")
        self._store.replace(found.items)
        self._synced.set()
        self._settled.set()
        return found.resource_version

    async def _watch(self, version: str) -> str:
        """Follow one watch to its end and return the version to go on from."""
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        stream = self._client.watch(self.cls, self.namespace, resource_version=version, **self._selectors)
        try:
            async with aclosing(stream) as events:  # type: ignore[type-var]  # Clients return generators.
                async for event in events:
                    self._touch()
                    version = event.object.metadata.resource_version or version
                    if event.type is EventType.DELETED:
                        self._store.drop(event.object)
                    elif event.type is not EventType.BOOKMARK:
                        self._store.put(event.object)
        finally:
            is_short = loop.time() - started_s < SHORT_WATCH_S
            if not is_short:
                self._backoff.reset()
        self._touch()
        if is_short:
            await asyncio.sleep(self._backoff.next_s())
        return version

    async def _pause_after(self, err: KubeError) -> None:
        if isinstance(err, NotFound):
            if not self.is_parked:
                self._log.warning("the server does not know the kind; waiting for it", error=str(err))
            self.is_parked = True
            self._settled.set()
            self._touch()
        elif isinstance(err, Forbidden):
            if not self.is_forbidden:
                self._log.error("the kind may not be read; waiting for the right to", error=str(err))
            self.is_forbidden = True
            self._settled.set()
            self._touch()
        delay_s = self._backoff.next_s()
        if isinstance(err, TooManyRequests):
            delay_s = max(delay_s, err.retry_after_s)
        if not self.is_parked and not self.is_forbidden:
            self._log.warning("API server not followed; retrying", error=str(err), delay_s=round(delay_s, 2))
        await asyncio.sleep(delay_s)

    def _touch(self) -> None:
        self.last_contact_s = asyncio.get_running_loop().time()
