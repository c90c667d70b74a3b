"""Record Events about objects, the notes that `kubectl describe` shows.

A repeated event becomes a higher `count` on the one that is there, and many different messages of one reason are
combined, so that a controller in trouble does not flood the API. Events are a courtesy: failing to write one is logged
and never fails the work it tells of.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

import structlog

from pybrix.api.core import Event, EventSource, ObjectReference
from pybrix.api.identity import ObjectKey, Uid
from pybrix.api.meta import Object, ObjectMeta
from pybrix.base.clock import Clock, format_rfc3339
from pybrix.kube.errors import KubeError, NotFound
from pybrix.kube.interface import Client

AGGREGATION_WINDOW_S = 600.0
"""Two like events further apart than this are two Events; as in client-go's EventAggregator."""
DISTINCT_MESSAGES = 10
"""More different messages of one reason about one object within the window are combined; as in client-go."""
REMEMBERED = 4096
COMBINED = "(combined from similar events): "
MESSAGE_LIMIT = 1024
"""Longest message that the API takes."""

_log = structlog.get_logger()


@dataclass(slots=True)
class _Recorded:
    """The Event that stands for one message, or for the combined ones."""

    key: ObjectKey
    count: int
    last_s: float


@dataclass(slots=True)
class _Group:
    """Everything recently said about one object for one reason; the combined ones are at `COMBINED`."""

    by_message: dict[str, _Recorded] = field(default_factory=dict)


class EventRecorder:
    """Write Events in the name of a component."""

    def __init__(self, client: Client, clock: Clock, *, component: str) -> None:
        self._client = client
        self._clock = clock
        self._component = component
        self._groups: OrderedDict[tuple[Uid, str, str], _Group] = OrderedDict()
        self._log = _log.bind(component=component)

    async def record(self, about: Object, reason: str, message: str, type: str = "Normal") -> None:
        """Create an Event, or count up the one that says the same."""
        now_s = self._clock.monotonic_s()
        group = self._group((about.uid, reason, type), now_s)
        known_as = message
        if message not in group.by_message and len(group.by_message) >= DISTINCT_MESSAGES:
            known_as, message = COMBINED, COMBINED + message
        try:
            await self._write(group, known_as, about, reason, message[:MESSAGE_LIMIT], type, now_s)
        except KubeError as err:
            self._log.warning("event not recorded", key=str(about.key), reason=reason, error=str(err))

    async def _write(
        self, group: _Group, known_as: str, about: Object, reason: str, message: str, type_: str, now_s: float
    ) -> None:
        if (known := group.by_message.get(known_as)) is not None:
            patch = {"count": known.count + 1, "lastTimestamp": format_rfc3339(self._clock.now()), "message": message}
            try:
                await self._client.patch(Event, known.key, patch)
            except NotFound:
                # It expired on the server: say it anew.
                del group.by_message[known_as]
            else:
                known.count += 1
                known.last_s = now_s
                return
        created = await self._client.create(self._event(about, reason, message, type_))
        group.by_message[known_as] = _Recorded(created.key, 1, now_s)

    def _event(self, about: Object, reason: str, message: str, type_: str) -> Event:
        moment = self._clock.now()
        now = format_rfc3339(moment)
        # Events of cluster-scoped objects live in `default`.
        namespace = about.metadata.namespace or "default"
        return Event(
            metadata=ObjectMeta(
                # The same form as upstream's: the object's name and the time in hexadecimal nanoseconds.
                generate_name=f"{about.metadata.name[:180]}.{int(moment.timestamp() * 1e6) * 1000:x}.",
                namespace=namespace,
            ),
            involved_object=ObjectReference(
                api_version=about.gvk.api_version,
                kind=about.gvk.kind,
                namespace=about.metadata.namespace,
                name=about.metadata.name,
                uid=about.uid,
                resource_version=about.metadata.resource_version,
            ),
            reason=reason,
            message=message,
            source=EventSource(component=self._component),
            reporting_component=self._component,
            first_timestamp=now,
            last_timestamp=now,
            count=1,
            type=type_,
        )

    def _group(self, name: tuple[Uid, str, str], now_s: float) -> _Group:
        group = self._groups.setdefault(name, _Group())
        self._groups.move_to_end(name)
        if len(self._groups) > REMEMBERED:
            self._groups.popitem(last=False)
        for message, recorded in list(group.by_message.items()):
            if now_s - recorded.last_s > AGGREGATION_WINDOW_S:
                del group.by_message[message]
        return group
