"""The node agent with real processes, on an API in memory."""

from __future__ import annotations

import asyncio
import base64
import os
import sys
from pathlib import Path

import psutil
import pytest

from pybrix.api.core import ConfigMap, Lease, Node, Secret
from pybrix.api.identity import ObjectKey
from pybrix.api.meta import ObjectMeta, find_condition
from pybrix.cluster.nodeagent.namespaces import mount_namespace_command
from pybrix.cluster.nodeagent.processes import marked_processes
from pybrix.kube.errors import BadRequest
from tests.support.agentpods import SERVER, is_ready, phase, pod_of, read_log, restarts, server, shell, waiting
from tests.support.agents import Cluster
from tests.support.pods import make_container
from tests.support.waiting import until_now


class TestNode:
    async def test_registers_a_ready_node_with_a_lease(self, cluster: Cluster) -> None:
        async with cluster.running_agent():
            await until_now(lambda: bool(cluster.api.all(Lease)))
            (node,) = cluster.api.all(Node)
            ready = find_condition(node.status.conditions, "Ready")
            assert ready is not None
            assert ready.is_true
            assert int(node.status.capacity["cpu"]) >= 1
            assert node.metadata.labels["kubernetes.io/os"] == "linux"
            (lease,) = cluster.api.all(Lease)
            assert lease.metadata.key == ObjectKey("kube-node-lease", "node-1")
            assert lease.spec.holder_identity == "node-1"
            assert lease.spec.renew_time

    async def test_labels_that_others_set_are_kept(self, cluster: Cluster) -> None:
        cluster.api.put(Node(metadata=ObjectMeta(name="node-1", labels={"team": "a"})))
        async with cluster.running_agent():
            await until_now(lambda: bool(cluster.api.all(Lease)))
            (node,) = cluster.api.all(Node)
            assert node.metadata.labels["team"] == "a"
            assert node.metadata.labels["kubernetes.io/hostname"] == "node-1"


class TestLife:
    async def test_a_server_becomes_ready_on_an_address_of_its_own(self, cluster: Cluster) -> None:
        async with cluster.running_agent(is_stopping=True):
            cluster.api.put(pod_of("a", server(env=[{"name": "ANSWER", "value": "a"}])))
            cluster.api.put(pod_of("b", server(env=[{"name": "ANSWER", "value": "b"}])))
            a, b = await cluster.wait("a", is_ready), await cluster.wait("b", is_ready)
            assert a.status.pod_ip != b.status.pod_ip
            for pod in (a, b):
                reader, writer = await asyncio.open_connection(pod.status.pod_ip, 21220)
                writer.write(b"GET / HTTP/1.0\r\n\r\n")
                assert (await reader.read()).decode().endswith(f"\r\n\r\n{pod.metadata.name}")
                writer.close()
                await writer.wait_closed()

    async def test_servers_keep_apart_in_any_data_directory(self, cluster: Cluster, tmp_path: Path) -> None:
        """LD_PRELOAD cannot carry spaces and colons."""
        cluster = Cluster(tmp_path / "with space" / "d \u00fc:x", cluster.pod_cidr)
        async with cluster.running_agent(is_stopping=True):
            for name in ("a", "b"):
                cluster.api.put(pod_of(name, server(env=[{"name": "ANSWER", "value": name}], port=22320)))
            pods = [await cluster.wait(name, is_ready) for name in ("a", "b")]
            bound = set()
            for pod in pods:
                container_id = pod.status.container_statuses[0].container_id
                for pid in marked_processes(container_id):
                    for listening in psutil.Process(pid).net_connections("tcp"):
                        bound.add((listening.laddr.ip, pod.status.pod_ip))
                assert not [reason for reason, _ in cluster.events(pod) if reason == "WildcardBind"]
            assert bound == {(pod.status.pod_ip, pod.status.pod_ip) for pod in pods}

    async def test_bound_to_running_takes_no_polling(self, cluster: Cluster) -> None:
        async with cluster.running_agent(is_stopping=True):
            asked = cluster.api.calls.count("list")
            cluster.api.put(pod_of("a", shell("sleep 100")))
            await cluster.wait("a", is_ready)
            assert cluster.api.calls.count("list") == asked

    @pytest.mark.parametrize(("script", "want"), [("exit 0", "Succeeded"), ("exit 3", "Failed")])
    async def test_a_pod_that_runs_once(self, cluster: Cluster, script: str, want: str) -> None:
        async with cluster.running_agent():
            cluster.api.put(pod_of("job", shell(script), restartPolicy="Never"))
            pod = await cluster.wait("job", phase(want))
            (status,) = pod.status.container_statuses
            assert status.state.terminated is not None
            assert status.state.terminated.exit_code == int(script[-1])
            assert not pod.is_ready

    async def test_init_containers_run_first_and_in_order(self, cluster: Cluster) -> None:
        async with cluster.running_agent():
            shared = cluster.directory / "order"
            init = [shell(f"echo {n} >> {shared}", n) for n in ("one", "two")]
            cluster.api.put(pod_of("p", shell(f"echo main >> {shared}"), initContainers=init, restartPolicy="Never"))
            await cluster.wait("p", phase("Succeeded"))
            assert shared.read_text().split() == ["one", "two", "main"]

    async def test_a_crashing_container_restarts_at_once_and_then_backs_off(self, cluster: Cluster) -> None:
        async with cluster.running_agent(is_stopping=True):
            cluster.api.put(pod_of("p", shell("echo crash; exit 1")))
            pod = await cluster.wait("p", waiting("CrashLoopBackOff"))
            (status,) = pod.status.container_statuses
            assert status.restart_count == 1
            assert status.last_state.terminated is not None
            assert status.last_state.terminated.exit_code == 1
            await until_now(lambda: "BackOff" in [reason for reason, _ in cluster.events(pod)])

    async def test_a_file_that_cannot_be_executed(self, cluster: Cluster) -> None:
        if not await mount_namespace_command(os.defpath):
            pytest.skip("this machine allows no mount namespaces")
        script = {"run.sh": "#!/bin/sh\n"}
        cluster.api.put(ConfigMap(metadata=ObjectMeta(name="scripts", namespace="default"), data=script))
        mounts = [{"name": "scripts", "mountPath": "/pybrix-test-scripts"}]
        container = make_container(image="any", command=["/pybrix-test-scripts/run.sh"], volumeMounts=mounts)
        async with cluster.running_agent():
            volumes = [{"name": "scripts", "configMap": {"name": "scripts"}}]
            cluster.api.put(pod_of("p", container, volumes=volumes))
            pod = await cluster.wait("p", waiting("CrashLoopBackOff"))
            ended = pod.status.container_statuses[0].last_state.terminated
            assert ended is not None
            assert (ended.exit_code, ended.reason) == (128, "StartError")
            want = 'Error: exec: "/pybrix-test-scripts/run.sh": permission denied'
            await until_now(lambda: ("Failed", want) in cluster.events(pod))
            assert "Started" not in [reason for reason, _ in cluster.events(pod)]

    async def test_a_program_that_does_not_exist(self, cluster: Cluster) -> None:
        async with cluster.running_agent():
            cluster.api.put(pod_of("p", make_container(command=["no-such-program"]), restartPolicy="Never"))
            pod = await cluster.wait("p", phase("Failed"))
            (status,) = pod.status.container_statuses
            assert status.state.terminated is not None
            assert (status.state.terminated.exit_code, status.state.terminated.reason) == (128, "StartError")
            assert "executable file not found" in status.state.terminated.message

    async def test_an_unknown_image_waits_and_says_so(self, cluster: Cluster) -> None:
        async with cluster.running_agent():
            cluster.api.put(pod_of("p", make_container(image="nginx:1")))
            pod = await cluster.wait("p", waiting("ErrImagePull"))
            assert pod.status.phase == "Pending"
            await until_now(lambda: any("nginx:1" in message for _, message in cluster.events(pod)))

    async def test_a_refused_pod_fails(self, cluster: Cluster) -> None:
        async with cluster.running_agent():
            cluster.api.put(pod_of("p", shell("true", "../up")))
            pod = await cluster.wait("p", phase("Failed"))
            assert pod.status.reason == "InvalidPod"
            cluster.delete(pod)
            await cluster.wait_gone(pod)

    async def test_environment_and_arguments(self, cluster: Cluster) -> None:
        cluster.api.put(ConfigMap(metadata=ObjectMeta(name="cm", namespace="default"), data={"my-key": "x"}))
        async with cluster.running_agent():
            env = [
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "URL", "value": "http://$(IP):8000"},
            ]
            # Not a shell: it hands on only variables that are identifiers.
            script = "import os, shutil, sys; print(sys.argv[1], os.environ['my-key'], shutil.which('pybrix'))"
            container = make_container(
                image="busybox",
                command=[sys.executable, "-c", script, "$(URL)"],
                env=env,
                envFrom=[{"configMapRef": {"name": "cm"}}],
            )
            cluster.api.put(pod_of("p", container, restartPolicy="Never"))
            pod = await cluster.wait("p", phase("Succeeded"))
            bin_directory = Path(sys.executable).absolute().parent
            assert cluster.log(pod).split() == [
                f"http://{pod.status.pod_ip}:8000",
                "x",
                str(bin_directory / "pybrix"),
            ]

    async def test_starts_when_a_missing_secret_appears(self, cluster: Cluster) -> None:
        async with cluster.running_agent():
            env = [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "token"}}}]
            cluster.api.put(pod_of("p", shell('echo "$TOKEN"', env=env), restartPolicy="Never"))
            pod = await cluster.wait("p", waiting("CreateContainerConfigError"))
            assert 'secret "s" not found' in str(pod.status.container_statuses)
            data = {"token": base64.b64encode(b"hunter2").decode()}
            cluster.api.put(Secret(metadata=ObjectMeta(name="s", namespace="default"), data=data))
            pod = await cluster.wait("p", phase("Succeeded"))
            assert cluster.log(pod) == "hunter2\n"

    @pytest.mark.parametrize("path", ["", "/pybrix-test-messages/log"])
    async def test_a_program_says_in_a_file_why_it_ended(self, cluster: Cluster, path: str) -> None:
        if not await mount_namespace_command(os.defpath):
            pytest.skip("this machine allows no mount namespaces")
        machines_own = Path("/dev/termination-log")
        before = machines_own.read_bytes() if machines_own.exists() else None
        fields = {"terminationMessagePath": path} if path else {}
        script = f'printf %5000s "$SAID" >{path or machines_own}; head -c1 /dev/zero >/dev/null; exit 3'
        async with cluster.running_agent():
            for name in ("p", "q"):
                container = shell(script, env=[{"name": "SAID", "value": f"no model {name}"}], **fields)
                cluster.api.put(pod_of(name, container, restartPolicy="Never"))
            for name in ("p", "q"):
                pod = await cluster.wait(name, phase("Failed"))
                ended = pod.status.container_statuses[0].state.terminated
                assert ended is not None
                assert (ended.exit_code, ended.message) == (3, f"no model {name}".rjust(4096)), cluster.log(pod)
        assert (machines_own.read_bytes() if machines_own.exists() else None) == before
        assert not Path("/pybrix-test-messages").exists()

    async def test_a_run_does_not_find_the_message_of_the_one_before(self, cluster: Cluster) -> None:
        if not await mount_namespace_command(os.defpath):
            pytest.skip("this machine allows no mount namespaces")
        script = "cat $LOG; [ -e second ] && exec sleep 60; touch second; echo one >$LOG"
        cluster.api.put(pod_of("p", shell(script, env=[{"name": "LOG", "value": "/dev/termination-log"}])))
        async with cluster.running_agent():
            pod = await cluster.wait("p", lambda p: restarts(p) == 1 and p.status.phase == "Running")
            assert cluster.log(pod, restart=1) == ""
        async with cluster.running_agent(is_stopping=True):
            pod = await cluster.wait("p", lambda p: restarts(p) == 1)
            last = pod.status.container_statuses[0].last_state.terminated
            assert last is not None
            assert last.message == "one\n"

    async def test_a_script_in_a_volume_runs_by_its_mode(self, cluster: Cluster) -> None:
        if not await mount_namespace_command(os.defpath):
            pytest.skip("this machine allows no mount namespaces")
        script = {"run.sh": "#!/bin/sh\necho it runs\n"}
        cluster.api.put(ConfigMap(metadata=ObjectMeta(name="scripts", namespace="default"), data=script))
        mounts = [{"name": "scripts", "mountPath": "/pybrix-test-scripts"}]
        container = make_container(image="any", command=["/pybrix-test-scripts/run.sh"], volumeMounts=mounts)
        async with cluster.running_agent():
            volumes = [{"name": "scripts", "configMap": {"name": "scripts", "defaultMode": 0o755}}]
            cluster.api.put(pod_of("p", container, volumes=volumes, restartPolicy="Never"))
            pod = await cluster.wait("p", lambda p: p.is_finished)
            assert (pod.status.phase, cluster.log(pod)) == ("Succeeded", "it runs\n")

    async def test_volumes_are_shared_by_the_containers_of_a_pod(self, cluster: Cluster) -> None:
        if not await mount_namespace_command(os.defpath):
            pytest.skip("this machine allows no mount namespaces")
        async with cluster.running_agent():
            mounts = [{"name": "data", "mountPath": "/pybrix-test-data"}]
            cluster.api.put(
                pod_of(
                    "p",
                    shell("cat /pybrix-test-data/x", volumeMounts=mounts),
                    initContainers=[shell("echo shared > /pybrix-test-data/x", "init", volumeMounts=mounts)],
                    volumes=[{"name": "data", "emptyDir": {}}],
                    restartPolicy="Never",
                )
            )
            pod = await cluster.wait("p", lambda p: p.is_finished)
            assert cluster.log(pod) == "shared\n"
        assert not Path("/pybrix-test-data").exists()


class TestProbes:
    async def test_readiness_follows_the_program(self, cluster: Cluster) -> None:
        async with cluster.running_agent(is_stopping=True):
            probe = {"httpGet": {"port": 21220}, "periodSeconds": 1, "failureThreshold": 1}
            cluster.api.put(pod_of("p", server(readinessProbe=probe)))
            pod = await cluster.wait("p", is_ready)
            mark = cluster.directory / "pods" / pod.uid / ".work" / "main" / "broken"
            mark.touch()
            pod = await cluster.wait("p", lambda p: not p.is_ready)
            assert restarts(pod) == 0
            mark.unlink()
            await cluster.wait("p", is_ready)

    @pytest.mark.parametrize("threshold", [1, 3])
    async def test_a_program_that_is_still_starting_is_not_reported(self, cluster: Cluster, threshold: int) -> None:
        async with cluster.running_agent(is_stopping=True):
            probe = {"httpGet": {"path": "/", "port": 22321}, "periodSeconds": 10, "failureThreshold": threshold}
            script = f"sleep 0.5; exec {sys.executable} -c '{SERVER}' 22321"
            cluster.api.put(pod_of("p", shell(script, readinessProbe=probe)))
            pod = await cluster.wait("p", is_ready)
            assert [reason for reason, _ in cluster.events(pod)] == ["Started"]

    async def test_a_failed_liveness_probe_restarts_the_container(self, cluster: Cluster) -> None:
        async with cluster.running_agent(is_stopping=True):
            probe = {"exec": {"command": ["test", "-e", "alive"]}, "periodSeconds": 1, "failureThreshold": 1}
            cluster.api.put(pod_of("p", shell("sleep 100", livenessProbe=probe)))
            pod = await cluster.wait("p", lambda p: restarts(p) > 0)
            await until_now(lambda: "Killing" in [reason for reason, _ in cluster.events(pod)])

    async def test_a_startup_probe_holds_readiness_back(self, cluster: Cluster) -> None:
        async with cluster.running_agent(is_stopping=True):
            probe = {"tcpSocket": {"port": 21221}, "periodSeconds": 1, "failureThreshold": 100}
            cluster.api.put(pod_of("p", server(startupProbe=probe)))
            pod = await cluster.wait("p", phase("Running"))
            assert [s.started for s in pod.status.container_statuses] == [False]
            listener = await asyncio.start_server(lambda r, w: w.close(), pod.status.pod_ip, 21221)
            async with listener:
                await cluster.wait("p", is_ready)


class TestTermination:
    async def test_ready_while_pre_stop_runs_then_sigterm_then_gone(self, cluster: Cluster) -> None:
        async with cluster.running_agent():
            script = 'trap "echo term; exit 0" TERM; echo ready; sleep 100 & wait'
            # The hook goes on only when it may: so the order is seen, not guessed.
            waiting = "touch begun; while ! [ -e go ]; do sleep 0.01; done; echo hook"
            hook = {"preStop": {"exec": {"command": ["sh", "-c", waiting]}}}
            cluster.api.put(pod_of("p", shell(script, lifecycle=hook)))
            pod = await cluster.wait("p", is_ready)
            await until_now(lambda: cluster.log(pod) == "ready\n")
            cluster.delete(pod)
            work = cluster.directory / "pods" / pod.uid / ".work" / "main"
            await until_now(lambda: (work / "begun").exists())
            left = await cluster.wait("p", lambda p: p.metadata.is_terminating)
            assert left.is_ready
            assert left.status.container_statuses[0].state.running is not None
            assert cluster.log(pod) == "ready\n"
            log = cluster.directory / "pods" / pod.uid / "main" / "0.log"
            with log.open() as kept:
                (work / "go").touch()
                await cluster.wait_gone(pod)
                assert kept.read() == "ready\nterm\n"
            await until_now(lambda: not (cluster.directory / "pods" / pod.uid).exists())

    async def test_what_ignores_sigterm_is_killed_after_the_grace(self, cluster: Cluster) -> None:
        async with cluster.running_agent():
            cluster.api.put(pod_of("p", server("--stubborn")))
            pod = await cluster.wait("p", is_ready)
            container_id = pod.status.container_statuses[0].container_id
            cluster.delete(pod, grace_s=1)
            await cluster.wait_gone(pod)
            assert marked_processes(container_id) == []

    async def test_a_pod_removed_by_force_leaves_no_process(self, cluster: Cluster) -> None:
        async with cluster.running_agent():
            cluster.api.put(pod_of("p", shell("setsid sleep 100 & sleep 100")))
            pod = await cluster.wait("p", is_ready)
            container_id = pod.status.container_statuses[0].container_id
            cluster.api.remove(pod)
            await until_now(lambda: marked_processes(container_id) == [])
            await until_now(lambda: not (cluster.directory / "pods" / pod.uid).exists())


class TestNamesAndUids:
    async def test_one_name_in_two_namespaces_is_two_pods(self, cluster: Cluster) -> None:
        async with cluster.running_agent():
            for namespace in ("red", "blue"):
                cluster.api.put(pod_of("p", shell(f"echo {namespace}; sleep 100"), namespace=namespace))
            red, blue = [await cluster.wait("p", is_ready, namespace) for namespace in ("red", "blue")]
            assert red.status.pod_ip != blue.status.pod_ip
            await until_now(lambda: (cluster.log(red), cluster.log(blue)) == ("red\n", "blue\n"))
            cluster.delete(red, grace_s=1)
            await cluster.wait_gone(red)
            assert (await cluster.wait("p", is_ready, "blue")).uid == blue.uid
            cluster.delete(blue, grace_s=1)
            await cluster.wait_gone(blue)

    async def test_a_new_pod_runs_while_the_old_one_of_its_name_ends(self, cluster: Cluster) -> None:
        async with cluster.running_agent(is_stopping=True):
            cluster.api.put(pod_of("p", server("--stubborn")))
            old = await cluster.wait("p", is_ready)
            cluster.api.remove(old)
            cluster.api.put(pod_of("p", server()))
            new = await cluster.wait("p", lambda p: p.is_ready and p.uid != old.uid)
            # The old process has its address still and ends on its own time.
            assert new.status.pod_ip != old.status.pod_ip
            old_id = old.status.container_statuses[0].container_id
            await until_now(lambda: marked_processes(old_id) == [])
            assert (await cluster.wait("p", is_ready)).uid == new.uid
            assert restarts(new) == 0


class TestLogs:
    async def test_whole_tail_and_limit(self, cluster: Cluster) -> None:
        async with cluster.running_agent() as agent:
            cluster.api.put(pod_of("p", shell("for i in 1 2 3; do echo $i; done"), restartPolicy="Never"))
            await cluster.wait("p", phase("Succeeded"))
            assert await read_log(agent.logs.read("default", "p", "main")) == "1\n2\n3\n"
            assert await read_log(agent.logs.read("default", "p", "main", tail_lines=2)) == "2\n3\n"
            assert await read_log(agent.logs.read("default", "p", "main", tail_lines=0)) == ""
            assert await read_log(agent.logs.read("default", "p", "main", tail_lines=9)) == "1\n2\n3\n"
            assert await read_log(agent.logs.read("default", "p", "main", limit_bytes=3)) == "1\n2"

    async def test_follow_ends_with_the_container(self, cluster: Cluster) -> None:
        async with cluster.running_agent() as agent:
            script = "echo one; while ! [ -e go ]; do sleep 0.01; done; echo two"
            cluster.api.put(pod_of("p", shell(script), restartPolicy="Never"))
            pod = await cluster.wait("p", is_ready)
            chunks = agent.logs.read("default", "p", "main", follow=True)
            assert await anext(chunks) == b"one\n"
            (cluster.directory / "pods" / pod.uid / ".work" / "main" / "go").touch()
            assert await read_log(chunks) == "two\n"

    async def test_previous(self, cluster: Cluster) -> None:
        async with cluster.running_agent(is_stopping=True) as agent:
            script = "if [ -e again ]; then echo second; sleep 100; fi; echo first; touch again; exit 1"
            cluster.api.put(pod_of("p", shell(script)))
            await cluster.wait("p", lambda p: is_ready(p) and restarts(p) == 1)
            assert await read_log(agent.logs.read("default", "p", "main", previous=True)) == "first\n"

    async def test_what_cannot_be_read_says_why(self, cluster: Cluster) -> None:
        async with cluster.running_agent() as agent:
            cluster.api.put(pod_of("p", make_container(image="nginx")))
            await cluster.wait("p", waiting("ErrImagePull"))
            (status,) = (await cluster.wait("p", waiting("ErrImagePull"))).status.container_statuses
            assert status.state.waiting is not None
            assert "no local program" in status.state.waiting.message
            said = 'container "main" in pod "p" is waiting to start: trying and failing to pull image: no local program'
            with pytest.raises(BadRequest, match=said):
                await read_log(agent.logs.read("default", "p", "main"))
