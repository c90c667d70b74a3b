"""Watches: what happened since a version, as a stream of JSON lines.

https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import msgspec

from pybrix.base.clock import Clock
from pybrix.cluster.apiserver.failures import expired, forbidden_field, invalid, revision_too_large, status_body
from pybrix.cluster.apiserver.options import ListOptions
from pybrix.cluster.apiserver.resources import ResourceType
from pybrix.cluster.errors import HistoryGone, SlowSubscriber
from pybrix.cluster.store.history import Change, ChangeType, Stored
from pybrix.cluster.store.store import Store
from pybrix.cluster.store.subscription import Subscription

# What is handed to the connection at once; the rest stays where its size is bounded.
_CHUNK_BYTES = 256 * 1024
INITIAL_EVENTS_END = "k8s.io/initial-events-end"
Render = Callable[[Stored], bytes]
"""Turn an object into the JSON that this client wants: the object, its metadata, or a row of a table."""


class Watch:
    """One client's watch. Create it, then stream `chunks`; creating it already fixes where it starts."""

    def __init__(
        self,
        store: Store,
        served: ResourceType,
        namespace: str | None,
        options: ListOptions,
        render: Render,
        *,
        clock: Clock,
        timeout_s: float,
        bookmark_interval_s: float,
    ) -> None:
        """Start watching.

        Raises:
            StatusError: the version lies in the future, or the options do not go together.
        """
        self._store = store
        self._served = served
        self._options = options
        self._render = render
        self._clock = clock
        self._deadline_s = clock.monotonic_s() + timeout_s
        self._bookmark_interval_s = bookmark_interval_s
        self._gone: HistoryGone | None = None
        self._initial: list[Stored] = []
        version = int(options.resource_version or 0)
        if options.sends_initial_events and options.match != "NotOlderThan":
            detail = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            raise invalid("ListOptions", "meta.k8s.io", "", [forbidden_field("resourceVersionMatch", detail)])
        if options.match and not options.sends_initial_events:
            detail = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
            raise invalid("ListOptions", "meta.k8s.io", "", [forbidden_field("resourceVersionMatch", detail)])
        if version > store.revision:
            raise revision_too_large(version, store.revision)
        self._starts_with_state = options.sends_initial_events or version == 0
        since = store.revision if self._starts_with_state else version
        if self._starts_with_state:
            self._initial = [s for s in store.list(served.storage, namespace) if options.selects(s.data)]
        try:
            self.subscription: Subscription | None = store.subscribe(served.storage, namespace, since=since)
        except HistoryGone as err:
            self._gone = err
            self.subscription = None

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield lines, several at a time, until the time is over or the server stops."""
        if self._gone is not None or self.subscription is None:
            yield _line("ERROR", msgspec.json.encode(status_body(expired(str(self._gone)))))
            return
        try:
            start = [_line("ADDED", self._render(stored)) for stored in self._initial]
            self._initial = []
            if self._options.sends_initial_events and self._options.allows_bookmarks:
                start.append(self._bookmark({INITIAL_EVENTS_END: "true"}))
            if start:
                yield b"".join(start)
            while not self.subscription.is_closed:
                left_s = self._deadline_s - self._clock.monotonic_s()
                if left_s <= 0:
                    return
                try:
                    # Not `wait_for`: in Python 3.11 it loses a cancellation that comes together with the event.
                    async with asyncio.timeout(min(left_s, self._bookmark_interval_s)):
                        await self.subscription.wait()
                except TimeoutError:
                    if self._options.allows_bookmarks:
                        yield self._bookmark({})
                    continue
                lines = b"".join(self._lines(self.subscription.take(_CHUNK_BYTES)))
                if lines:
                    yield lines
        except SlowSubscriber as err:
            # The client reads again what it missed: to it, this is a version that is too old.
            yield _line("ERROR", msgspec.json.encode(status_body(expired(f"too slow: {err}"))))
        finally:
            self.subscription.close()

    def _lines(self, changes: list[Change]) -> Iterator[bytes]:
        for change in changes:
            seen = self._seen_as(change)
            if seen is not None:
                yield _line(seen, self._render(change.object))

    def _seen_as(self, change: Change) -> str | None:
        """Return what a change means to someone who sees only what the selectors select."""
        is_in = change.type is not ChangeType.DELETED and self._options.selects(change.object.data)
        was_in = change.previous is not None and self._options.selects(change.previous.data)
        if is_in:
            return "MODIFIED" if was_in else "ADDED"
        return "DELETED" if was_in else None

    def _bookmark(self, annotations: dict[str, str]) -> bytes:
        # Nothing is queued at this point, so everything up to the store's revision has been sent.
        metadata: dict[str, Any] = {"resourceVersion": str(self._store.revision)}
        if annotations:
            metadata["annotations"] = annotations
        body = {"kind": self._served.kind, "apiVersion": self._served.api_version, "metadata": metadata}
        return _line("BOOKMARK", msgspec.json.encode(body))


def _line(kind: str, raw: bytes) -> bytes:
    return b'{"type":"%s","object":%s}\n' % (kind.encode(), raw)
