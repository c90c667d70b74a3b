"""The strategies there are, by the name that the header `routing-strategy` and the configuration use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pybrix.gateway.framework.plugins import Chance, EndpointIndex, Strategy
from pybrix.gateway.framework.types import EndpointId
from pybrix.gateway.indexes.backlog import PrefillBacklogs
from pybrix.gateway.indexes.blocks import BLOCK_BYTES
from pybrix.gateway.indexes.forecast import Forecaster
from pybrix.gateway.indexes.prefix import PrefixIndex
from pybrix.gateway.indexes.tokenhistory import TokenHistory
from pybrix.gateway.indexes.usertokens import UserTokens
from pybrix.gateway.strategies.least_busy_time import LeastBusyTime
from pybrix.gateway.strategies.least_gpu_cache import LeastGpuCache
from pybrix.gateway.strategies.least_kv_cache import LeastKvCache
from pybrix.gateway.strategies.least_latency import LeastLatency
from pybrix.gateway.strategies.least_request import LeastRequest
from pybrix.gateway.strategies.least_utilization import LeastUtilization
from pybrix.gateway.strategies.lora_affinity import LoraAffinity
from pybrix.gateway.strategies.power_of_two import PowerOfTwo
from pybrix.gateway.strategies.prefix_affinity import PrefixAffinity
from pybrix.gateway.strategies.prefix_cache import PrefixCache
from pybrix.gateway.strategies.prefix_cache_preble import PrefixCachePreble
from pybrix.gateway.strategies.random import Random
from pybrix.gateway.strategies.session_affinity import SessionAffinity
from pybrix.gateway.strategies.slo import Slo
from pybrix.gateway.strategies.slo_least_load import SloLeastLoad
from pybrix.gateway.strategies.slo_least_load_pulling import SloLeastLoadPulling
from pybrix.gateway.strategies.slo_pack_load import SloPackLoad
from pybrix.gateway.strategies.throughput import Throughput
from pybrix.gateway.strategies.vtc_basic import VtcBasic

BYTES_PER_TOKEN = 4.0
"""Of prompts, where their blocks are compared with an engine's cache in tokens."""


@dataclass(frozen=True, slots=True)
class Indexes:
    """What strategies share of one brain; a strategy takes what it needs as an argument."""

    prefix: PrefixIndex = field(default_factory=PrefixIndex)
    backlogs: PrefillBacklogs = field(default_factory=PrefillBacklogs)
    history: TokenHistory = field(default_factory=TokenHistory)
    users: UserTokens = field(default_factory=UserTokens)
    forecaster: Forecaster = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "forecaster", Forecaster(self.prefix, self.backlogs))

    @property
    def by_endpoint(self) -> tuple[EndpointIndex, ...]:
        """Those with entries by endpoint, which the brain keeps in step with the view."""
        return (self.prefix, self.backlogs, self.history, self.forecaster)

    def note_capacity(self, engine: EndpointId, kv_capacity_tokens: int) -> None:
        """Take in how many tokens an engine's KV cache holds."""
        self.prefix.size(engine, max(1, int(kv_capacity_tokens * BYTES_PER_TOKEN / BLOCK_BYTES)))


def build_strategies(chance: Chance, indexes: Indexes | None = None) -> Mapping[str, Strategy]:
    """Return a new instance of every strategy by its name.

    Args:
        chance: for strategies that draw.
        indexes: what they share; None: indexes of their own.
    """
    shared = indexes or Indexes()
    found: tuple[Strategy, ...] = (
        Random(),
        LeastRequest(),
        LeastBusyTime(),
        LeastLatency(),
        LeastKvCache(),
        LeastGpuCache(),
        LeastUtilization(),
        Throughput(),
        PowerOfTwo(chance),
        PrefixCache(shared.prefix),
        PrefixAffinity(shared.prefix, shared.backlogs),
        PrefixCachePreble(shared.prefix, shared.history),
        VtcBasic(shared.users),
        Slo(shared.forecaster),
        SloPackLoad(shared.forecaster),
        SloLeastLoad(shared.forecaster),
        SloLeastLoadPulling(shared.forecaster),
        SessionAffinity(),
        LoraAffinity(),
    )
    return {strategy.name: strategy for strategy in found}


def strategy_names() -> tuple[str, ...]:
    """Return the names of all strategies, sorted."""
    return tuple(sorted(build_strategies(_NoChance())))


class _NoChance:
    """For strategies that are built to be named only."""

    def random(self) -> float:
        return 0.0
