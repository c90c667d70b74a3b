"""Probes: the rules of thresholds (pure), one look at a container, and the task that looks again and again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp

from pybrix.api.core import Container, HttpGetAction, IntOrString, Probe
from pybrix.cluster.nodeagent.grpchealth import ask_health

USER_AGENT = "kube-probe/1.33"
EARLY_LOOK_S = 0.1
"""First wait between looks at a container that has not answered yet; it grows by half up to the probe's period."""
_OUTPUT_LIMIT_BYTES = 10 * 1024

Execute = Callable[[tuple[str, ...], float], Awaitable[tuple[int, str]]]
"""Run a command in the container: (argv, timeout_s) -> exit code and output; raises TimeoutError."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one look found; `detail` says why it failed."""

    is_success: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a probe holds true: `is_passing` None until a threshold is reached for the first time."""

    is_passing: bool | None = None
    successes: int = 0
    failures: int = 0
    detail: str = ""


UNKNOWN = Verdict()


def advance(verdict: Verdict, probe: Probe, outcome: Outcome, *, is_early: bool = False) -> Verdict:
    """Return the verdict after one more look.

    An early look, between two periods, counts only when it succeeds: a container is ready as soon as it is, and still
    has its whole `failureThreshold` times `periodSeconds` to get there.
    """
    if outcome.is_success:
        successes = verdict.successes + 1
        is_passing = True if successes >= probe.success_threshold else verdict.is_passing
        return Verdict(is_passing, successes, 0, "")
    if is_early:
        return Verdict(verdict.is_passing, 0, verdict.failures, outcome.detail)
    failures = verdict.failures + 1
    is_passing = False if failures >= probe.failure_threshold else verdict.is_passing
    return Verdict(is_passing, 0, failures, outcome.detail)


def resolve_port(port: IntOrString, container: Container) -> int | None:
    """Return the number of a port given by number or by name; None: the container has no port of that name."""
    if isinstance(port, int):
        return port
    named = next((p.container_port for p in container.ports if p.name == port), None)
    if named is None and port.isdigit():
        return int(port)
    return named


class Prober:
    """Looks at containers by HTTP, TCP, gRPC or a command. One for the whole agent."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def look(self, probe: Probe, container: Container, pod_ip: str, execute: Execute) -> Outcome:
        """Return what one look finds; never raises for what the container does."""
        try:
            if probe.http_get is not None:
                return await self.http(probe.http_get, container, pod_ip, float(probe.timeout_seconds))
            if probe.tcp_socket is not None:
                host, port = probe.tcp_socket.host or pod_ip, resolve_port(probe.tcp_socket.port, container)
                return await _look_tcp(host, port, float(probe.timeout_seconds))
            if probe.grpc is not None:
                timeout_s = float(probe.timeout_seconds)
                wrong = await ask_health(pod_ip, probe.grpc.port, probe.grpc.service, timeout_s, USER_AGENT)
                return Outcome(not wrong, wrong)
            if probe.exec is not None:
                code, output = await execute(tuple(probe.exec.command), float(probe.timeout_seconds))
                return Outcome(code == 0, "" if code == 0 else output.strip()[-1000:] or f"exit code {code}")
        except TimeoutError:
            return Outcome(False, f"no answer within {probe.timeout_seconds}s")
        return Outcome(False, "the probe has no action")

    async def http(self, action: HttpGetAction, container: Container, pod_ip: str, timeout_s: float) -> Outcome:
        """Return whether a GET is answered with 200 to 399. Raises TimeoutError."""
        port = resolve_port(action.port, container)
        if port is None:
            return Outcome(False, f"couldn't find port: {action.port} in {container.name}")
        path = action.path if action.path.startswith("/") else f"/{action.path}"
        url = f"{action.scheme.lower()}://{action.host or pod_ip}:{port}{path}"
        headers = {"User-Agent": USER_AGENT, "Accept": "*/*"} | {h.name: h.value for h in action.http_headers}
        try:
            # As the kubelet: certificates are not verified, and a redirect is an answer.
            async with self._session.get(
                url, headers=headers, ssl=False, allow_redirects=False, timeout=aiohttp.ClientTimeout(total=timeout_s)
            ) as response:
                if 200 <= response.status < 400:
                    return Outcome(True)
                return Outcome(False, f"HTTP probe failed with statuscode: {response.status}")
        except (aiohttp.ClientError, ValueError, OSError) as error:
            if isinstance(error, TimeoutError):
                raise
            return Outcome(False, f'Get "{url}": {error}')


async def _look_tcp(host: str, port: int | None, timeout_s: float) -> Outcome:
    if port is None:
        return Outcome(False, "the container has no port of that name")
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        if isinstance(error, TimeoutError):
            raise
        return Outcome(False, f"dial tcp {host}:{port}: {error}")
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return Outcome(True)


async def repeat(
    probe: Probe,
    look: Callable[[], Awaitable[Outcome]],
    report: Callable[[Verdict, Outcome], None],
    *,
    verdict: Verdict = UNKNOWN,
    is_early_allowed: bool,
    running_s: float = 0.0,
    is_ended_by_success: bool = False,
) -> None:
    """Look at the probe's pace and report every counted look, until cancelled.

    Args:
        verdict: what is known already, of an adopted run.
        is_early_allowed: whether looks between periods are made until the probe passes for the first time; not for
            commands, which cost a process each.
        running_s: for how long the container has been running, taken off `initialDelaySeconds`.
        is_ended_by_success: a startup probe looks no further once it passed.
    """
    await asyncio.sleep(max(0.0, probe.initial_delay_seconds - running_s))
    period_s = float(max(1, probe.period_seconds))
    loop = asyncio.get_running_loop()
    # The first look counts, as the kubelet's does, where there is a whole period until the next.
    next_counted = loop.time()
    early_s = EARLY_LOOK_S
    while True:
        is_early = is_early_allowed and loop.time() < next_counted
        outcome = await look()
        before = verdict
        verdict = advance(verdict, probe, outcome, is_early=is_early)
        if not is_early or outcome.is_success:
            next_counted = max(next_counted, loop.time()) + period_s if not is_early else loop.time() + period_s
        if not is_early or verdict.is_passing != before.is_passing:
            report(verdict, outcome)
        if verdict.is_passing and is_ended_by_success:
            return
        wait_s = next_counted - loop.time()
        if is_early_allowed and verdict.is_passing is not True and verdict.successes == 0:
            wait_s = min(wait_s, early_s)
            early_s = min(early_s * 1.5, period_s)
        await asyncio.sleep(max(0.0, wait_s))


async def execute(argv: tuple[str, ...], *, env: dict[str, str], cwd: str, timeout_s: float) -> tuple[int, str]:
    """Run a command to its end and return its exit code and the beginning of its output.

    Raises:
        TimeoutError: it took longer; it and what it started in its group is killed.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            env=env,
            cwd=cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        return 127, f"exec: {argv[0] if argv else ''}: {error}"
    try:
        async with asyncio.timeout(timeout_s):
            output = await _read_bounded(process)
            return await process.wait(), output
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def _read_bounded(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    kept = b""
    while chunk := await process.stdout.read(65536):
        kept = (kept + chunk)[:_OUTPUT_LIMIT_BYTES]
    return kept.decode(errors="replace")
