"""A fleet of real Ray clusters: it comes up, answers through the gateway, and is updated under load."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
import yaml

from pybrix.api.identity import ObjectKey
from pybrix.api.orchestration.v1alpha1.rayclusterfleet import RayClusterFleet
from pybrix.api.ray import RayCluster
from pybrix.cluster.workloads.raycluster.controller import installed_ray
from pybrix.controllers.rayclusterfleet.plan import is_complete
from pybrix.kube.client import HttpClient
from pybrix.kube.kubeconfig import load_kubeconfig
from tests.support.installation import Installation, eventually

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not installed_ray(), reason="no Ray here: pip install 'pybrix[ray]', as make test does"),
]
EXAMPLE = Path(__file__).parents[2] / "examples" / "ray" / "fleet.yaml"
FORMED_S = 180.0
"""A cluster forms in ten seconds; on a busy machine it takes longer."""


@dataclass
class Load:
    """Requests that go on while something happens."""

    url: str
    answered: int = 0
    failures: list[str] = field(default_factory=list)
    pods: set[str] = field(default_factory=set)

    @asynccontextmanager
    async def running(self, clients: int = 3) -> AsyncIterator[None]:
        stop = asyncio.Event()
        timeout = aiohttp.ClientTimeout(total=60)
        async with aiohttp.ClientSession(self.url, timeout=timeout) as session, asyncio.TaskGroup() as group:
            for number in range(clients):
                group.create_task(self._ask(session, stop, is_streamed=number % 2 == 0))
            try:
                yield
            finally:
                stop.set()

    async def moves(self) -> None:
        """Wait until more heads have answered than there are at a time."""

        async def has_moved() -> bool:
            return len(self.pods) >= 3 and self.answered > 30

        await eventually(has_moved, "requests move to new clusters", timeout_s=60)

    async def _ask(self, session: aiohttp.ClientSession, stop: asyncio.Event, *, is_streamed: bool) -> None:
        body = {"model": "big-model", "messages": [{"role": "user", "content": "Hi"}], "stream": is_streamed}
        # A stream of a few seconds: it has to outlive the moment at which its head begins to drain.
        body["max_tokens"] = 500 if is_streamed else 4
        while not stop.is_set():
            try:
                async with session.post("/v1/chat/completions", json=body) as response:
                    text = await response.text()
                    is_whole = "[DONE]" in text if is_streamed else "choices" in text
                    if response.status != 200 or not is_whole:
                        self.failures.append(f"{response.status} {text[-200:]}")
                    self.pods.add(response.headers.get("target-pod", ""))
                    self.answered += 1
            except aiohttp.ClientError as error:
                self.failures.append(repr(error))
            await asyncio.sleep(0.05)


class Fleet:
    """The fleet `big` of an installation."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.load = Load(installation.gateway_url)

    async def apply(self, **spec: Any) -> None:
        manifest = yaml.safe_load(EXAMPLE.read_text())
        manifest["spec"] |= spec
        file = self.installation.data_dir / "fleet.json"
        file.write_text(json.dumps(manifest))
        await self.installation.kubectl("apply", "-f", str(file))

    async def patch(self, patch: dict[str, Any]) -> None:
        await self.installation.kubectl("patch", "rayclusterfleet", "big", "--type", "merge", "-p", json.dumps(patch))

    async def revision(self) -> str:
        fleet = await self.installation.get_json("rayclusterfleet", "big")
        return str(fleet["metadata"]["annotations"]["deployment.kubernetes.io/revision"])

    async def settle(self, what: str, timeout_s: float = FORMED_S) -> int:
        """Wait until both clusters are of the present template and available, and no other is left.

        Returns the most clusters that there were meanwhile.
        """
        most = 0
        # Not by kubectl, which takes more CPU each time than all that is waited for.
        async with HttpClient(load_kubeconfig(self.installation.data_dir / "kubeconfig")) as client:

            async def has_settled() -> bool:
                nonlocal most
                fleet = await client.get(RayClusterFleet, ObjectKey("default", "big"))
                clusters = len((await client.list(RayCluster, "default")).items)
                most = max(most, clusters)
                return is_complete(fleet) and fleet.spec.replicas == clusters == 2

            await eventually(has_settled, what, timeout_s=timeout_s, interval_s=0.25)
        return most

    def check_load(self) -> None:
        assert self.load.failures == []
        assert all(pod.endswith("-head") for pod in self.load.pods), "workers do not answer"

    async def pods(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.installation.get_json("pods", "-l", "ray.io/is-ray-node"))["items"]
        return found

    async def restarts(self, *of: tuple[str, str]) -> list[int]:
        """Return how often containers were started anew, by pod and container."""
        counts = {
            (pod["metadata"]["name"], status["name"]): int(status["restartCount"])
            for pod in await self.pods()
            for status in pod["status"].get("containerStatuses", [])
        }
        return [counts[each] for each in of]

    async def kill(self, node_type: str, program: str) -> None:
        """Kill a process of Ray in the first pod of a type, and wait until the loss is noticed."""
        pod = next(p for p in await self.pods() if p["metadata"]["labels"]["ray.io/node-type"] == node_type)
        cluster = pod["metadata"]["labels"]["ray.io/cluster"]
        # Ray ends and begins anew in its container, and so does the engine, which lost a node. Each of them has to: Ray
        # alone may do so twice before the engine knows.
        concerned = ((pod["metadata"]["name"], f"ray-{node_type}"), (f"{cluster}-head", "engine"))
        before = await self.restarts(*concerned)
        # Processes that have ended, and those of others, have no environment to be read.
        victim = next(
            process
            for process in psutil.process_iter(["name", "environ"])
            if process.info["name"] == program
            and (process.info["environ"] or {}).get("PYBRIX_POD_IP") == pod["status"]["podIP"]
        )
        victim.kill()

        async def is_noticed() -> bool:
            return all(now > then for now, then in zip(await self.restarts(*concerned), before, strict=True))

        await eventually(is_noticed, f"{program} is killed and nothing begins anew", timeout_s=FORMED_S)


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    it = Installation(tmp_path_factory.mktemp("ray"))
    started = it.up()
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        yield it
    finally:
        it.down()


async def test_a_fleet_comes_up_and_is_updated_without_a_failed_request(installation: Installation) -> None:
    fleet = Fleet(installation)
    # Both new clusters form at the same time: the test is over sooner.
    await fleet.apply(strategy={"rollingUpdate": {"maxSurge": 2, "maxUnavailable": 0}})
    await fleet.settle("both clusters are available")
    status, answer, headers = await installation.ask("big-model")
    assert status == 200, answer
    assert headers["target-pod"].endswith("-head")
    async with fleet.load.running():
        await fleet.patch({"spec": {"template": {"metadata": {"annotations": {"version": "2"}}}}})
        await fleet.settle("the update is complete")
        assert await fleet.revision() == "2"
        await fleet.load.moves()
    fleet.check_load()
    events = await installation.get_json("events", "--field-selector", "reason=Draining")
    assert events["items"]


@pytest.mark.soak
async def test_a_rollback_fails_no_request_either(installation: Installation) -> None:
    fleet = Fleet(installation)
    await fleet.apply(strategy={"rollingUpdate": {"maxSurge": 2, "maxUnavailable": 0}})
    await fleet.patch({"spec": {"template": {"metadata": {"annotations": {"version": "first"}}}}})
    await fleet.settle("the first template is rolled out")
    first = int(await fleet.revision())
    async with fleet.load.running():
        await fleet.patch({"spec": {"template": {"metadata": {"annotations": {"version": "second"}}}}})
        await fleet.settle("the second template is rolled out")
        await fleet.patch({"metadata": {"annotations": {"deprecated.deployment.rollback.to": str(first)}}})

        async def is_rolled_back() -> bool:
            return int(await fleet.revision()) == first + 2

        await eventually(is_rolled_back, "the first template has a new number")
        await fleet.settle("the rollback is complete")
        await fleet.load.moves()
    fleet.check_load()


@pytest.mark.soak
async def test_lost_processes_of_ray_are_survived(installation: Installation) -> None:
    fleet = Fleet(installation)
    await fleet.apply()
    await fleet.settle("both clusters are available")
    for node_type, program in (("worker", "raylet"), ("head", "gcs_server")):
        await fleet.kill(node_type, program)
        await fleet.settle(f"the fleet is whole again after a {node_type} lost its {program}")
        async with fleet.load.running():
            await asyncio.sleep(3)
        assert fleet.load.failures == []


@pytest.mark.soak
async def test_a_fleet_that_is_deleted_ends_its_requests_first(installation: Installation) -> None:
    fleet = Fleet(installation)
    await fleet.apply()
    await fleet.settle("both clusters are available")
    body = {"model": "big-model", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1000, "stream": True}
    async with (
        aiohttp.ClientSession(installation.gateway_url) as session,
        session.post("/v1/chat/completions", json=body) as response,
    ):
        await response.content.readany()
        await installation.kubectl("delete", "rayclusterfleet", "big")
        # The head's name is taken; its workers stay as long as it works.
        assert "[DONE]" in await response.text()

    async def is_gone() -> bool:
        kinds = ("rayclusters", "rayclusterreplicasets", "rayclusterfleets")
        return not any([(await installation.get_json(kind))["items"] for kind in kinds])

    await eventually(is_gone, "nothing is left of the fleet", timeout_s=FORMED_S, interval_s=1)


@pytest.mark.soak
async def test_without_surge_there_is_never_a_third_cluster(installation: Installation) -> None:
    fleet = Fleet(installation)
    await fleet.apply(strategy={"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}})
    await fleet.settle("both clusters are available")
    async with fleet.load.running():
        await fleet.patch({"spec": {"template": {"metadata": {"annotations": {"version": "no-surge"}}}}})
        most = await fleet.settle("the update is complete", timeout_s=2 * FORMED_S)
    assert most == 2
    assert fleet.load.failures == []
