"""A running installation, and what may be done to it while it runs."""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pybrix
from pybrix.api.config import GatewayConfiguration
from pybrix.base.clock import Clock
from pybrix.base.errors import UsageError
from pybrix.kube.client import HttpClient
from pybrix.kube.kubeconfig import load_kubeconfig
from pybrix.local.components import cluster, controllers
from pybrix.local.control import ControlServer, SupervisorSeen
from pybrix.local.definitions import apply_definitions
from pybrix.local.gateways import Gateways
from pybrix.local.layout import Layout
from pybrix.local.reporter import Reporter
from pybrix.local.state import ProcessRecord, UpState, write_state
from pybrix.local.supervisor import Component, Supervisor
from pybrix.local.upgrade import Seen


class Installation:
    """What runs, and what may be done to it while it runs: the `Orders` of the control socket."""

    def __init__(
        self,
        layout: Layout,
        state: UpState,
        clock: Clock,
        report: Reporter,
        config: GatewayConfiguration,
        envoy_path: Path | None,
        *,
        is_detached: bool,
    ) -> None:
        self.layout = layout
        self.state = state
        self.config = config
        self.report = report
        self.supervisor = Supervisor(clock, report.event, self._record)
        self.gateways = Gateways(layout, config, self.supervisor, envoy_path, has_balancer=state.has_balancer)
        self._is_detached = is_detached
        self._instance = secrets.token_hex(8)
        self._handed_over = asyncio.Event()
        self._successor: tuple[str, ...] = ()

    def seen(self) -> SupervisorSeen:
        """Return who this is."""
        return SupervisorSeen(self._instance, pybrix.__version__, sys.executable)

    def components(self) -> list[Seen]:
        """Return what runs, in the order in which it is to be replaced: what others talk to comes first."""
        processes = self.state.processes
        return [
            Seen(
                component.name,
                processes[component.name].pid,
                is_overlapping=component.generation is not None,
                stop_grace_s=component.stop_grace_s,
            )
            for component in self._components()
            if component.name in processes
        ]

    async def replace(self, name: str) -> None:
        """Put a successor in the place of a component, and bring the definitions of its kinds along.

        Raises:
            UsageError: there is no such component, or the successor did not start.
        """
        found = {component.name: component for component in self._components()}
        if name not in found:
            raise UsageError(f"there is no {name} here", f"there are {', '.join(found)}")
        await self.supervisor.replace(found[name])
        if name == "cluster":
            async with HttpClient(load_kubeconfig(self.layout.kubeconfig)) as client:
                await apply_definitions(client)
        self.report.event(f"{name} was replaced")

    async def scale(self, count: int) -> None:
        """Have so many gateways.

        Raises:
            UsageError: that number does not do, or a part did not start.
        """
        try:
            await self.gateways.scale(count)
        finally:
            self.state.gateways = self.gateways.count
            write_state(self.layout, self.state)
        self.report.event(f"{self.gateways.count} gateways")

    async def hand_over(self, python: str) -> None:
        """Become the supervisor of another environment, in the same process and with the same processes below it.

        Raises:
            UsageError: the other environment does not run.
        """
        argv: tuple[str, ...] = (python, "-m", "pybrix", "up", "--resume", "--data-dir", str(self.layout.root))
        if self._is_detached:
            argv += ("--detached",)
        try:
            checked = await asyncio.create_subprocess_exec(
                *argv[:4], "--help", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
            )
        except OSError as err:
            raise UsageError(f"cannot run {python}: {err.strerror}") from err
        if await checked.wait():
            raise UsageError(f"{python} -m pybrix up --help does not run", "is pybrix installed there?")
        self._successor = argv
        self._handed_over.set()

    async def keep(self, stop: asyncio.Event) -> None:
        """Keep everything running and take orders, until `stop`. An order may replace this very program."""
        while True:
            server = ControlServer(self, self.layout.control_socket)
            await server.start()
            listening = asyncio.create_task(server.keep_listening())
            waits = [
                asyncio.ensure_future(each)
                for each in (self.supervisor.keep_running(), stop.wait(), self._handed_over.wait())
            ]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)
                # First the orders that are under way, then the keepers.
                await server.stop()
                for each in waits:
                    each.cancel()
                outcomes = await asyncio.gather(*waits, return_exceptions=True)
            if isinstance(outcomes[0], Exception):
                raise outcomes[0]
            if stop.is_set() or not self._handed_over.is_set():
                return
            self._handed_over.clear()
            try:
                os.execv(self._successor[0], self._successor)
            except OSError as err:
                self.report.event(f"cannot run {self._successor[0]}: {err.strerror}; everything goes on as before")

    def _components(self) -> list[Component]:
        return [cluster(self.layout, 0), *self.gateways.components(), controllers(self.layout)]

    def _record(self, processes: dict[str, ProcessRecord]) -> None:
        self.state.processes = processes
        write_state(self.layout, self.state)
