"""What the workers of one agent share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pybrix.api.core import ConfigMap, Secret
from pybrix.base.clock import Clock
from pybrix.cluster.nodeagent.addresses import AddressPool
from pybrix.cluster.nodeagent.events import EventQueue
from pybrix.cluster.nodeagent.hosts import HostsFiles
from pybrix.cluster.nodeagent.logtimes import LogClock
from pybrix.cluster.nodeagent.preparation import Machine
from pybrix.cluster.nodeagent.probes import Prober
from pybrix.cluster.nodeagent.runner import Runner
from pybrix.cluster.nodeagent.tokens import TokenSource
from pybrix.kube.interface import Client


@dataclass(slots=True)
class Surroundings:
    """What the workers of one agent share."""

    client: Client
    clock: Clock
    runner: Runner
    addresses: AddressPool
    machine: Machine
    prober: Prober
    events: EventQueue
    configmaps: Callable[[str], Mapping[str, ConfigMap]]
    """ConfigMaps of a namespace by name."""
    secrets: Callable[[str], Mapping[str, Secret]]
    """Secrets of a namespace by name."""
    claims: Callable[[str], Mapping[str, Path]] = lambda _namespace: {}
    """Directories of the bound claims of a namespace by the claims' names."""
    hosts: HostsFiles | None = None
    """The pods' hosts files; None: pods have the machine's."""
    tokens: TokenSource | None = None
    """Gives out tokens of service accounts; None: pods that want one wait for it."""
    log_clock: LogClock = field(default_factory=LogClock)
    """Notes when logs grow."""
    node_stop_grace_s: float | None = None
    """Set when the node stops; None: it does not."""
