"""Keep the forwarder's table in line with Services and their endpoints: the shell around `plan`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from pybrix.api.core import EndpointSlice, Service
from pybrix.api.identity import ObjectKey, Uid
from pybrix.api.meta import Object
from pybrix.cluster.serviceproxy.plan import Planned, Unserved, plan
from pybrix.cluster.serviceproxy.process import ForwarderGone, ForwarderProcess
from pybrix.cluster.serviceproxy.table import Address
from pybrix.runtime.actions import Emit
from pybrix.runtime.controller import Controller, Result, Watches
from pybrix.runtime.errors import Retry
from pybrix.runtime.manager import Manager

TABLE = ObjectKey("", "table")
"""The one key: a change sends the whole table."""
FAILED_RETRY_S = 5.0
"""When to try again to listen on what could not be listened on."""
PAUSE_S = 0.05
"""Shortest time from one table to the next."""
_PRIVILEGED_PORTS = range(1, 1024)


class ServiceProxyReconciler:
    """Send the table whenever it changes, and tell of each port that is not served, once."""

    def __init__(self, manager: Manager, forwarder: ForwarderProcess) -> None:
        self._applier = manager.applier
        self._forwarder = forwarder
        self._services = manager.informer(Service)
        self._slices = manager.informer(EndpointSlice)
        self._told: set[tuple[Uid, str]] = set()

    def controller(self) -> Controller:
        controller = Controller(
            "serviceproxy",
            self.reconcile,
            sources=[Watches(self._services, _table), Watches(self._slices, _table)],
        )
        self._forwarder.started = lambda: controller.enqueue(TABLE)
        return controller

    async def reconcile(self, key: ObjectKey) -> Result:
        planned = plan(self._services.list(), self._slices.list())
        try:
            failures = await self._forwarder.apply(planned.routes)
        except ForwarderGone as error:
            raise Retry(FAILED_RETRY_S, str(error)) from error
        await self._tell([*planned.unserved, *_explain(planned, failures)])
        # While many endpoints change, they are gathered: each pass takes in all of them.
        await asyncio.sleep(PAUSE_S)
        return Result(FAILED_RETRY_S if failures else None)

    async def _tell(self, unserved: Iterable[Unserved]) -> None:
        present = {(it.service.uid, it.why): it for it in unserved}
        for identity in present.keys() - self._told:
            it = present[identity]
            await self._applier.apply([Emit(it.service, "PortNotServed", it.why, type="Warning")])
        self._told = set(present)


def _explain(planned: Planned, failures: dict[Address, str]) -> Iterable[Unserved]:
    for address, why in failures.items():
        remedy = ""
        if address.port in _PRIVILEGED_PORTS and why == "Permission denied":
            remedy = "; ports below 1024 need root, or `sysctl net.ipv4.ip_unprivileged_port_start=0`"
        yield Unserved(planned.owners[address], f"{address} cannot be listened on: {why}{remedy}")


def _table(_obj: Object) -> Iterable[ObjectKey]:
    return (TABLE,)
