"""The driver against engines that are well, and against engines that fail in every way that they can."""

import pytest

from pybrix.bench.driver import Driver
from pybrix.bench.report import Cause, Tally, document, summary
from pybrix.bench.traffic import Kind, Mix
from pybrix.bench.verification import expected_of_simulator
from pybrix.simulator.failures import parse_failures
from pybrix.simulator.options import SimulatorOptions
from tests.support.installation import PYBRIX, eventually, run
from tests.support.simulated import simulated

EVERY_KIND = dict.fromkeys(Kind, 1)


def options(*failures: str, seed: int = 0) -> SimulatorOptions:
    return SimulatorOptions(served_model_names=("m",), seed=seed, failures=parse_failures(failures))


def driver(url: str, weights: dict[Kind, int] | None = None) -> Driver:
    mix = Mix("m", weights or EVERY_KIND, short_tokens=4, long_tokens=40)
    return Driver(url, mix, rate_per_s=200, expect=expected_of_simulator, silence_limit_s=2.0)


async def send(it: Driver, count: int) -> None:
    async with it.running() as tally:
        await eventually(lambda: _has_sent(tally, count), f"{count} requests sent", interval_s=0.005)


async def _has_sent(tally: Tally, count: int) -> bool:
    return tally.sent >= count


async def test_right_answers_of_every_kind() -> None:
    async with simulated(options()) as engine:
        it = driver(engine.url)
        await send(it, 60)
    assert it.tally.failures == []
    assert it.tally.succeeded == it.tally.sent
    assert set(it.tally.kinds) == set(Kind)
    told = document(it.tally)
    assert told["failed"] == 0
    assert told["kinds"]["stream"]["wholeS"]["p50"] > 0


@pytest.mark.parametrize(
    ("failure", "weights", "cause"),
    [
        ("error-503=1", {Kind.SHORT: 1}, Cause.REFUSED),
        ("reset-before-headers=1", {Kind.SHORT: 1}, Cause.CONNECTION),
        ("cut-stream=1", {Kind.LONG_STREAM: 1}, Cause.CUT),
        ("hang=1", {Kind.STREAM: 1}, Cause.SILENT),
    ],
)
async def test_each_failure_is_named(failure: str, weights: dict[Kind, int], cause: Cause) -> None:
    async with simulated(options(failure)) as engine:
        it = driver(engine.url, weights)
        await send(it, 3)
    assert [each.cause for each in it.tally.failures] == [cause] * it.tally.sent
    assert f"{it.tally.sent} failed" in summary(it.tally)


async def test_a_wrong_answer_is_a_failure() -> None:
    async with simulated(options(seed=1)) as engine:
        it = driver(engine.url, {Kind.SHORT: 1, Kind.STREAM: 1})
        await send(it, 4)
    assert {each.cause for each in it.tally.failures} == {Cause.WRONG}


async def test_nobody_listens() -> None:
    it = driver("http://127.0.0.1:1", {Kind.SHORT: 1})
    await send(it, 2)
    assert {each.cause for each in it.tally.failures} == {Cause.CONNECTION}


async def test_the_command_says_how_it_went_and_fails_when_a_request_failed() -> None:
    arguments = ["--model", "m", "--rate", "50", "--duration", "0.5", "--expect", "simulator", "-o", "json"]
    async with simulated(options()) as engine:
        well = await run(*PYBRIX, "bench", "drive", "--url", engine.url, *arguments)
    assert '"failed": 0' in well.checked()
    async with simulated(options("error-500=1")) as engine:
        badly = await run(*PYBRIX, "bench", "drive", "--url", engine.url, *arguments)
    assert badly.returncode == 1
    assert "This failure was asked for" in badly.stdout
