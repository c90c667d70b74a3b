"""Node agents that come, go and cannot reach the API, with real processes."""

from __future__ import annotations

import asyncio
import os
import signal

import psutil
import pytest

from pybrix.api.core import Node
from pybrix.api.meta import Object, find_condition
from pybrix.cluster.nodeagent.processes import marked_processes
from pybrix.kube.errors import Unreachable
from tests.support.agentpods import container_id_of, is_ready, phase, pod_of, restarts, server, shell
from tests.support.agents import Cluster
from tests.support.memoryapi import MemoryApi
from tests.support.waiting import until_now


class TestAgentsComeAndGo:
    async def test_a_new_agent_finds_the_processes_of_the_old_one(self, cluster: Cluster) -> None:
        async with cluster.running_agent():
            cluster.api.put(pod_of("p", server()))
            before = await cluster.wait("p", is_ready)
            pids = marked_processes(before.status.container_statuses[0].container_id)
        assert all(psutil.pid_exists(pid) for pid in pids)
        async with cluster.running_agent(is_stopping=True):
            after = await cluster.wait("p", is_ready)
            assert after.status.container_statuses == before.status.container_statuses
            # No transition: it was ready all the time.
            assert after.status.conditions == before.status.conditions
            assert marked_processes(after.status.container_statuses[0].container_id) == pids

    async def test_a_new_agent_learns_how_a_process_ended_meanwhile(self, cluster: Cluster) -> None:
        async with cluster.running_agent():
            cluster.api.put(pod_of("p", shell("while ! [ -e go ]; do sleep 0.01; done; exit 5"), restartPolicy="Never"))
            pod = await cluster.wait("p", is_ready)
        (cluster.directory / "pods" / pod.uid / ".work" / "main" / "go").touch()
        await until_now((cluster.directory / "pods" / pod.uid / "main" / "0.exit").exists)
        async with cluster.running_agent():
            pod = await cluster.wait("p", phase("Failed"))
            assert pod.status.container_statuses[0].state.terminated is not None
            assert pod.status.container_statuses[0].state.terminated.exit_code == 5

    async def test_a_new_agent_buries_what_has_no_object_any_more(self, cluster: Cluster) -> None:
        async with cluster.running_agent():
            cluster.api.put(pod_of("p", shell("sleep 100")))
            pod = await cluster.wait("p", is_ready)
        cluster.api.remove(pod)
        async with cluster.running_agent():
            await until_now(lambda: marked_processes(pod.status.container_statuses[0].container_id) == [])
            await until_now(lambda: not (cluster.directory / "pods" / pod.uid).exists())

    @pytest.mark.parametrize("policy", ["Always", "Never"])
    async def test_after_a_stop_the_same_pods_run_again(self, cluster: Cluster, policy: str) -> None:
        async with cluster.running_agent(is_stopping=True):
            cluster.api.put(pod_of("p", shell("sleep 100"), restartPolicy=policy))
            before = await cluster.wait("p", is_ready)
        stopped = cluster.get("p")
        assert stopped is not None
        assert not stopped.is_ready
        assert marked_processes(before.status.container_statuses[0].container_id) == []
        (node,) = cluster.api.all(Node)
        ready = find_condition(node.status.conditions, "Ready")
        assert ready is not None
        assert not ready.is_true
        async with cluster.running_agent(is_stopping=True):
            after = await cluster.wait("p", is_ready)
            assert after.uid == before.uid
            assert after.status.pod_ip == before.status.pod_ip
            assert restarts(after) == 1


class TestApiTrouble:
    async def test_processes_end_and_statuses_follow_when_the_api_is_back(self, cluster: Cluster) -> None:
        async with cluster.running_agent():
            cluster.api.put(pod_of("p", shell("while ! [ -e go ]; do sleep 0.01; done; exit 0"), restartPolicy="Never"))
            pod = await cluster.wait("p", is_ready)
            cluster.api.fail_next("patch", Unreachable("connection refused"), Unreachable("connection refused"))
            (cluster.directory / "pods" / pod.uid / ".work" / "main" / "go").touch()
            await cluster.wait("p", phase("Succeeded"))

    async def test_a_status_written_by_another_is_not_overwritten(self, cluster: Cluster) -> None:
        async with cluster.running_agent(is_stopping=True):
            made = cluster.api.put(pod_of("p", shell("sleep 100")))
            cluster.api.change(made, {"metadata": {"labels": {"new": "yes"}}})
            pod = await cluster.wait("p", is_ready)
            assert pod.metadata.labels["new"] == "yes"


class HangingApi(MemoryApi):
    """Answers nothing while `is_hanging`."""

    is_hanging = False

    async def _enter(self, call: str, cls: type[Object] | None) -> None:
        if self.is_hanging:
            await asyncio.Event().wait()
        await super()._enter(call, cls)


class TestStopWithoutAnswers:
    async def test_processes_end_while_the_api_server_hangs(self, cluster: Cluster) -> None:
        cluster.api = api = HangingApi()
        async with cluster.running_agent() as agent:
            for name in ("a", "b"):
                api.put(pod_of(name, shell("sleep 100")))
            pods = [await cluster.wait(name, is_ready) for name in ("a", "b")]
            api.is_hanging = True
            # A status is being written when the stop begins.
            os.kill(marked_processes(pods[0].status.container_statuses[0].container_id)[0], signal.SIGKILL)
            await asyncio.sleep(0)
            async with asyncio.timeout(60):
                await agent.stop_all(2.0)
            for record in (cluster.directory / "pods").glob("*/*/*.json"):
                assert marked_processes(container_id_of(record)) == []

    async def test_an_agent_that_never_heard_of_its_pods_ends_their_processes(self, cluster: Cluster) -> None:
        cluster.api = api = HangingApi()
        async with cluster.running_agent():
            api.put(pod_of("p", shell("trap '' TERM; while :; do sleep 0.1; done")))
            pod = await cluster.wait("p", is_ready)
        container_id = pod.status.container_statuses[0].container_id
        api.is_hanging = True
        agent = cluster.agent()
        task = asyncio.get_running_loop().create_task(agent.run())
        async with asyncio.timeout(60):
            await agent.stop_all(0.3)
        assert marked_processes(container_id) == []
        task.cancel()
        await asyncio.wait([task])
        api.is_hanging = False
        async with cluster.running_agent(is_stopping=True):
            await cluster.wait("p", lambda p: is_ready(p) and restarts(p) == 1)
