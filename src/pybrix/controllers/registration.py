"""What a controller says about itself: its name, its kinds, what it may do, and how it is built.

    MODELADAPTER = Registration(
        "modeladapter",
        kinds=(ModelAdapter,),
        watches="ModelAdapters, the pods they select, their Services and slices",
        permissions=(Permission("model.aibrix.ai", ("modeladapters",), READ), ...),
        build=lambda setup: [ModelAdapterReconciler(setup).controller()],
    )

One line in `controllers.registry` makes it part of the process, of `pybrix controllers list` and of the RBAC that
`pybrix install` writes; and it takes its kinds away from the controller of kinds that have none.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import aiohttp

from pybrix.api.config import ControllersConfiguration
from pybrix.api.markers import CustomResource
from pybrix.base.clock import Clock
from pybrix.kube.permissions import Permission
from pybrix.runtime.controller import Controller
from pybrix.runtime.manager import Manager


@dataclass(frozen=True, slots=True)
class Setup:
    """What controllers are built from.

    Background work (health checks, scrapes) goes to `manager.add_loop`: it runs while this process leads.
    """

    manager: Manager
    config: ControllersConfiguration
    clock: Clock
    chance: random.Random
    http: aiohttp.ClientSession
    """For requests to pods. It has no total timeout: each call says its own."""

    def concurrency(self, name: str) -> int:
        """Return how many keys the controller of that name works on at the same time."""
        return self.config.concurrency.get(name, self.config.default_concurrency)


@dataclass(frozen=True, slots=True)
class Registration:
    """A controller, or a few that belong together, under the name that `--controllers` knows."""

    name: str
    kinds: tuple[type[CustomResource], ...]
    """Kinds whose status it writes. No two registrations have one in common."""
    watches: str
    """What it watches, for people."""
    permissions: tuple[Permission, ...]
    """All that it does at the API server, beyond Events, which every controller may record."""
    build: Callable[[Setup], Sequence[Controller]]
