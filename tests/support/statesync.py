"""Gateways' shared state without transports: instances, and a network that loses, repeats and reorders messages."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pybrix.api.identity import Uid
from pybrix.gateway.accesslog.record import read_record
from pybrix.gateway.framework.types import EndpointId
from pybrix.gateway.indexes.learnt import LearntModel
from pybrix.gateway.indexes.load import LoadTable, Weight
from pybrix.gateway.indexes.tokenhistory import Tokens
from pybrix.gateway.scheduling.registry import Indexes
from pybrix.gateway.statesync.replica import Replica
from pybrix.gateway.statesync.wire import encode
from pybrix.gateway.view.facts import ModelKey
from tests.support.gateway import make_request

MODEL = ModelKey("default", "m")
LIFETIME_S = 12.0


def engine(number: int) -> EndpointId:
    return EndpointId(Uid(f"pod-{number}"), 8000)


class Instance:
    """What one gateway knows, and the requests that it has in flight."""

    def __init__(self, name: str, engines: int = 6, *, incarnation: int = 1, lifetime_s: float = LIFETIME_S) -> None:
        self.engines = [engine(number) for number in range(engines)]
        self.loads = LoadTable()
        self.indexes = Indexes()
        self.sizes: dict[ModelKey, LearntModel] = {}
        self.in_flight: list[tuple[EndpointId, Weight]] = []
        self.replica = Replica(
            name,
            incarnation,
            loads=self.loads,
            indexes=self.indexes,
            sizes=self.sizes,
            lifetime_s=lifetime_s,
            draw_suffix=lambda: "x",
        )
        self.replica.follow(self.engines, [MODEL], 0.0)

    def begin(self, endpoint: EndpointId, chain: Sequence[int], user: str, now_s: float) -> None:
        """Do what a brain does when it routes a request."""
        weight = Weight(100, 60, 50)
        self.loads.add(endpoint, weight)
        self.indexes.prefix.insert(endpoint, chain)
        self.indexes.backlogs.add(endpoint, make_request(), 60, now_s)
        self.indexes.history.add(endpoint, Tokens(100, 40, 50), now_s)
        self.indexes.users.add(("default", "m"), user, 200.0, now_s)
        self.in_flight.append((endpoint, weight))

    def end(self, place: int, now_s: float) -> None:
        """Do what a brain does when one has ended."""
        endpoint, weight = self.in_flight.pop(place)
        self.loads.remove(endpoint, weight)
        record = read_record(
            {
                "type": "DownstreamEnd",
                "status": 200,
                "duration_ms": 900,
                "ttft_ms": 100,
                "prompt_tokens": 400,
                "completion_tokens": 30,
            }
        )
        entry = self.loads.entry(endpoint)
        entry.outcomes.add(record)
        entry.learnt.add(record, now_s)
        self.sizes.setdefault(MODEL, LearntModel()).add(1600, record, now_s)

    def counts(self) -> dict[EndpointId, tuple[int, int, int, int]]:
        """Return the loads that strategies see, where there are any."""
        return {
            key: (load.requests, load.prompt_tokens, load.uncached_tokens, load.decode_tokens)
            for key, load in self.loads
            if load.requests
        }

    def snapshot(self, now_s: float) -> list[bytes]:
        """Return the parts of a snapshot."""
        state, blocks, work = self.replica.snapshot(now_s)
        for _ in work:
            pass
        return [encode(state), encode(blocks)]


@dataclass
class Network:
    """Carries messages between instances in virtual time.

    Attributes:
        lost_ratio, twice_ratio: share of messages that do not come, and that come twice.
        delay_s: returns how long the next one takes; with different ones they overtake each other.
        is_cut: says whether nothing comes from one instance to another.
    """

    instances: list[Instance]
    chance: random.Random
    lost_ratio: float = 0.0
    twice_ratio: float = 0.0
    delay_s: Callable[[], float] = lambda: 0.01
    is_cut: Callable[[Instance, Instance], bool] = lambda _a, _b: False
    interval_s: float = 0.1
    now_s: float = 0.0
    snapshots: dict[str, tuple[float, list[bytes]]] = field(default_factory=dict)
    _on_their_way: list[tuple[float, int, Instance, bytes, float]] = field(default_factory=list)
    _number: int = 0

    def run(self, until_s: float, act: Callable[[float], None] = lambda _: None) -> None:
        """Let time pass; `act` is called at every interval."""
        while self.now_s < until_s:
            self.now_s = round(self.now_s + self.interval_s, 6)
            self._deliver()
            act(self.now_s)
            for each in self.instances:
                self._speak(each)
                for name in each.replica.wanted(self.now_s):
                    found = self.snapshots.get(name)
                    speaker = next((one for one in self.instances if one.replica.name == name), None)
                    if found is not None and (speaker is None or not self.is_cut(speaker, each)):
                        for _ in each.replica.take_snapshot(found[1], self.now_s - found[0], self.now_s):
                            pass
                each.replica.keep_house(self.now_s)

    def _speak(self, speaker: Instance) -> None:
        if speaker.replica.take_snapshot_due():
            sequence = speaker.replica.own.sequence
            self.snapshots[speaker.replica.name] = (self.now_s, speaker.snapshot(self.now_s))
            speaker.replica.note_written(sequence)
        for data in speaker.replica.messages(self.now_s):
            for listener in self.instances:
                if listener is speaker or self.is_cut(speaker, listener) or self.chance.random() < self.lost_ratio:
                    continue
                for _ in range(2 if self.chance.random() < self.twice_ratio else 1):
                    self._number += 1
                    at_s = self.now_s + self.delay_s()
                    heapq.heappush(self._on_their_way, (at_s, self._number, listener, data, self.now_s))

    def _deliver(self) -> None:
        while self._on_their_way and self._on_their_way[0][0] <= self.now_s:
            _, _, listener, data, sent_s = heapq.heappop(self._on_their_way)
            if listener in self.instances:
                listener.replica.take(data, self.now_s - sent_s, self.now_s)
