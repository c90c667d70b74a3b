"""The gateway's brain on a virtual clock: the same director, strategies and indexes that `gateway.app` puts together.

What the app has from the world comes from the replay: access-log records with their delay, pages of metrics at the
intervals of `view.pacing`, housekeeping every second.
"""

from __future__ import annotations

import itertools
import random
from datetime import UTC, datetime, timedelta

from pybrix.api.config import GatewayConfiguration
from pybrix.api.identity import Uid
from pybrix.engine.page import EnginePage
from pybrix.gateway.director import Director
from pybrix.gateway.framework.types import EndpointId
from pybrix.gateway.indexes.enginemetrics import MetricsTable
from pybrix.gateway.indexes.load import LoadTable
from pybrix.gateway.indexes.reservations import Reservations
from pybrix.gateway.scheduling.profile import Profile
from pybrix.gateway.scheduling.registry import Indexes, build_strategies
from pybrix.gateway.statesync.replica import Replica
from pybrix.gateway.view.enginerates import History, derive
from pybrix.gateway.view.facts import ModelKey, PodFacts
from pybrix.gateway.view.pacing import next_delay_s
from pybrix.gateway.view.snapshot import build_view

MODEL = ModelKey("default", "lab")
_PORT = 8000
_SCRAPE_COST_S = 0.001
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class VirtualClock:
    """Implements `base.clock.Clock`; the replay moves it."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def now(self) -> datetime:
        return _EPOCH + timedelta(seconds=self.now_s)

    def monotonic_s(self) -> float:
        return self.now_s


class Brain:
    """A brain with `pods` endpoints, all ready for long.

    Args:
        clock: of all brains of a replay.
        name: of this one.
        is_shared: whether there are others that it tells what it knows.

    Attributes:
        host_of: `ip:port` by the number of the pod.
        pod_of: the reverse.
    """

    def __init__(self, pods: int, chance: random.Random, clock: VirtualClock, name: str, is_shared: bool) -> None:
        config = GatewayConfiguration()
        facts = [
            PodFacts(
                uid=Uid(f"pod-{number}"),
                namespace=MODEL.namespace,
                name=f"lab-{number}",
                model=MODEL.model,
                port=_PORT,
                address=f"10.0.{number // 250}.{number % 250 + 1}",
                engine="vllm",
            )
            for number in range(pods)
        ]
        view = build_view(facts)
        self.clock = clock
        self._chance = chance
        self._metrics = MetricsTable()
        self._indexes = Indexes()
        self._loads = LoadTable()
        numbers = itertools.count()
        self.reservations = Reservations(self._loads, name, lambda: str(next(numbers)), config.reservation_renewal_s)
        self.renewal_s = config.reservation_renewal_s
        self.director = Director(
            view=lambda: view,
            profile=Profile(build_strategies(chance, self._indexes)),
            default_strategy=config.routing_strategy,
            loads=self._loads,
            reservations=self.reservations,
            chance=chance,
            clock=self.clock,
            metrics=self._metrics,
        )
        self.interval_s = config.statesync.interval_ms / 1000
        """How often it tells others what changed."""
        self.replica = Replica(
            name,
            1,
            loads=self._loads,
            indexes=self._indexes,
            sizes=self.director.sizes,
            lifetime_s=self.reservations.patience_s,
            draw_suffix=str,
        )
        self.replica.follow(view.endpoint_ids(), view.models, 0.0)
        if not is_shared:
            self.replica.own.mute()
        self._engines = [EndpointId(each.uid, each.port) for each in facts]
        self._histories: list[History | None] = [None] * pods
        self._idle_rounds = [0] * pods
        self._scrape_s = config.engine_metrics_interval_s
        self.host_of = [f"{each.address}:{each.port}" for each in facts]
        self.pod_of = {host: number for number, host in enumerate(self.host_of)}

    def first_scrape_s(self) -> float:
        """Return when an engine is asked for the first time."""
        return self._scrape_s * self._chance.random() / 4

    def scrape(self, pod: int, page: EnginePage) -> float:
        """Take in a page; return when the next one is wanted, in seconds from now."""
        engine, now_s = self._engines[pod], self.clock.now_s
        metrics, self._histories[pod] = derive(self._histories[pod], page, now_s)
        self._metrics.put(engine, metrics)
        if metrics.kv_capacity_tokens:
            self._indexes.note_capacity(engine, metrics.kv_capacity_tokens)
        is_loaded = bool(self._loads.of(engine).requests or metrics.running or metrics.waiting)
        self._idle_rounds[pod] = 0 if is_loaded else self._idle_rounds[pod] + 1
        return next_delay_s(
            shortest_s=self._scrape_s,
            idle_rounds=self._idle_rounds[pod],
            silent_rounds=0,
            engines=len(self._engines),
            cost_s=_SCRAPE_COST_S,
            draw=self._chance.random(),
        )

    def keep_house(self) -> None:
        """Do what a brain does every second."""
        for index in self._indexes.by_endpoint:
            index.collect()
        self.director.expire()
        self.replica.keep_house(self.clock.now_s)
