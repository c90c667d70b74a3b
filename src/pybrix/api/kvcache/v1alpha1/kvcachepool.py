"""KVCachePool: cache servers that engines share, with their membership kept in etcd or Redis."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec

from pybrix.api.conditions import OBSERVED_GENERATION, STANDARD_CONDITIONS, Int64, StandardCondition, Time
from pybrix.api.markers import AGE, Column, CustomResource, Definition, Rule, Scale, doc
from pybrix.api.meta import GroupVersionKind, Value, Wire
from pybrix.api.parts import ENV_VAR, LABEL_KEY_PATTERN, RESOURCES, SECRET_REFERENCE
from pybrix.api.references import SecretReference
from pybrix.api.templates import PodTemplate

DEFAULT_PORT = 9600
DEFAULT_MANAGED_REPLICAS = 1
DEFAULT_STORAGE = "1Gi"
_HOST_PORT = r"([^\s:/]+|\[[0-9a-fA-F:.]+\]):[0-9]{1,5}"


class PoolService(Value, frozen=True):
    """The Service of the pool."""

    type: Annotated[
        str,
        doc("Type of the Service.", default="ClusterIP", enum=["ClusterIP", "NodePort", "LoadBalancer"]),
    ] = "ClusterIP"
    port: Annotated[
        int, doc("Port of the Service and of the cache servers.", default=DEFAULT_PORT, minimum=1, maximum=65535)
    ] = DEFAULT_PORT


class PoolCache(Value, frozen=True):
    """The cache servers."""

    image: Annotated[str, doc("Image of the cache servers.", minLength=1)]
    image_pull_policy: Annotated[
        str,
        doc("When the image is pulled.", default="IfNotPresent", enum=["Always", "IfNotPresent", "Never"]),
    ] = "IfNotPresent"
    env: Annotated[list[dict[str, Any]], doc("Environment variables.", items=ENV_VAR)] = []
    resources: Annotated[dict[str, Any], doc("Compute resources of each cache server.", schema=RESOURCES)] = {}
    template: Annotated[
        PodTemplate | None, doc("Merged over the built template of the pods: volumes, tolerations and the like.")
    ] = None


class PoolScheduler(Value, frozen=True):
    """Where the cache servers run."""

    gpu_type: Annotated[str, doc("GPU model of the nodes, such as NVIDIA-A10.", maxLength=63)] = ""
    gpu_type_key: Annotated[
        str,
        doc(
            "Label of nodes that holds the GPU model; the one that the controllers are configured with when absent.",
            maxLength=317,
            pattern=f"^({LABEL_KEY_PATTERN.removeprefix('^').removesuffix('$')})?$",
        ),
    ] = ""
    affinity_workload: Annotated[
        str, doc("Model (label `model.aibrix.ai/name`) whose pods the cache servers run beside.", maxLength=63)
    ] = ""


class TlsConfig(Value, frozen=True):
    """How the connection to the metadata store is secured."""

    enabled: Annotated[bool, doc("Connect by TLS.", default=True)] = True
    ca_secret_ref: Annotated[
        SecretReference | None,
        doc("Secret whose `ca.crt` is trusted; the system's authorities when absent.", schema=SECRET_REFERENCE),
    ] = None
    client_secret_ref: Annotated[
        SecretReference | None,
        doc("Secret with `tls.crt` and `tls.key` to present.", schema=SECRET_REFERENCE),
    ] = None
    server_name: Annotated[str, doc("Name in the server's certificate, when it is not the host's.", maxLength=253)] = ""


class EtcdMetadata(Value, frozen=True):
    """An etcd that runs elsewhere."""

    endpoints: Annotated[
        list[str],
        doc(
            "host:port of the members, with or without http:// or https://.",
            minItems=1,
            maxItems=32,
            items={"maxLength": 512, "pattern": f"^(https?://)?{_HOST_PORT}/?$"},
            list_type="set",
        ),
    ]
    prefix: Annotated[
        str, doc("Prefix of the keys; `/pybrix/<namespace>/<name>` when absent.", maxLength=512, pattern="^(/.*)?$")
    ] = ""
    tls: Annotated[TlsConfig | None, doc("How the connection is secured.")] = None
    credentials_secret_ref: Annotated[
        SecretReference | None, doc("Secret with `username` and `password`.", schema=SECRET_REFERENCE)
    ] = None


class RedisMetadata(Value, frozen=True):
    """A Redis that runs elsewhere."""

    rules: ClassVar = (
        Rule(
            "self.mode != 'Sentinel' || (has(self.masterName) && self.masterName != '')",
            "Sentinels know several masters: set masterName",
            ".masterName",
        ),
        Rule("self.mode != 'Cluster' || self.database == 0", "a Redis Cluster has database 0 only", ".database"),
    )

    address: Annotated[
        str,
        doc("host:port of the server, of a Sentinel, or of a node.", maxLength=512, pattern=f"^{_HOST_PORT}$"),
    ]
    mode: Annotated[
        str,
        doc(
            "What answers there: one server, Sentinels that know a master, or nodes of a Redis Cluster.",
            default="Standalone",
            enum=["Standalone", "Sentinel", "Cluster"],
        ),
    ] = "Standalone"
    addresses: Annotated[
        list[str],
        doc(
            "host:port of further Sentinels or nodes.",
            maxItems=32,
            items={"maxLength": 512, "pattern": f"^{_HOST_PORT}$"},
            list_type="set",
        ),
    ] = []
    master_name: Annotated[str, doc("Name of the master, as Sentinels know it.", maxLength=253)] = ""
    sentinel_secret_ref: Annotated[
        SecretReference | None,
        doc("Secret with the `password` of the Sentinels, where they ask for one.", schema=SECRET_REFERENCE),
    ] = None
    database: Annotated[int, doc("Number of the database.", default=0, minimum=0)] = 0
    tls: Annotated[TlsConfig | None, doc("How the connection is secured.")] = None
    credentials_secret_ref: Annotated[
        SecretReference | None,
        doc("Secret with `password`, and `username` where there is one.", schema=SECRET_REFERENCE),
    ] = None


class ManagedMetadata(Value, frozen=True):
    """A metadata store that is made with the pool."""

    rules: ClassVar = (
        Rule(
            "self.kind != 'etcd' || self.replicas % 2 == 1",
            "etcd decides by majority: replicas must be odd",
            ".replicas",
        ),
        Rule("self.kind != 'redis' || self.replicas == 1", "a managed Redis has one replica", ".replicas"),
    )

    kind: Annotated[str, doc("What is run.", default="etcd", enum=["etcd", "redis"])] = "etcd"
    replicas: Annotated[int, doc("Members of the store.", default=DEFAULT_MANAGED_REPLICAS, minimum=1, maximum=9)] = (
        DEFAULT_MANAGED_REPLICAS
    )
    image: Annotated[str, doc("Image of the store; one that fits when absent.")] = ""
    storage: Annotated[
        str,
        doc(
            "Size of each member's volume; 0 keeps the data in the pod, where it ends with it.",
            default=DEFAULT_STORAGE,
            maxLength=32,
            pattern="^[0-9]+(\\.[0-9]+)?([KMGTPE]i?)?$",
        ),
    ] = DEFAULT_STORAGE
    resources: Annotated[dict[str, Any], doc("Compute resources of each member.", schema=RESOURCES)] = {}


class PoolMetadata(Value, frozen=True):
    """Where the pool keeps its membership: exactly one of these."""

    rules: ClassVar = (
        Rule(
            "[has(self.etcd), has(self.redis), has(self.managed)].filter(x, x).size() == 1",
            "set exactly one of etcd, redis and managed, or leave metadata out for a managed etcd",
        ),
    )

    etcd: Annotated[EtcdMetadata | None, doc("An etcd that runs elsewhere.")] = None
    redis: Annotated[RedisMetadata | None, doc("A Redis that runs elsewhere.")] = None
    managed: Annotated[ManagedMetadata | None, doc("A store that is made with the pool.")] = None


class KVCachePoolSpec(Wire):
    """How many cache servers, where they run, and where their membership is kept."""

    cache: Annotated[PoolCache, doc("The cache servers.")]
    replicas: Annotated[int, doc("Cache servers that run.", default=1, minimum=0)] = 1
    service: Annotated[PoolService, doc("The Service of the pool.", default={})] = PoolService()
    scheduler: Annotated[PoolScheduler | None, doc("Where the cache servers run.")] = None
    metadata: Annotated[PoolMetadata | None, doc("Where membership is kept; a managed etcd when absent.")] = None

    @property
    def effective_metadata(self) -> PoolMetadata:
        """Return where membership is kept, with the default filled in."""
        return self.metadata or PoolMetadata(managed=ManagedMetadata())


class PoolMetadataStatus(Value, frozen=True):
    """How the metadata store is."""

    kind: Annotated[str, doc("etcd or redis.")] = ""
    reachable: Annotated[bool, doc("Whether it answered last time.")] = False
    address: Annotated[str, doc("Where it is.")] = ""
    message: Annotated[str, doc("Why it cannot be reached.")] = ""
    latency_milliseconds: Annotated[
        int, doc("How long its answers take, roughly: 1, 2, 5, 10, 20 and so on.", minimum=0)
    ] = 0
    last_contact_time: Annotated[Time | None, doc("When it last answered.")] = None


class PoolMember(Value, frozen=True):
    """A cache server that is published."""

    name: Annotated[str, doc("Name of its pod.")]
    address: Annotated[str, doc("host:port where it answers.")] = ""
    slots: Annotated[int, doc("Slots that it has.", minimum=0)] = 0


class KVCachePoolStatus(Wire):
    """How the pool is."""

    observed_generation: Annotated[Int64, OBSERVED_GENERATION] = 0
    phase: Annotated[str, doc("Pending, Progressing, Running, Degraded or Failed.")] = ""
    replicas: Annotated[int, doc("Cache servers.")] = 0
    ready_replicas: Annotated[int, doc("Cache servers that are ready.")] = 0
    selector: Annotated[str, doc("Label selector of the cache servers, for autoscalers.")] = ""
    endpoints: Annotated[list[str], doc("host:port of the ready cache servers.")] = []
    metadata: Annotated[PoolMetadataStatus | None, doc("How the metadata store is.")] = None
    membership_version: Annotated[Int64, doc("Version of the published membership; it grows with every change.")] = 0
    members: Annotated[list[PoolMember], doc("The cache servers as they are published, with their slots.")] = []
    conditions: Annotated[list[StandardCondition], STANDARD_CONDITIONS] = []


class KVCachePool(CustomResource, kw_only=True):
    """Run cache servers that engines share, and publish which of them there are."""

    gvk: ClassVar = GroupVersionKind("kvcache.aibrix.ai", "v1alpha1", "KVCachePool", "kvcachepools")
    definition: ClassVar = Definition(
        short_names=("kvp",),
        columns=(
            Column("Desired", "integer", ".spec.replicas"),
            Column("Ready", "integer", ".status.readyReplicas"),
            Column("Metadata", "string", ".status.metadata.kind"),
            Column("Membership", "integer", ".status.membershipVersion"),
            Column("Phase", "string", ".status.phase"),
            Column("Status", "string", ".status.conditions[?(@.type=='Ready')].reason", priority=1),
            AGE,
        ),
        scale=Scale(selector=".status.selector"),
        # The names of the Services and pods that are made add up to 17 characters.
        name={"maxLength": 46, "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$"},
    )
    spec: Annotated[KVCachePoolSpec, doc("How many cache servers, where they run, and where their membership is kept.")]
    status: Annotated[KVCachePoolStatus, doc("How the pool is.")] = msgspec.field(default_factory=KVCachePoolStatus)
