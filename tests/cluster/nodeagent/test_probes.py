"""Probes: thresholds, pace, and looks at real listeners."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
import grpc
import msgspec
import pytest
from aiohttp import web
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from pybrix.api.core import Container, Probe
from pybrix.cluster.nodeagent.probes import UNKNOWN, Outcome, Prober, Verdict, advance, execute, repeat, resolve_port

OK, BAD = Outcome(True), Outcome(False, "no")
CONTAINER = msgspec.convert({"name": "c", "ports": [{"containerPort": 8000, "name": "http"}]}, Container)
IP = "127.200.9.10"


def make_probe(**fields: Any) -> Probe:
    """Return a probe that waits long for answers, unless it is said how long."""
    return msgspec.convert({"timeoutSeconds": 60} | fields, Probe)


def verdict_after(probe: Probe, *outcomes: Outcome) -> bool | None:
    verdict = UNKNOWN
    for outcome in outcomes:
        verdict = advance(verdict, probe, outcome)
    return verdict.is_passing


@pytest.mark.parametrize(
    ("outcomes", "want"),
    [
        ([OK], None),
        ([OK, OK], True),
        ([OK, BAD, OK], None),
        ([BAD, BAD], None),
        ([BAD, BAD, BAD], False),
        ([OK, OK, BAD, BAD], True),
        ([OK, OK, BAD, BAD, BAD], False),
        ([BAD, BAD, BAD, OK], False),
        ([BAD, BAD, BAD, OK, OK], True),
    ],
)
def test_thresholds(outcomes: list[Outcome], want: bool | None) -> None:
    assert verdict_after(make_probe(successThreshold=2, failureThreshold=3), *outcomes) is want


def test_an_early_look_counts_only_when_it_succeeds() -> None:
    probe = make_probe(failureThreshold=1)
    assert advance(UNKNOWN, probe, BAD, is_early=True).is_passing is None
    assert advance(UNKNOWN, probe, OK, is_early=True).is_passing is True


def test_ports_by_number_and_name() -> None:
    assert [resolve_port(p, CONTAINER) for p in (80, "http", "81", "none")] == [80, 8000, 81, None]


class Program:
    """Something that passes its probe from a moment on; remembers when it was looked at."""

    def __init__(self, passes_at_s: float = 0.0) -> None:
        self.start_s = asyncio.get_running_loop().time()
        self.passes_at_s = passes_at_s
        self.looks_s: list[float] = []
        self.reports: list[tuple[float, bool | None]] = []

    @property
    def now_s(self) -> float:
        return round(asyncio.get_running_loop().time() - self.start_s, 3)

    async def look(self) -> Outcome:
        self.looks_s.append(self.now_s)
        return Outcome(self.now_s >= self.passes_at_s, "not yet")

    def report(self, verdict: Verdict, outcome: Outcome) -> None:
        self.reports.append((self.now_s, verdict.is_passing))


async def follow(program: Program, probe: Probe, for_s: float, **options: Any) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(for_s):
            await repeat(probe, program.look, program.report, **({"is_early_allowed": True} | options))


@pytest.mark.looptime
class TestPace:
    async def test_a_program_is_ready_soon_after_it_answers_not_a_period_later(self) -> None:
        program = Program(passes_at_s=0.3)
        await follow(program, make_probe(periodSeconds=10), 25)
        first_pass_s = next(at for at, passing in program.reports if passing)
        assert first_pass_s < 0.6
        # From then on once a period.
        assert len([at for at in program.looks_s if at > first_pass_s]) == 2

    async def test_failures_count_once_a_period(self) -> None:
        program = Program(passes_at_s=1e9)
        await follow(program, make_probe(periodSeconds=10, failureThreshold=3), 25)
        assert program.reports == [(0.0, None), (10.0, None), (20.0, False)]

    async def test_without_early_looks_it_is_the_kubelets_pace(self) -> None:
        program = Program(passes_at_s=1e9)
        await follow(program, make_probe(periodSeconds=5), 12, is_early_allowed=False)
        assert program.looks_s == [0.0, 5.0, 10.0]

    async def test_the_initial_delay_counts_from_the_start_of_the_container(self) -> None:
        program = Program()
        await follow(program, make_probe(periodSeconds=5, initialDelaySeconds=8), 6, running_s=5)
        assert program.looks_s == [3.0]

    async def test_a_startup_probe_ends_with_its_success(self) -> None:
        program = Program(passes_at_s=4)
        await repeat(
            make_probe(periodSeconds=1), program.look, program.report, is_early_allowed=True, is_ended_by_success=True
        )
        assert program.reports[-1][1] is True

    async def test_success_threshold_takes_periods(self) -> None:
        program = Program()
        await follow(program, make_probe(periodSeconds=10, successThreshold=3), 25)
        assert program.reports == [(0.0, None), (10.0, None), (20.0, True)]


@pytest.fixture
async def prober() -> AsyncIterator[Prober]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        yield Prober(session)


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A server on the pod's address: `/200`, `/404` and so on, `/slow`, `/header`."""

    async def handle(request: web.Request) -> web.Response:
        if request.path == "/slow":
            await asyncio.sleep(60)
        if request.path == "/header":
            return web.Response(status=200 if request.headers.get("X-Probe") == "yes" else 500)
        return web.Response(status=int(request.path[1:]), headers={"Location": "/404"})

    app = web.Application()
    app.router.add_get("/{any}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, IP, 21210)
    await site.start()
    yield 21210
    await runner.cleanup()


async def no_command(argv: tuple[str, ...], timeout_s: float) -> tuple[int, str]:
    raise AssertionError("no command is run here")


@pytest.mark.parametrize(
    ("path", "is_success"), [("/200", True), ("/204", True), ("/302", True), ("/404", False), ("/503", False)]
)
async def test_http(prober: Prober, port: int, path: str, is_success: bool) -> None:
    probe = make_probe(httpGet={"port": port, "path": path})
    got = await prober.look(probe, CONTAINER, IP, no_command)
    assert got.is_success is is_success
    assert is_success or got.detail == f"HTTP probe failed with statuscode: {path[1:]}"


async def test_http_headers_are_sent(prober: Prober, port: int) -> None:
    headers = [{"name": "X-Probe", "value": "yes"}]
    probe = make_probe(httpGet={"port": port, "path": "/header", "httpHeaders": headers})
    assert (await prober.look(probe, CONTAINER, IP, no_command)).is_success


async def test_http_without_an_answer_in_time(prober: Prober, port: int) -> None:
    # One second is the shortest timeout that Kubernetes has.
    probe = make_probe(httpGet={"port": port, "path": "/slow"}, timeoutSeconds=1)
    assert await prober.look(probe, CONTAINER, IP, no_command) == Outcome(False, "no answer within 1s")


@pytest.mark.parametrize(
    "probe",
    [
        make_probe(httpGet={"port": 21211}),
        make_probe(tcpSocket={"port": 21211}),
        make_probe(grpc={"port": 21211}),
        make_probe(httpGet={"port": "none"}),
        make_probe(tcpSocket={"port": "none"}),
        make_probe(),
    ],
)
async def test_nobody_there(prober: Prober, probe: Probe) -> None:
    got = await prober.look(probe, CONTAINER, IP, no_command)
    assert not got.is_success
    assert got.detail


async def test_tcp(prober: Prober, port: int) -> None:
    assert (await prober.look(make_probe(tcpSocket={"port": port}), CONTAINER, IP, no_command)).is_success


@pytest.fixture
def grpc_port() -> Iterator[int]:
    """A real gRPC server on the pod's address: as a whole and `fine` it serves, `busy` it does not."""
    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    states = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(states, server)
    states.set("fine", health_pb2.HealthCheckResponse.SERVING)
    states.set("busy", health_pb2.HealthCheckResponse.NOT_SERVING)
    yield serve_grpc(server)
    server.stop(None).wait()


def serve_grpc(server: Any) -> int:
    port: int = server.add_insecure_port(f"{IP}:0")
    server.start()
    return port


@pytest.mark.parametrize(
    ("service", "want"),
    [
        (None, ""),
        ("", ""),
        ("fine", ""),
        ("busy", 'service unhealthy (responded with "NOT_SERVING")'),
        ("none-of-this-name-" + "x" * 200, "error: health rpc probe failed: status 5: "),
    ],
)
async def test_grpc(prober: Prober, grpc_port: int, service: str | None, want: str) -> None:
    asked = {"port": grpc_port} | ({"service": service} if service is not None else {})
    assert await prober.look(make_probe(grpc=asked), CONTAINER, IP, no_command) == Outcome(not want, want)


async def test_grpc_without_the_health_protocol(prober: Prober) -> None:
    server = grpc.server(ThreadPoolExecutor(max_workers=1))
    try:
        got = await prober.look(make_probe(grpc={"port": serve_grpc(server)}), CONTAINER, IP, no_command)
    finally:
        server.stop(None).wait()
    assert "this server does not implement the grpc health protocol (grpc.health.v1.Health)" in got.detail


async def test_grpc_without_an_answer_in_time(prober: Prober) -> None:
    class Slow(health.HealthServicer):  # type: ignore[misc]
        def Check(self, request: Any, context: Any) -> Any:
            context.add_callback(ended.set)
            ended.wait()

    ended = threading.Event()
    server = grpc.server(ThreadPoolExecutor(max_workers=1))
    health_pb2_grpc.add_HealthServicer_to_server(Slow(), server)
    probe = make_probe(grpc={"port": serve_grpc(server)}, timeoutSeconds=1)
    try:
        assert await prober.look(probe, CONTAINER, IP, no_command) == Outcome(False, "no answer within 1s")
    finally:
        server.stop(None).wait()


async def test_grpc_where_something_else_answers(prober: Prober, port: int) -> None:
    got = await prober.look(make_probe(grpc={"port": port}), CONTAINER, IP, no_command)
    assert got.detail.startswith("error: health rpc probe failed: ")


@pytest.mark.parametrize(("script", "want"), [("exit 0", Outcome(True)), ("echo why; exit 2", Outcome(False, "why"))])
async def test_commands(prober: Prober, script: str, want: Outcome) -> None:
    async def run(argv: tuple[str, ...], timeout_s: float) -> tuple[int, str]:
        return await execute(argv, env={"PATH": "/usr/bin:/bin"}, cwd="/", timeout_s=timeout_s)

    probe = make_probe(exec={"command": ["sh", "-c", script]})
    assert await prober.look(probe, CONTAINER, IP, run) == want


async def test_a_command_that_takes_too_long_is_killed_with_its_children() -> None:
    with pytest.raises(TimeoutError):
        await execute(("sh", "-c", "sleep 50 & sleep 50"), env={"PATH": "/usr/bin:/bin"}, cwd="/", timeout_s=0.1)


async def test_a_command_that_does_not_exist() -> None:
    code, output = await execute(("/nonexistent",), env={}, cwd="/", timeout_s=60)
    assert code == 127
    assert "/nonexistent" in output


async def test_endless_output_is_cut() -> None:
    code, output = await execute(
        ("sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x"), env={"PATH": "/usr/bin:/bin"}, cwd="/", timeout_s=60
    )
    assert (code, len(output)) == (0, 10 * 1024)
