"""What the controller remembers between passes: the records of each adapter, and where adapters are placed. No I/O.

The status has the records of an adapter, too; these are the same or newer. They are read from the status once, when an
adapter is first seen, and belong to this process from then on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pybrix.api.identity import ObjectKey, Uid
from pybrix.api.model.v1alpha1.modeladapter import AdapterPod, ModelAdapter
from pybrix.controllers.modeladapter.state import State

_HOLDING = frozenset({State.LOADING, State.RELOADING, State.LOADED, State.DRAINING})


@dataclass(slots=True, eq=False)
class Memory:
    """One adapter, known by its UID."""

    key: ObjectKey
    records: Mapping[Uid, AdapterPod] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    """Names of slices that turned out to be somebody else's."""


class Memories:
    """All adapters, and an index of the pods that their records name."""

    def __init__(self) -> None:
        self._by_adapter: dict[Uid, Memory] = {}
        self._by_pod: dict[Uid, dict[Uid, Memory]] = {}
        self._num_held: dict[Uid, int] = {}

    def begin(self, adapter: ModelAdapter) -> Memory:
        """Take what the status says for the truth, whatever was remembered."""
        memory = self._by_adapter.setdefault(adapter.uid, Memory(adapter.key))
        self.put(adapter.uid, {Uid(record.uid): record for record in adapter.status.pods})
        return memory

    def of(self, adapter: ModelAdapter) -> Memory:
        """Return the memory of an adapter, begun from its status."""
        return self._by_adapter.get(adapter.uid) or self.begin(adapter)

    def put(self, adapter: Uid, records: Mapping[Uid, AdapterPod]) -> None:
        """Replace the records of an adapter."""
        memory = self._by_adapter[adapter]
        for uid, record in memory.records.items():
            holders = self._by_pod.get(uid, {})
            holders.pop(adapter, None)
            if not holders:
                self._by_pod.pop(uid, None)
            self._count(uid, record, -1)
        memory.records = records
        for uid, record in records.items():
            self._by_pod.setdefault(uid, {})[adapter] = memory
            self._count(uid, record, 1)

    def drop(self, adapter: Uid) -> Mapping[Uid, AdapterPod]:
        """Forget an adapter; return its last records."""
        memory = self._by_adapter.get(adapter)
        if memory is None:
            return {}
        records = memory.records
        self.put(adapter, {})
        del self._by_adapter[adapter]
        return records

    def clear(self) -> None:
        """Forget everything: another process may have worked meanwhile."""
        self._by_adapter.clear()
        self._by_pod.clear()
        self._num_held.clear()

    def holders(self, pod: Uid) -> list[ObjectKey]:
        """Return the adapters with a record of a pod."""
        return [memory.key for memory in self._by_pod.get(pod, {}).values()]

    def records_of(self, pod: Uid) -> Iterable[tuple[Memory, AdapterPod]]:
        return [(memory, memory.records[pod]) for memory in self._by_pod.get(pod, {}).values()]

    def occupancy(self, adapter: Uid) -> Occupancy:
        """Return how many others are placed in each pod, for one adapter."""
        return Occupancy(self, adapter)

    def num_others(self, pod: Uid, adapter: Uid) -> int:
        memory = self._by_adapter.get(adapter)
        own = memory.records.get(pod) if memory is not None else None
        return self._num_held.get(pod, 0) - (own is not None and own.state in _HOLDING)

    def _count(self, pod: Uid, record: AdapterPod, change: int) -> None:
        if record.state not in _HOLDING:
            return
        held = self._num_held.get(pod, 0) + change
        if held:
            self._num_held[pod] = held
        else:
            self._num_held.pop(pod, None)


@dataclass(frozen=True, slots=True)
class Occupancy:
    """A view of how many other adapters are placed in each pod."""

    memories: Memories
    adapter: Uid

    def get(self, pod: Uid, /) -> int:
        return self.memories.num_others(pod, self.adapter)
