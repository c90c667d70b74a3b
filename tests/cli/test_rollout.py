"""`pybrix rollout`, `get fleets` and `plan`: against the embedded API server, with the real controllers."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import aiohttp
import pytest
from click.testing import CliRunner

from pybrix.api.config import ControllersConfiguration
from pybrix.api.orchestration.v1alpha1.rayclusterfleet import RayClusterFleet
from pybrix.api.ray import RayCluster
from pybrix.base.clock import SystemClock, format_rfc3339
from pybrix.base.errors import UsageError
from pybrix.cli.main import cli
from pybrix.cli.rollout_commands import describe_progress, with_image
from pybrix.controllers.rayclusterfleet.controller import RAYCLUSTERFLEET
from pybrix.controllers.rayclusterreplicaset.controller import RAYCLUSTERREPLICASET
from pybrix.controllers.registration import Setup
from pybrix.kube.client import HttpClient
from pybrix.kube.errors import KubeError
from pybrix.kube.interface import EventType
from pybrix.kube.kubeconfig import load_kubeconfig
from pybrix.local.definitions import apply_definitions
from pybrix.runtime.manager import Manager
from tests.support.apiserver import running_api_server
from tests.support.fleets import SimulatedHeads, make_fleet, make_template, ready_status


@asynccontextmanager
async def running_controllers(client: HttpClient) -> AsyncIterator[None]:
    """Run the controllers of fleets, bring up every cluster at once, and take deleted ones away."""
    chance = random.Random(1)
    manager = Manager(client, component="test", clock=SystemClock(), chance=chance)
    http = cast(aiohttp.ClientSession, SimulatedHeads())
    setup = Setup(manager, ControllersConfiguration(), SystemClock(), chance, http)
    for registration in (RAYCLUSTERREPLICASET, RAYCLUSTERFLEET):
        for controller in registration.build(setup):
            manager.add(controller)
    new: asyncio.Queue[RayCluster] = asyncio.Queue()

    def hear(_event: EventType, _old: RayCluster | None, cluster: RayCluster | None) -> None:
        if cluster is not None and (cluster.metadata.is_terminating or not cluster.status.conditions):
            new.put_nowait(cluster)

    async def bring_up() -> None:
        while True:
            cluster = await new.get()
            try:
                if cluster.metadata.is_terminating:
                    # In place of the garbage collector: there are no pods to wait for.
                    await client.patch(RayCluster, cluster.key, {"metadata": {"finalizers": None}})
                else:
                    patch = {"status": ready_status(format_rfc3339(SystemClock().now()))}
                    await client.patch(RayCluster, cluster.key, patch, subresource="status")
            except KubeError:
                # It was deleted meanwhile.
                continue

    manager.informer(RayCluster).add_handler(hear)
    async with asyncio.TaskGroup() as group:
        kuberay = group.create_task(bring_up())
        running = group.create_task(manager.run())
        yield
        manager.stop()
        await running
        kuberay.cancel()


async def test_a_fleet_by_the_command_line(tmp_path: Path) -> None:
    async with running_api_server(tmp_path) as api, HttpClient(load_kubeconfig(api.kubeconfig)) as client:
        await apply_definitions(client)

        async def pybrix(*arguments: str, fails: bool = False) -> str:
            # In this process, where everything is imported already; each has an event loop of its own.
            command = [*arguments, "--kubeconfig", str(api.kubeconfig), "-n", "default"]
            ran = await asyncio.to_thread(CliRunner().invoke, cli, command)
            assert (ran.exit_code != 0) is fails, f"{ran.output} {ran.exception}"
            return f"{ran.output} {ran.exception or ''}"

        async with running_controllers(client):
            manifest = make_fleet(2, image="app:v1", max_surge=0, max_unavailable=1).to_dict()
            manifest["metadata"] = {"name": "big", "namespace": "default"}
            await client.create_raw(manifest | {"status": {}})
            assert "is rolled out: 2 clusters available" in await pybrix("rollout", "status", "fleet/big")
            foreseen = json.loads(await pybrix("plan", "fleet/big", "--image", "app:v2", "-o", "json"))
            assert max(step["clusters"] for step in foreseen) == 2
            (fleet,) = (await client.list(RayClusterFleet, "default")).items
            assert fleet.metadata.generation == 1, "a plan changes nothing"

            await pybrix("rollout", "pause", "fleet/big")
            assert "complete, paused" in await pybrix("get", "fleets")
            assert "is paused" in await pybrix("rollout", "undo", "fleet/big", fails=True)
            template = make_template("app:v2")
            await client.patch(RayClusterFleet, fleet.key, {"spec": {"template": template}})
            assert "(paused)" in await pybrix("rollout", "status", "fleet/big", "--no-wait")
            await pybrix("rollout", "resume", "fleet/big")
            await pybrix("rollout", "status", "fleet/big", "--timeout", "60")
            listed = json.loads(await pybrix("rollout", "history", "fleet/big", "-o", "json"))
            assert [(r["revision"], r["images"], r["clusters"]) for r in listed] == [
                (1, ["app:v1"], 0),
                (2, ["app:v2"], 2),
            ]
            assert "app:v1" in await pybrix("rollout", "history", "fleet/big", "--revision", "1")
            assert "there are 1, 2" in await pybrix("rollout", "undo", "fleet/big", "--to-revision", "7", fails=True)
            await pybrix("rollout", "undo", "fleet/big")
            await pybrix("rollout", "restart", "fleet/big")
            await pybrix("rollout", "status", "fleet/big", "--timeout", "60")
            shown = await pybrix("get", "fleets", "-o", "wide")
            assert "big" in shown
            assert "2/2" in shown
            assert "app:v1" in shown
        assert "there is no RayClusterFleet 'none'" in await pybrix("rollout", "status", "fleet/none", fails=True)
        assert "write fleet/NAME" in await pybrix("rollout", "status", "big", fails=True)


@pytest.mark.parametrize(
    ("image", "want"),
    [("app:v2", "app:v2"), ("ray=other/app@sha256:1", "other/app@sha256:1"), ("app", "app")],
)
def test_an_image_goes_where_it_fits(image: str, want: str) -> None:
    spec = make_template("app:v1")["spec"]
    changed = with_image(spec, image)
    head = changed["headGroupSpec"]["template"]["spec"]["containers"][0]["image"]
    worker = changed["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["image"]
    assert head == worker == want
    assert spec == make_template("app:v1")["spec"], "the fleet itself stays as it is"


def test_an_empty_image_is_refused() -> None:
    with pytest.raises(UsageError, match="names no image"):
        with_image(make_template("app:v1")["spec"], "ray=")


def test_an_image_that_fits_nowhere_is_refused_with_what_there_is() -> None:
    with pytest.raises(UsageError, match=r"fits no container .*ray \(app:v1\)"):
        with_image(make_template("app:v1")["spec"], "else:v2")


@pytest.mark.parametrize(
    ("status", "says"),
    [
        ({}, "waiting for the controller"),
        ({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 2}, "1 of 2 new clusters"),
        ({"observedGeneration": 1, "replicas": 3, "updatedReplicas": 2, "availableReplicas": 3}, "1 old clusters"),
        ({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 1}, "1 of 2 clusters are"),
    ],
)
def test_progress_in_words(status: dict[str, int], says: str) -> None:
    assert says in describe_progress(make_fleet(2, status=status))
