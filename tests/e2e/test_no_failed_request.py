"""What a client sees while parts die, restart, scale and roll: nothing. Real processes, steady load, every answer read.

The rows are those of docs/concepts/failures.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from functools import partial
from time import monotonic
from typing import Any

import aiohttp
import msgspec
import pytest

from pybrix.bench.driver import Driver
from pybrix.bench.report import Tally
from pybrix.envoy.wire import FALLBACK_STRATEGY
from tests.support.gateway import DEFAULT_STRATEGY
from tests.support.installation import PYBRIX, Installation, eventually, run
from tests.support.traffic import steady_traffic

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

MODEL = "simulated"
DEPLOYMENT = "deployment/simulated"


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    it = Installation(tmp_path_factory.mktemp("up"))
    started = it.up("--simulate", "3")
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        yield it
    finally:
        stopped = it.down()
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr


def traffic(installation: Installation, strategy: str = "") -> Driver:
    return steady_traffic(installation.gateway_url, MODEL, strategy=strategy)


def assert_nothing_failed(tally: Tally, *, at_least: int) -> None:
    assert tally.failed == []
    assert tally.cut_streams == []
    assert tally.succeeded >= at_least


async def flows(tally: Tally, more: int) -> None:
    """Wait until so many more answers have come."""
    goal = tally.succeeded + more

    async def enough() -> bool:
        return tally.succeeded >= goal

    await eventually(enough, f"{more} more answers", timeout_s=60)


async def test_brain_killed_and_started_again(installation: Installation) -> None:
    before = installation.pid("brain")
    async with traffic(installation).running() as tally:
        await flows(tally, 60)
        installation.process("brain").kill()

        async def is_back() -> bool:
            return installation.pid("brain") != before and (
                (await installation.ask())[2].get("routing-strategy") == DEFAULT_STRATEGY
            )

        await eventually(is_back, "a new brain decides")
        await flows(tally, 60)
    assert_nothing_failed(tally, at_least=120)
    assert tally.strategies[FALLBACK_STRATEGY] > 0, "the gap was not covered by Envoy itself"


async def test_brain_stopped_for_five_seconds(installation: Installation) -> None:
    brain = installation.process("brain")
    async with traffic(installation).running() as tally:
        await flows(tally, 60)
        brain.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(5)  # the length of the outage is the test's subject
        finally:
            brain.send_signal(signal.SIGCONT)
        # On a slow machine much of what was asked meanwhile is answered only now.
        await flows(tally, max(60, 360 - tally.succeeded))
    assert_nothing_failed(tally, at_least=360)
    assert tally.strategies[FALLBACK_STRATEGY] > 0


async def test_cluster_killed_and_started_again(installation: Installation) -> None:
    pods_before = await installation.get_json("pods")
    before = installation.pid("cluster")
    async with traffic(installation).running() as tally:
        await flows(tally, 60)
        installation.process("cluster").kill()

        async def is_back() -> bool:
            return installation.pid("cluster") != before

        await eventually(is_back, "a new cluster process")
        await eventually(lambda: _answers(installation), "the Kubernetes API answers")
        await flows(tally, 120)
    assert_nothing_failed(tally, at_least=180)
    pods_after = await installation.get_json("pods")
    assert _identity(pods_after) == _identity(pods_before), "the same pods, none restarted"


async def test_brain_restarted_while_the_kubernetes_api_is_away(installation: Installation) -> None:
    cluster = installation.process("cluster")
    before = installation.pid("brain")
    async with traffic(installation).running() as tally:
        await flows(tally, 30)
        cluster.send_signal(signal.SIGSTOP)
        try:
            installation.process("brain").kill()

            async def decides() -> bool:
                return installation.pid("brain") != before and (
                    (await installation.ask())[2].get("routing-strategy") == DEFAULT_STRATEGY
                )

            await eventually(decides, "the new brain decides from its persisted view", timeout_s=45)
        finally:
            cluster.send_signal(signal.SIGCONT)
        await flows(tally, 60)
    assert_nothing_failed(tally, at_least=90)


async def test_envoy_killed_and_started_again(installation: Installation) -> None:
    before = installation.pid("envoy")
    async with traffic(installation).running() as tally:
        await flows(tally, 60)
        installation.process("envoy").kill()

        async def is_back() -> bool:
            with contextlib.suppress(aiohttp.ClientError):
                return installation.pid("envoy") != before and (await installation.ask())[0] == 200
            return False

        await eventually(is_back, "a new Envoy serves")
        back_s = monotonic()
        await flows(tally, 60)
    late = [str(failure) for failure in (*tally.failed, *tally.cut_streams) if failure.ended_s > back_s]
    assert late == []
    assert tally.succeeded >= 120

    async def is_idle() -> bool:
        shown = await run(*PYBRIX, "top", "--data-dir", str(installation.data_dir), "--once", "-o", "json")
        return bool(msgspec.json.decode(shown.checked())["requestsInFlight"] == 0)

    # Renewals that do not come are believed in for longer than this.
    await eventually(is_idle, "what the killed Envoy had counts no more", timeout_s=15)


async def test_engine_killed(installation: Installation) -> None:
    pods = await installation.get_json("pods", "-l", f"model.aibrix.ai/name={MODEL}")
    victim = pods["items"][0]
    async with traffic(installation).running() as tally:
        await flows(tally, 60)
        (engine,) = installation.engine_processes(victim["status"]["podIP"])
        killed_s = monotonic()
        engine.kill()

        async def is_restarted() -> bool:
            pod = await installation.get_json("pod", victim["metadata"]["name"])
            (status,) = pod["status"]["containerStatuses"]
            return bool(status["ready"]) and status["restartCount"] == 1

        await eventually(is_restarted, "the engine runs again")
        await flows(tally, 60)
    assert tally.failed == []
    late = [str(cut) for cut in tally.cut_streams if cut.ended_s - killed_s > 1.0]
    assert late == [], "a stream that was cut must end at once"
    assert tally.succeeded >= 120


async def test_scale_up_and_down(installation: Installation) -> None:
    # The default stays with the pods that know the prompts while these have time.
    async with traffic(installation, "least-request").running() as tally:

        async def all_five_answer() -> bool:
            return len(tally.pods) == 5

        await flows(tally, 30)
        for replicas in (5, 2):
            await installation.kubectl("scale", DEPLOYMENT, f"--replicas={replicas}")
            await installation.kubectl("rollout", "status", DEPLOYMENT, "--timeout=60s")
            await eventually(partial(_has_pods, installation, replicas), f"{replicas} pods")
            await flows(tally, 60)
            if replicas == 5:
                await eventually(all_five_answer, "all five pods answer")
        await installation.kubectl("scale", DEPLOYMENT, "--replicas=3")
        await installation.kubectl("rollout", "status", DEPLOYMENT, "--timeout=60s")
    assert_nothing_failed(tally, at_least=150)


async def test_pod_deleted(installation: Installation) -> None:
    async with traffic(installation).running() as tally:
        await flows(tally, 60)
        pods = await installation.get_json("pods", "-l", f"model.aibrix.ai/name={MODEL}")
        await installation.kubectl("delete", "pod", pods["items"][0]["metadata"]["name"])
        await installation.kubectl("rollout", "status", DEPLOYMENT, "--timeout=60s")
        await flows(tally, 60)
    assert_nothing_failed(tally, at_least=120)


async def test_rolling_update_of_the_environment(installation: Installation) -> None:
    before = _identity(await installation.get_json("pods", "-l", f"model.aibrix.ai/name={MODEL}"))
    async with traffic(installation).running() as tally:
        await flows(tally, 30)
        await installation.kubectl("set", "env", DEPLOYMENT, "RELEASE=next")
        await installation.kubectl("rollout", "status", DEPLOYMENT, "--timeout=90s")
        await eventually(lambda: _has_pods(installation, 3), "the old pods are gone")
        await flows(tally, 60)
    assert_nothing_failed(tally, at_least=90)
    after = _identity(await installation.get_json("pods", "-l", f"model.aibrix.ai/name={MODEL}"))
    assert not before.keys() & after.keys(), "every pod was replaced"


async def _answers(installation: Installation) -> bool:
    try:
        await installation.kubectl("get", "--raw", "/readyz")
    except AssertionError:
        return False
    return True


async def _has_pods(installation: Installation, count: int) -> bool:
    pods = await installation.get_json("pods", "-l", f"model.aibrix.ai/name={MODEL}")
    return len(pods["items"]) == count


def _identity(pods: dict[str, Any]) -> dict[str, list[int]]:
    """Return UID → restart count of every pod."""
    return {
        str(pod["metadata"]["uid"]): [s["restartCount"] for s in pod["status"]["containerStatuses"]]
        for pod in pods["items"]
    }
