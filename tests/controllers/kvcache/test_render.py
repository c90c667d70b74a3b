"""What is made of a KVCache: AIBrix's names and environment, without its faults."""

from __future__ import annotations

from typing import Any

import pytest

from pybrix.api.config import KVCacheConfiguration
from pybrix.api.core import Pod
from pybrix.api.orchestration.v1alpha1.kvcache import KVCache
from pybrix.controllers.cachecluster.blueprint import Blueprint, Seen
from pybrix.controllers.cachecluster.members import members_of
from pybrix.controllers.credentials import Credentials
from pybrix.controllers.kvcache.render import blueprint
from pybrix.controllers.unsupported import unsupported_fields

PREFIX = "kvcache.orchestration.aibrix.ai"
REDIS = {"redis": {"runtime": {"image": "redis:7"}}}
ETCD = {"etcd": {"runtime": {"replicas": 3}}}


def make(backend: str = "", annotations: dict[str, str] | None = None, **spec: Any) -> KVCache:
    found = {f"{PREFIX}/backend": backend} if backend else {}
    metadata = {"name": "c", "namespace": "team", "uid": "u1", "annotations": {**found, **(annotations or {})}}
    return KVCache.from_dict({"metadata": metadata, "spec": {"cache": {"image": "img", "replicas": 2}, **spec}})


def draw(cache: KVCache, seen: Seen | None = None) -> Blueprint:
    return blueprint(cache, seen or Seen(), KVCacheConfiguration())


def children(cache: KVCache) -> dict[str, Any]:
    return {f"{c['kind']} {c['metadata']['name']}": c for c in draw(cache).children}


def container(cache: KVCache) -> dict[str, Any]:
    found = draw(cache)
    manifest = next(c for c in found.children if (c["kind"], c["metadata"]["name"]) == found.workload)
    (only,) = manifest["spec"]["template"]["spec"]["containers"]
    return dict(only)


def env(cache: KVCache) -> dict[str, Any]:
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container(cache)["env"]}


def pod(name: str, ip: str, role: str = "cache", **metadata: Any) -> Pod:
    labels = {f"{PREFIX}/name": "c", f"{PREFIX}/role": role}
    status = {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": "True"}]}
    return Pod.from_dict({"metadata": {"name": name, "uid": name, "labels": labels, **metadata}, "status": status})


@pytest.mark.parametrize(
    ("cache", "names"),
    [
        (
            make(metadata=ETCD),
            {"StatefulSet c-etcd", "Service c-etcd-peers", "Service c-etcd-service", "Service c-rpc", "Deployment c"},
        ),
        (make(), {"Service c-rpc", "Deployment c"}),
        (
            make("infinistore", metadata=REDIS),
            {
                "StatefulSet c-redis",
                "Service c-redis",
                "Service c-redis-peers",
                "Service c-headless-service",
                "StatefulSet c",
            },
        ),
        (
            make("hpkv", metadata={"redis": {"externalConnection": {"address": "r:6379"}}}),
            {"Service c-headless-service", "StatefulSet c"},
        ),
        (
            make("hpkv", service={"type": "LoadBalancer", "ports": [{"name": "s", "port": 18512}]}),
            {"Service c-headless-service", "Service c-service", "StatefulSet c"},
        ),
    ],
    ids=[
        "vineyard with etcd",
        "vineyard alone",
        "infinistore with redis",
        "hpkv with a brought redis",
        "seen from outside",
    ],
)
def test_children(cache: KVCache, names: set[str]) -> None:
    assert set(children(cache)) == names


def test_a_headless_service_is_headless_whatever_the_type() -> None:
    found = children(
        make("hpkv", service={"type": "LoadBalancer", "ports": [{"name": "s", "port": 1, "nodePort": 31000}]})
    )
    assert found["Service c-headless-service"]["spec"]["clusterIP"] == "None"
    assert "nodePort" not in found["Service c-headless-service"]["spec"]["ports"][0]
    assert found["Service c-service"]["spec"]["type"] == "LoadBalancer"


def test_members_have_stable_names() -> None:
    assert children(make("infinistore"))["StatefulSet c"]["spec"]["serviceName"] == "c-headless-service"


def test_the_etcd_of_vineyard_is_one_cluster() -> None:
    found = children(make(metadata=ETCD))["StatefulSet c-etcd"]["spec"]
    command = found["template"]["spec"]["containers"][0]["command"]
    peers = ",".join(f"c-etcd-{n}=http://c-etcd-{n}.c-etcd-peers.team.svc:2380" for n in range(3))
    assert f"--initial-cluster={peers}" in command
    assert found["replicas"] == 3
    assert found["template"]["spec"]["containers"][0]["image"] == "img"


def test_vineyardd() -> None:
    cache = make(metadata=ETCD, cache={"image": "img", "resources": {"limits": {"memory": "10Gi"}}})
    command = container(cache)["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options == {
        "--size": str(int(10 * 2**30 * 0.8)),
        "--socket": "/var/run/vineyard.sock",
        "--rpc_socket_port": "9600",
        "--meta": "etcd",
        "--etcd_endpoint": "http://c-etcd-service.team.svc:2379",
        "--etcd_prefix": "/vineyard",
    }
    wanted = {"VINEYARDD_UID": "u1", "VINEYARDD_NAME": "c", "VINEYARDD_NAMESPACE": "team"}
    assert wanted.items() <= env(cache).items()
    assert env(cache)["MY_HOST_NAME"] == {"fieldRef": {"fieldPath": "status.podIP"}}
    secured = make(metadata={"etcd": {"externalConnection": {"address": "https://e:2379"}}})
    assert container(secured)["command"][-2:] == ["--meta", "local"]


def test_infinistore() -> None:
    annotations = {f"infinistore.{PREFIX}/link-type": "IB", f"infinistore.{PREFIX}/hint-gid-index": "x"}
    resources = {"limits": {"memory": "64Gi", "vke.volcengine.com/rdma": "1"}}
    cache = make(
        "infinistore", annotations, cache={"image": "i", "resources": resources, "env": [{"name": "A", "value": "b"}]}
    )
    found = container(cache)
    assert found["args"][-6:] == ["--link-type", "IB", "--hint-gid-index", "7", "--prealloc-size", "57"]
    # AIBrix loses what people set.
    assert env(cache)["A"] == "b"
    assert env(cache)["AIBRIX_KVCACHE_RDMA_PORT"] == "12345"
    assert found["securityContext"]["capabilities"]["add"] == ["IPC_LOCK", "SYS_RESOURCE"]
    template = children(cache)["StatefulSet c"]["spec"]["template"]
    assert "k8s.volcengine.com/pod-networks" in template["metadata"]["annotations"]


def test_hpkv() -> None:
    annotations = {
        f"hpkv.{PREFIX}/rdma-port": "20000",
        f"hpkv.{PREFIX}/total-slots": "512",
        f"hpkv.{PREFIX}/admin-port": "0",
    }
    cache = make("hpkv", annotations)
    assert env(cache)["AIBRIX_KVCACHE_RDMA_PORT"] == "20000"
    assert env(cache)["AIBRIX_KVCACHE_ADMIN_PORT"] == "9100"
    assert draw(cache).slots == 512
    status = '[{"cniName":"rdma","ifName":"eth1","ips":["33.1.1.1"]},{"ifName":"eth0","ips":["10.0.0.1"]}]'
    pods = [pod("c-0", "10.0.0.1", annotations={"k8s.volcengine.com/network-status": status}), pod("c-1", "10.0.0.2")]
    found = members_of(pods, draw(cache).members)
    assert [(m.name, m.addr, m.port) for m in found] == [("c-0", "33.1.1.1", 20000), ("c-1", "10.0.0.2", 20000)]


def test_a_template_replaces_the_built_one_but_for_the_labels() -> None:
    template = {"metadata": {"labels": {"x": "y"}}, "spec": {"containers": [{"name": "own"}]}}
    found = children(make("hpkv", cache={"replicas": 1, "template": template}))["StatefulSet c"]["spec"]["template"]
    assert found["spec"] == {"containers": [{"name": "own"}]}
    assert found["metadata"]["labels"] == {"x": "y", f"{PREFIX}/name": "c", f"{PREFIX}/role": "cache"}


def test_affinity_of_the_annotations() -> None:
    annotations = {
        f"{PREFIX}/node-affinity-gpu-type": "A10",
        f"{PREFIX}/pod-affinity-workload": "llama",
        f"{PREFIX}/pod-anti-affinity": "true",
    }
    spec = children(make("", annotations))["Deployment c"]["spec"]["template"]["spec"]
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    (term,) = spec["affinity"]["nodeAffinity"][required]["nodeSelectorTerms"]
    assert term["matchExpressions"][0]["key"] == "machine.cluster.vke.volcengine.com/gpu-name"
    assert spec["affinity"]["podAffinity"][required]
    assert spec["affinity"]["podAntiAffinity"][required]


def test_members_of_vineyard_share_no_node() -> None:
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    spec = children(make())["Deployment c"]["spec"]["template"]["spec"]
    assert spec["affinity"]["podAntiAffinity"][required][0]["topologyKey"] == "kubernetes.io/hostname"
    assert "affinity" not in children(make("hpkv"))["StatefulSet c"]["spec"]["template"]["spec"]


@pytest.mark.parametrize(
    ("backend", "metadata", "key"),
    [
        ("infinistore", REDIS, "kvcache_nodes"),
        ("hpkv", REDIS, "hpkv_cluster_metadata"),
        ("vineyard", REDIS, "pybrix.kvcache:{team/c}:membership"),
        ("vineyard", ETCD, "/pybrix.kvcache/team/c/membership"),
    ],
)
def test_keys_are_those_that_engines_look_for(backend: str, metadata: dict[str, Any], key: str) -> None:
    found = draw(make(backend, metadata=metadata))
    assert found.keys is not None
    assert found.keys.record == key


def test_a_brought_redis_with_its_password_and_database() -> None:
    external = {"address": "r.storage:6380", "passwordSecretRef": "held/pw"}
    watcher = {"image": "w", "env": [{"name": "REDIS_DATABASE", "value": "3"}]}
    cache = make("hpkv", metadata={"redis": {"externalConnection": external}}, watcher=watcher)
    missing = draw(cache, Seen(secrets={"held": Credentials({})}))
    assert missing.problem is not None
    assert "has no pw" in missing.problem.message
    found = draw(cache, Seen(secrets={"held": Credentials({"pw": "s"})})).server
    assert found is not None
    assert (found.addresses, found.password, found.database) == (("r.storage:6380",), "s", 3)
    # The watcher itself is not run, and the object says so.
    assert "spec.watcher.image" in {field.path for field in unsupported_fields(cache)}


def test_pods_that_aibrix_made_go() -> None:
    owner = {
        "apiVersion": "orchestration.aibrix.ai/v1alpha1",
        "kind": "KVCache",
        "name": "c",
        "uid": "u1",
        "controller": True,
    }
    watcher = pod("c-kvcache-watcher-pod", "10.0.0.9", "kvwatcher", ownerReferences=[owner])
    assert draw(make("hpkv"), Seen(pods=(watcher, pod("c-0", "10.0.0.1")))).legacy_pods == (watcher.uid,)


def test_mistakes_are_named() -> None:
    assert "there are vineyard, infinistore, hpkv" in draw(make("memcached")).invalid
    assert (
        "'redis' is not host:port"
        in draw(make(metadata={"redis": {"externalConnection": {"address": "redis"}}})).invalid
    )
    assert "set runtime" in draw(make(metadata={"redis": {}})).invalid


@pytest.mark.parametrize("backend", ["vineyard", "infinistore", "hpkv"])
def test_a_rollout_waits_until_members_have_their_slots(backend: str) -> None:
    found = children(make(backend))
    assert found["Deployment c" if backend == "vineyard" else "StatefulSet c"]["spec"]["minReadySeconds"] == 3


def test_members_are_rolled_when_the_etcd_of_vineyard_is_made_anew() -> None:
    def template(metadata: dict[str, Any] | None) -> Any:
        return children(make(metadata=metadata))["Deployment c"]["spec"]["template"]

    one, three = template({"etcd": {"runtime": {"replicas": 1}}}), template(ETCD)
    assert one["spec"] == three["spec"]
    assert one["metadata"] != three["metadata"]
    # What vineyardd keeps to itself is not lost with the server.
    for elsewhere in (None, REDIS, {"etcd": {"externalConnection": {"address": "e:2379"}}}):
        assert "annotations" not in template(elsewhere)["metadata"]
