"""Requests that read: get, list, watch."""

from __future__ import annotations

from aiohttp import web

from pybrix.base.clock import Clock
from pybrix.cluster.apiserver.answers import json_answer, stream_answer
from pybrix.cluster.apiserver.failures import revision_too_large
from pybrix.cluster.apiserver.lists import read_page
from pybrix.cluster.apiserver.negotiation import JSON
from pybrix.cluster.apiserver.objects import Objects
from pybrix.cluster.apiserver.options import list_options
from pybrix.cluster.apiserver.presentation import Presentation
from pybrix.cluster.apiserver.targets import Target
from pybrix.cluster.apiserver.watch import Watch

_DEFAULT_WATCH_S = 1800


class Reads:
    """Answers requests that read."""

    def __init__(
        self, objects: Objects, presentation: Presentation, *, clock: Clock, bookmark_interval_s: float
    ) -> None:
        self._objects = objects
        self._store = objects.store
        self._presentation = presentation
        self._clock = clock
        self._bookmark_interval_s = bookmark_interval_s
        self._watches: set[Watch] = set()

    def end_watches(self) -> None:
        """End all watches in order, as a server that stops does."""
        for watch in list(self._watches):
            if watch.subscription is not None:
                watch.subscription.close()

    def get(self, request: web.BaseRequest, target: Target) -> web.Response:
        stored = self._objects.read(target.served, target.key)
        asked = list_options(request.query, target.served.selectable, target.served.conversion).resource_version
        if asked and int(asked) > self._store.revision:
            # The object cannot be as new as that.
            raise revision_too_large(int(asked), self._store.revision)
        if target.subresource == "scale":
            return json_answer(self._objects.scale_of(target.served, stored.data))
        return self._presentation.object(request, target.served, self._objects.view(target.served, stored.data), [])

    async def list(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        options = list_options(request.query, target.served.selectable, target.served.conversion)
        page = read_page(self._store, target.served.storage, target.namespace, options)
        return await self._presentation.page(request, target.served, page)

    async def watch(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        options = list_options(request.query, target.served.selectable, target.served.conversion)
        watch = Watch(
            self._store,
            target.served,
            target.namespace,
            options,
            self._presentation.renderer(request, target.served),
            clock=self._clock,
            timeout_s=options.timeout_s or _DEFAULT_WATCH_S,
            bookmark_interval_s=self._bookmark_interval_s,
        )
        if watch.subscription is not None and request.transport is not None:
            # A client that does not read blocks this handler in `write`; only the connection's end frees it.
            watch.subscription.on_cut = request.transport.abort
        self._watches.add(watch)
        try:
            return await stream_answer(request, watch.chunks(), JSON)
        finally:
            self._watches.discard(watch)
            if watch.subscription is not None:
                watch.subscription.close()
