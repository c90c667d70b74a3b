"""Pools of cache servers as docs/guides/kvcache.md has them: real vineyardd, etcd and Redis in one installation."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import json
import shutil
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from pybrix.api.core import Pod
from pybrix.api.identity import ObjectKey
from pybrix.controllers.membership.errors import AuthenticationFailed, NoQuorum, TimedOut, Unreachable
from pybrix.controllers.membership.etcd import EtcdStore
from pybrix.controllers.membership.keys import Keys, cache_keys, pool_keys
from pybrix.controllers.membership.records import Record, decode
from pybrix.controllers.membership.redis import RedisStore
from pybrix.controllers.membership.ring import moved
from pybrix.controllers.membership.servers import open_store
from pybrix.controllers.membership.store import Kind, Server
from pybrix.kube.client import HttpClient
from pybrix.kube.kubeconfig import load_kubeconfig
from tests.support.installation import PYBRIX, Installation, eventually, run
from tests.support.metadataservers import MetadataServer, find_etcd, running
from tests.support.redisserver import find_redis

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

EXAMPLE = str(Path(__file__).parents[2] / "examples" / "kvcache")
PASSWORD = "right"
ROTATED = "another"
VINEYARDD = {"image": "vineyardd:1", "resources": {"limits": {"memory": "64Mi"}}}
# Puts an object through one member and gets it through another one, in a process of its own: the client is not ours.
FETCH = """
import sys, vineyard, numpy
one, two = (vineyard.connect(endpoint=(host, int(port))) for host, port in (e.split(":") for e in sys.argv[1:3]))
name = one.put(numpy.arange(1000))
one.persist(name)
print("sum", two.get(name, fetch=True).sum())
"""


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    if importlib.util.find_spec("vineyard") is None:
        pytest.skip("no vineyardd: pip install 'pybrix[kvcache]'")
    find_etcd()
    it = Installation(tmp_path_factory.mktemp("up"))
    started = it.up()
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        yield it
    finally:
        stopped = it.down()
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr


async def everything(it: Installation) -> set[str]:
    """Return what there is in the namespace, but for Events and what every namespace has."""
    kinds = (
        "kvcachepools,kvcaches,statefulsets,deployments,controllerrevisions,pods,services,endpointslices,configmaps,"
    )
    listed = await it.get_json(f"{kinds}secrets,persistentvolumeclaims,serviceaccounts")
    return {f"{each['kind']} {each['metadata']['name']}" for each in listed["items"]}


async def pool_status(it: Installation, name: str) -> dict[str, Any]:
    return dict((await it.get_json("kvcachepool", name)).get("status", {}))


async def wait_ready(it: Installation, *names: str, replicas: int) -> None:
    """Wait until pools have so many members, and people and metadata servers are told the same."""

    async def are_ready() -> bool:
        found = [await pool_status(it, name) for name in names]
        return all(
            status.get("phase") == "Running"
            and len(status.get("members", [])) == replicas == status.get("readyReplicas")
            for status in found
        )

    await eventually(are_ready, f"{names} with {replicas} members", timeout_s=60)


async def test_an_object_is_put_through_one_member_and_got_through_another(installation: Installation) -> None:
    it = installation
    before = await everything(it)
    await it.kubectl("apply", "-f", EXAMPLE)
    await it.kubectl("wait", "--for=condition=Ready", "kvcachepool/shared", "--timeout=60s")
    await wait_ready(it, "shared", replicas=2)
    endpoints = (await pool_status(it, "shared"))["endpoints"]

    async def is_fetched() -> bool:
        try:
            return "sum 499500" in (await run(sys.executable, "-c", FETCH, *endpoints, timeout_s=10)).stdout
        except TimeoutError:
            # It waits for its etcd, and would go on with that once there is one.
            return False

    # A vineyardd that another one joins while it is asked may end by an assertion of its own; its pod starts it again.
    await eventually(is_fetched, "an object of one member comes through the other", timeout_s=90, interval_s=1)
    await it.kubectl("delete", "pod", "shared-etcd-0", "--timeout=60s")
    await eventually(is_fetched, "the same once the etcd is another pod", timeout_s=90, interval_s=1)

    shown = await run(*PYBRIX, "kvcache", "status", "shared", "--data-dir", str(it.data_dir), "-o", "json")
    said = json.loads(shown.checked())
    assert [(member["name"], member["slots"]) for member in said["members"]] == [("shared-0", 2048), ("shared-1", 2048)]
    ring = (await run(*PYBRIX, "kvcache", "ring", "shared", "--data-dir", str(it.data_dir))).checked()
    assert "shared-0" in ring
    assert "2048" in ring

    async def members() -> list[Any]:
        return list((await it.get_json("pods", "-l", "kvcache.aibrix.ai/role=cache"))["items"])

    async def is_stuck() -> bool:
        return any(pod["status"]["phase"] == "Pending" and not pod["spec"].get("nodeName") for pod in await members())

    async def is_corrected() -> bool:
        found = [pod["spec"]["affinity"] for pod in await members()]
        return len(found) == 2 and all("podAffinity" in each and "nodeAffinity" not in each for each in found)

    # No node has this GPU: the member that is rolled first would wait for ever.
    await it.kubectl(
        "patch", "kvcachepool", "shared", "--type=merge", "-p", '{"spec":{"scheduler":{"gpuType":"none"}}}'
    )
    await eventually(is_stuck, "a member finds no node")
    corrected = {"spec": {"scheduler": {"gpuType": None, "affinityWorkload": "simulated"}}}
    await it.kubectl("patch", "kvcachepool", "shared", "--type=merge", "-p", json.dumps(corrected))
    await eventually(is_corrected, "the members are of the corrected spec")
    await wait_ready(it, "shared", replicas=2)

    await it.kubectl("delete", "-f", EXAMPLE, "--timeout=60s")

    async def is_as_before() -> bool:
        return await everything(it) == before

    await eventually(is_as_before, "nothing is left", timeout_s=60)


async def apply_pools(it: Installation, specs: dict[str, Any], secrets: Sequence[dict[str, Any]] = ()) -> None:
    pool = {"apiVersion": "kvcache.aibrix.ai/v1alpha1", "kind": "KVCachePool"}
    items = [*secrets, *(pool | {"metadata": {"name": name}, "spec": spec} for name, spec in specs.items())]
    file = it.data_dir / "pools.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    await it.kubectl("apply", "-f", str(file))


@dataclass
class Brought:
    """A pool with a metadata server that somebody else runs."""

    name: str
    server: MetadataServer
    access: Server
    keys: Keys

    async def record(self) -> Record:
        return await read_record(self.access, self.keys)


async def read_record(server: Server, keys: Keys) -> Record:
    async with _store(server) as store:
        found = await store.read([keys.record])
    record = decode(found[keys.record].content)
    assert record is not None
    return record


@asynccontextmanager
async def _store(server: Server) -> AsyncIterator[Any]:
    store = open_store(server)
    try:
        yield store
    finally:
        await store.aclose()


@asynccontextmanager
async def brought_pools(it: Installation) -> AsyncIterator[list[Brought]]:
    """Apply two pools: one with an etcd behind TLS and a password, one with a Redis that asks for a password."""
    async with running("etcd", is_tls=True, password=PASSWORD) as etcd, running("redis", password=PASSWORD) as redis:
        assert etcd.certificates is not None
        client = etcd.certificates.tls
        texts = {"username": "root", "password": PASSWORD, "ca.crt": client.ca}
        texts |= {"tls.crt": client.certificate, "tls.key": client.key}
        data = {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "held"}, "data": data}
        password_only = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "password"}}
        secrets = [secret, password_only | {"data": {"password": data["password"]}}]
        tls = {"caSecretRef": {"name": "held"}, "clientSecretRef": {"name": "held"}}
        metadata = {
            "by-etcd": {"etcd": {"endpoints": [etcd.address], "tls": tls, "credentialsSecretRef": {"name": "held"}}},
            "by-redis": {"redis": {"address": redis.address, "credentialsSecretRef": {"name": "password"}}},
        }
        specs = {name: {"replicas": 1, "cache": VINEYARDD, "metadata": where} for name, where in metadata.items()}
        await apply_pools(it, specs, secrets)
        yield [
            Brought(
                "by-etcd",
                etcd,
                etcd.server(username="root", password=PASSWORD, timeout_s=5.0),
                pool_keys("etcd", ObjectKey("default", "by-etcd")),
            ),
            Brought(
                "by-redis",
                redis,
                redis.server(password=PASSWORD, timeout_s=5.0),
                pool_keys("redis", ObjectKey("default", "by-redis")),
            ),
        ]
        await it.kubectl("delete", "secret", "held", "password")


async def all_keys(server: Server) -> set[str]:
    """Return every key that a metadata server has."""
    async with _store(server) as store:
        if isinstance(store, RedisStore):
            return {key.decode() for key in await store._ask(lambda client: client.keys())}
        assert isinstance(store, EtcdStore)
        zero = base64.b64encode(b"\0").decode()
        answer = await store._call("kv/range", {"key": zero, "range_end": zero, "keys_only": True})
        return {base64.b64decode(pair["key"]).decode() for pair in answer.get("kvs", ())}


async def rotate(it: Installation, pools: list[Brought]) -> None:
    """Let the servers ask for another password, and tell it in the Secrets when the pools have seen that."""
    for pool in pools:
        async with _store(pool.access) as store:
            if isinstance(store, RedisStore):
                await store._ask(lambda client: client.config_set("requirepass", ROTATED))
                # Who is logged in already stays so.
                await store._ask(lambda client: client.execute_command("CLIENT", "KILL", "TYPE", "normal"))
                pool.server.options = (*pool.server.options, "--requirepass", ROTATED)
            else:
                await store._call("auth/user/changepw", {"name": "root", "password": ROTATED})
        pool.access = replace(pool.access, password=ROTATED)
        # Whatever is written to a pool lets it look at once.
        await it.kubectl("annotate", "kvcachepool", pool.name, "looked=now")

    async def are_refused() -> bool:
        return {(await reasons(it, pool.name))["MetadataReachable"] for pool in pools} == {"AuthenticationFailed"}

    await eventually(are_refused, "the conditions say that the password is refused")
    data = {"data": {"password": base64.b64encode(ROTATED.encode()).decode()}}
    for secret in ("held", "password"):
        await it.kubectl("patch", "secret", secret, "--type=merge", "-p", json.dumps(data))


async def patch(it: Installation, spec: dict[str, Any]) -> None:
    for name in ("by-etcd", "by-redis"):
        await it.kubectl("patch", "kvcachepool", name, "--type=merge", "-p", json.dumps({"spec": spec}))


async def reasons(it: Installation, name: str) -> dict[str, str]:
    return {c["type"]: c["reason"] for c in (await pool_status(it, name))["conditions"]}


async def outage(it: Installation, pools: list[Brought], *, lasts_s: float) -> None:
    """Stop the metadata servers while the pools grow to four, and start them again."""
    for pool in pools:
        await pool.server.stop()
    await patch(it, {"replicas": 4})

    async def are_told() -> bool:
        return {(await reasons(it, pool.name))["MetadataReachable"] for pool in pools} == {"Unreachable"}

    await eventually(are_told, "the conditions say that the servers are away", timeout_s=30)
    await asyncio.sleep(lasts_s)
    for pool in pools:
        await pool.server.start()


@asynccontextmanager
async def watching_rollouts(it: Installation, most_away: int) -> AsyncIterator[None]:
    """See every change of the members meanwhile: never are more of a pool away than that."""
    async with HttpClient(load_kubeconfig(it.data_dir / "kubeconfig")) as client:
        selector = "kvcache.aibrix.ai/role=cache"
        listed = await client.list(Pod, "default", label_selector=selector)
        ready = {pod.metadata.name: pod.is_ready for pod in listed.items}
        worst = 0

        async def follow() -> None:
            nonlocal worst
            watch = client.watch(Pod, "default", resource_version=listed.resource_version, label_selector=selector)
            async for event in watch:
                pod = event.object
                ready[pod.metadata.name] = pod.is_ready and event.type != "DELETED" and not pod.metadata.is_terminating
                for name in ("by-etcd", "by-redis"):
                    away = sum(1 for each, is_ready in ready.items() if each.startswith(name) and not is_ready)
                    worst = max(worst, away)

        following = asyncio.get_running_loop().create_task(follow())
        try:
            yield
        finally:
            following.cancel()
            await asyncio.wait([following])
        assert 0 < worst <= most_away


async def life(it: Installation, *, outage_s: float) -> None:
    before = await everything(it)
    async with brought_pools(it) as pools:
        names = [pool.name for pool in pools]
        await wait_ready(it, *names, replicas=1)
        await rotate(it, pools)
        await wait_ready(it, *names, replicas=1)
        one = [await pool.record() for pool in pools]
        await outage(it, pools, lasts_s=outage_s)
        # Redis has nothing left, and etcd all: both have the same members in the end, and later versions.
        await wait_ready(it, *names, replicas=4)
        four = [await pool.record() for pool in pools]
        await patch(it, {"replicas": 2})
        await wait_ready(it, *names, replicas=2)
        two = [await pool.record() for pool in pools]
        for first, second, third in zip(one, four, two, strict=True):
            assert first.version < second.version < third.version
            # Three quarters have to go to three new members, and half comes from the two that leave.
            assert moved(first.owners, second.owners) == 3072
            assert moved(second.owners, third.owners) == 2048

        async def are_four() -> bool:
            pods = (await it.get_json("pods"))["items"]
            return sum(pod["metadata"]["name"].rpartition("-")[0] in names for pod in pods) == 4

        # Those that left the pools are not away: they are gone.
        await eventually(are_four, "two members of each pool", timeout_s=60)
        uids = {pod["metadata"]["uid"] for pod in (await it.get_json("pods"))["items"]}
        async with watching_rollouts(it, most_away=1):
            await patch(it, {"cache": {"image": "vineyardd:2"}})

            async def are_new() -> bool:
                pods = (await it.get_json("pods"))["items"]
                return len(pods) == 4 and not uids & {pod["metadata"]["uid"] for pod in pods}

            await eventually(are_new, "every member is another one", timeout_s=60)
            await wait_ready(it, *names, replicas=2)
        for pool in pools:
            async with _store(pool.access) as store:
                assert await store.swap(f"{pool.keys.record}-of-others", b"precious", None)
        await it.kubectl("delete", "kvcachepool", *names, "--timeout=60s")
        for pool in pools:
            assert await all_keys(pool.access) == {f"{pool.keys.record}-of-others"}

    async def is_as_before() -> bool:
        return await everything(it) == before

    await eventually(is_as_before, "nothing is left", timeout_s=60)


# Any server will do that listens where it is told to: of one that is no vineyardd, the etcd asks for a password.
LISTENER = {
    "image": "kv-server:1",
    "template": {
        "spec": {
            "containers": [
                {
                    "name": "kvcache",
                    "command": ["python3", "-m", "http.server", "$(PYBRIX_KVCACHE_PORT)", "--bind", "$(MY_POD_IP)"],
                }
            ]
        }
    },
}


async def held_record(it: Installation, pool: str, kind: Kind, port: int) -> Record:
    """Return what a managed server holds, having seen that it asks for the password of the generated Secret."""
    held = (await it.get_json("secret", f"{pool}-metadata"))["data"]
    password = base64.b64decode(held["password"]).decode()
    pods = (await it.get_json("pods", "-l", f"kvcache.aibrix.ai/pool={pool},kvcache.aibrix.ai/role=metadata"))["items"]
    addresses = tuple(f"{pod['status']['podIP']}:{port}" for pod in pods)
    server = Server(kind, addresses, "root" if kind == "etcd" else "", password, timeout_s=5.0)
    keys = pool_keys(kind, ObjectKey("default", pool))
    async with _store(replace(server, username="", password="")) as store:
        with pytest.raises(AuthenticationFailed):
            await store.read([keys.record])
    return await read_record(server, keys)


async def test_managed_servers_ask_for_their_password_keep_the_membership_and_go(installation: Installation) -> None:
    it = installation
    find_redis()
    before = await everything(it)
    redis, etcd = ({"managed": {"kind": kind, "replicas": count}} for kind, count in (("redis", 1), ("etcd", 3)))
    on_redis = {"replicas": 1, "cache": VINEYARDD, "metadata": redis}
    await apply_pools(it, {"on-redis": on_redis, "on-etcd": on_redis | {"cache": LISTENER, "metadata": etcd}})
    await wait_ready(it, "on-redis", "on-etcd", replicas=1)

    async def records() -> tuple[Record, Record]:
        return await held_record(it, "on-redis", "redis", 6379), await held_record(it, "on-etcd", "etcd", 2379)

    first = await records()
    # The Redis loses its process, the etcd its quorum; both keep their data.
    ended = ("on-redis-redis-0", "on-etcd-etcd-0", "on-etcd-etcd-1")
    await it.kubectl("delete", "pod", *ended, "--timeout=60s")

    async def are_back() -> bool:
        pods = [Pod.from_dict(each) for each in (await it.get_json("pods"))["items"]]
        return {*ended} <= {pod.metadata.name for pod in pods if pod.is_ready}

    await eventually(are_back, "the metadata servers are back", timeout_s=60)
    kept: list[tuple[Record, Record]] = []

    async def is_read() -> bool:
        # A pod of an etcd is ready when it listens, which is before its members agree.
        with suppress(Unreachable, TimedOut, NoQuorum):
            kept.append(await records())
        return bool(kept)

    await eventually(is_read, "the metadata servers answer", timeout_s=60)
    assert kept == [first]
    for name in ("on-redis", "on-etcd"):
        await it.kubectl("scale", f"kvcachepool/{name}", "--replicas=2")
    await wait_ready(it, "on-redis", "on-etcd", replicas=2)
    assert [record.version - old.version for record, old in zip(await records(), first, strict=True)] == [1, 1]
    await it.kubectl("delete", "kvcachepool", "on-redis", "on-etcd", "--timeout=60s")

    async def is_as_before() -> bool:
        return await everything(it) == before

    await eventually(is_as_before, "nothing is left", timeout_s=60)


async def test_what_cache_servers_wrote_themselves_goes_when_the_pool_goes_elsewhere(
    installation: Installation,
) -> None:
    it = installation
    before = await everything(it)
    async with running("etcd") as etcd, running("redis") as redis:
        keys = pool_keys("etcd", ObjectKey("default", "joined"))
        spec = {"replicas": 2, "cache": VINEYARDD, "metadata": {"etcd": {"endpoints": [etcd.address]}}}
        await apply_pools(it, {"joined": spec})
        await wait_ready(it, "joined", replicas=2)
        assert any(key.startswith(f"{keys.servers}/") for key in await all_keys(etcd.server()))
        elsewhere = {"spec": {"metadata": {"etcd": None, "redis": {"address": redis.address}}}}
        await it.kubectl("patch", "kvcachepool", "joined", "--type=merge", "-p", json.dumps(elsewhere))

        async def is_left() -> bool:
            return not await all_keys(etcd.server())

        await eventually(is_left, "nothing is left in the etcd", timeout_s=60)
        await wait_ready(it, "joined", replicas=2)
        assert len(await all_keys(redis.server())) == 3
        await it.kubectl("delete", "kvcachepool", "joined", "--timeout=60s")
        assert await all_keys(etcd.server()) == await all_keys(redis.server()) == set()

    async def is_as_before() -> bool:
        return await everything(it) == before

    await eventually(is_as_before, "nothing is left", timeout_s=60)


SOCKETS = Path("/var/run/vineyard-kubernetes")
"""Where a KVCache has its sockets on a node, as AIBrix's engines look for them."""
PUT = """
import sys, vineyard, numpy
one = vineyard.connect(sys.argv[1])
print("sum", one.get(one.put(numpy.arange(1000))).sum())
"""


@pytest.fixture
def cache_name() -> Iterator[str]:
    """Return a name for a KVCache that nothing on this machine has; its directory on the node goes afterwards."""
    name = f"e2e-{uuid4().hex[:10]}"
    made = [path for path in (SOCKETS, SOCKETS / "default") if not path.exists()]
    directory = SOCKETS / "default" / name
    try:
        directory.mkdir(parents=True)
    except OSError as err:
        pytest.skip(f"a KVCache of vineyard needs {SOCKETS}, which cannot be written: {err}")
    try:
        yield name
    finally:
        shutil.rmtree(directory)
        for path in reversed(made):
            # Another test may use it by now.
            if not any(path.iterdir()):
                path.rmdir()


async def test_a_kvcache_of_vineyard_serves_engines_of_its_node_and_tells_its_redis(
    installation: Installation, cache_name: str
) -> None:
    it = installation
    find_redis()
    before = await everything(it)
    cache = {
        "apiVersion": "orchestration.aibrix.ai/v1alpha1",
        "kind": "KVCache",
        "metadata": {"name": cache_name},
        "spec": {"cache": VINEYARDD | {"replicas": 1}, "metadata": {"redis": {"runtime": {"image": "redis:7.4"}}}},
    }
    file = it.data_dir / "cache.json"
    file.write_text(json.dumps(cache))
    await it.kubectl("apply", "-f", str(file))
    await it.kubectl("wait", "--for=condition=Ready", f"kvcache/{cache_name}", "--timeout=60s")
    labels = f"kvcache.orchestration.aibrix.ai/name={cache_name}"
    pods = (await it.get_json("pods", "-l", labels))["items"]
    addresses = {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in pods}
    (redis,) = (name for name in addresses if name.startswith(f"{cache_name}-redis-"))
    (member,) = addresses.keys() - {redis}

    socket = SOCKETS / "default" / cache_name / "vineyard.sock"
    put = await run(sys.executable, "-c", PUT, str(socket), timeout_s=20)
    assert "sum 499500" in put.checked()
    server = Server("redis", (f"{addresses[redis]}:6379",), timeout_s=5.0)
    record = await read_record(server, cache_keys("redis", ObjectKey("default", cache_name)))
    assert [(node.name, node.addr, node.port) for node in record.nodes] == [(member, addresses[member], 9600)]
    assert set(record.owners) == set(range(4096))
    shown = (await it.kubectl("get", "kvcache", cache_name)).split()
    assert shown[:4] == ["NAME", "DESIRED", "READY", "STATUS"]
    assert shown[6:9] == ["1", "1", "Available"]
    await it.kubectl("delete", "kvcache", cache_name, "--timeout=60s")

    async def is_as_before() -> bool:
        return await everything(it) == before

    await eventually(is_as_before, "nothing is left", timeout_s=60)


async def test_pools_with_brought_servers_live_through_an_outage_scale_roll_and_go(installation: Installation) -> None:
    await life(installation, outage_s=3)


@pytest.mark.soak
async def test_a_long_outage(installation: Installation) -> None:
    await life(installation, outage_s=20)
