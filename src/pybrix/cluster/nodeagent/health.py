"""Hooks and probes of one run: what they find, and the tasks that find it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from pybrix.api.core import Container, ContainerStatus, LifecycleHandler, Probe
from pybrix.cluster.nodeagent.probes import UNKNOWN, Execute, Outcome, Prober, Verdict, repeat
from pybrix.cluster.nodeagent.seen import Health

POST_START_LIMIT_S = 3600.0

Emit = Callable[[str, str], None]
"""Record a Warning Event: (reason, message)."""


@dataclass(frozen=True, slots=True)
class HealthContext:
    """What following the health of a run takes."""

    container: Container
    pod_ip: str
    prober: Prober
    execute: Execute
    emit: Emit
    changed: Callable[[], None]
    """Called when the health differs from before."""


async def run_handler(handler: LifecycleHandler, context: HealthContext, timeout_s: float) -> Outcome:
    """Run a lifecycle hook: a command, a GET, or a sleep."""
    try:
        if handler.sleep is not None:
            await asyncio.sleep(min(float(handler.sleep.seconds), timeout_s))
            return Outcome(True)
        if handler.exec is not None:
            code, output = await context.execute(tuple(handler.exec.command), timeout_s)
            return Outcome(code == 0, "" if code == 0 else f"exit code {code}: {output.strip()[-500:]}")
        if handler.http_get is not None:
            return await context.prober.http(handler.http_get, context.container, context.pod_ip, timeout_s)
    except TimeoutError:
        return Outcome(False, f"not done after {timeout_s:.0f}s")
    return Outcome(False, "the hook has no action that this node knows")


class RunHealth:
    """The health of one run of a container; `follow` keeps it up to date."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._startup = UNKNOWN
        self._readiness = UNKNOWN
        self._is_post_start_over = container.lifecycle is None or container.lifecycle.post_start is None
        self._failure = ""
        self._kill_grace_s: int | None = None

    @classmethod
    def resumed(cls, container: Container, status: ContainerStatus | None) -> RunHealth:
        """Return the health of a run that an earlier agent started.

        What that agent last reported of the same run is believed: a change of agents is no reason to leave endpoints.
        """
        health = cls(container)
        health._is_post_start_over = True
        if status is not None and status.started:
            health._startup = Verdict(True, 1)
        if status is not None and status.ready:
            health._readiness = Verdict(True, 1)
        return health

    @property
    def health(self) -> Health:
        is_started = self._is_post_start_over and (
            self._container.startup_probe is None or self._startup.is_passing is True
        )
        is_ready = is_started and (self._container.readiness_probe is None or self._readiness.is_passing is True)
        return Health(is_started, is_ready, self._failure, self._kill_grace_s)

    async def follow(self, context: HealthContext, *, running_s: float) -> None:
        """Run the postStart hook, then the startup probe, then readiness and liveness beside each other."""
        container = self._container
        if not self._is_post_start_over and not await self._post_start(context):
            return
        if container.startup_probe is not None and self._startup.is_passing is not True:
            await self._repeat(container.startup_probe, "startup", context, running_s, self._on_startup)
        async with asyncio.TaskGroup() as group:
            if container.readiness_probe is not None:
                probe = container.readiness_probe
                group.create_task(self._repeat(probe, "readiness", context, running_s, self._on_readiness))
            if container.liveness_probe is not None:
                probe = container.liveness_probe
                group.create_task(self._repeat(probe, "liveness", context, running_s, self._on_liveness))

    async def _post_start(self, context: HealthContext) -> bool:
        assert self._container.lifecycle is not None
        assert self._container.lifecycle.post_start is not None
        outcome = await run_handler(self._container.lifecycle.post_start, context, POST_START_LIMIT_S)
        self._is_post_start_over = True
        if not outcome.is_success:
            context.emit("FailedPostStartHook", f"PostStartHook failed: {outcome.detail}")
            self._failure = "failed its postStart hook"
        context.changed()
        return outcome.is_success

    def _on_startup(self, verdict: Verdict, probe: Probe) -> None:
        self._startup = verdict
        self._replace_if_failing(verdict, probe, "failed startup probe")

    def _on_readiness(self, verdict: Verdict, probe: Probe) -> None:
        self._readiness = verdict

    def _on_liveness(self, verdict: Verdict, probe: Probe) -> None:
        self._replace_if_failing(verdict, probe, "failed liveness probe")

    def _replace_if_failing(self, verdict: Verdict, probe: Probe, why: str) -> None:
        if verdict.is_passing is False and not self._failure:
            self._failure = why
            self._kill_grace_s = probe.termination_grace_period_seconds

    def _repeat(
        self,
        probe: Probe,
        kind: str,
        context: HealthContext,
        running_s: float,
        settle: Callable[[Verdict, Probe], None],
    ) -> Coroutine[Any, Any, None]:
        async def look() -> Outcome:
            return await context.prober.look(probe, context.container, context.pod_ip, context.execute)

        has_passed = kind == "readiness" and self._readiness.is_passing is True

        def report(verdict: Verdict, outcome: Outcome) -> None:
            nonlocal has_passed
            has_passed = has_passed or verdict.is_passing is True
            # The very first look finds a program that has not begun to listen: nothing to tell anybody, unless the
            # container is replaced for it.
            is_fatal = kind != "readiness" and verdict.is_passing is False
            if not outcome.is_success and (has_passed or verdict.failures > 1 or is_fatal):
                context.emit("Unhealthy", f"{kind.capitalize()} probe failed: {outcome.detail}")
            before = self.health
            settle(verdict, probe)
            if self.health != before:
                context.changed()

        return repeat(
            probe,
            look,
            report,
            verdict=self._readiness if kind == "readiness" else UNKNOWN,
            # A command costs a process, and liveness begins with success: neither is looked at between periods.
            is_early_allowed=probe.exec is None and kind != "liveness",
            running_s=running_s,
            is_ended_by_success=kind == "startup",
        )
