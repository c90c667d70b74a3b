"""KVCache: a cache of keys and values beside the engines, in the shape that AIBrix has for it."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec

from pybrix.api.conditions import OBSERVED_GENERATION, STANDARD_CONDITIONS, Int64, StandardCondition
from pybrix.api.core import IntOrString
from pybrix.api.markers import AGE, Column, CustomResource, Definition, Rule, doc
from pybrix.api.meta import GroupVersionKind, Value, Wire
from pybrix.api.names import DNS_1035_PATTERN
from pybrix.api.parts import ENV_VAR, RESOURCES
from pybrix.api.templates import PodTemplate

DEFAULT_IMAGE = "aibrix/kvcache:20241120"
_HAS_ADDRESS = "has(self.externalConnection.address) && self.externalConnection.address != ''"


class RuntimeSpec(Value, frozen=True):
    """Pods of one part of the cache."""

    rules: ClassVar = (
        Rule(
            "has(self.template) || !has(self.imagePullPolicy) || "
            "self.imagePullPolicy in ['', 'Always', 'IfNotPresent', 'Never']",
            "imagePullPolicy must be Always, IfNotPresent or Never",
            ".imagePullPolicy",
        ),
    )

    replicas: Annotated[int, doc("Pods that run.", default=1, minimum=0)] = 1
    image: Annotated[str, doc("Image of the pods.")] = ""
    image_pull_policy: Annotated[str, doc("Always, IfNotPresent or Never.", default="IfNotPresent")] = "IfNotPresent"
    env: Annotated[list[dict[str, Any]], doc("Environment variables.", default=[], items=ENV_VAR)] = []
    resources: Annotated[dict[str, Any], doc("Compute resources of the pods.", schema=RESOURCES)] = {}
    template: Annotated[PodTemplate | None, doc("Replaces the whole built template of the pods.")] = None


class ExternalConnection(Value, frozen=True):
    """A server that runs elsewhere."""

    address: Annotated[str, doc("host:port of the server.", maxLength=512)] = ""
    password_secret_ref: Annotated[
        str,
        doc(
            "`secret` or `secret/key`: where the password is; the key is `password` when absent.",
            maxLength=512,
            pattern="^([^/]+(/[^/]+)?)?$",
        ),
    ] = ""


class MetadataServer(Value, frozen=True):
    """A metadata server: one that runs elsewhere, or pods that are made."""

    rules: ClassVar = (
        Rule(
            f"has(self.runtime) || (has(self.externalConnection) && {_HAS_ADDRESS})",
            "set runtime to run a server in the cluster, or externalConnection.address to use one that runs elsewhere",
        ),
    )

    external_connection: Annotated[ExternalConnection | None, doc("A server that runs elsewhere.")] = None
    runtime: Annotated[RuntimeSpec | None, doc("Pods of the server.")] = None


class KVCacheMetadata(Value, frozen=True):
    """Where the cache keeps track of its members."""

    rules: ClassVar = (
        Rule("has(self.etcd) || has(self.redis)", "metadata needs etcd or redis; leave it out for neither"),
        Rule(
            "!has(self.redis) || !has(self.redis.externalConnection) || "
            "!has(self.redis.externalConnection.address) || self.redis.externalConnection.address == '' || "
            "self.redis.externalConnection.address.matches('^([^: /]+|[[][0-9a-fA-F:.]+[]]):[0-9]{1,5}$')",
            "the address of a Redis is host:port, such as redis.storage:6379",
            ".redis.externalConnection.address",
        ),
    )

    redis: Annotated[MetadataServer | None, doc("Keep it in Redis.")] = None
    etcd: Annotated[MetadataServer | None, doc("Keep it in etcd.")] = None


class KVCacheServicePort(Value, frozen=True):
    """A port of the cache's Service."""

    port: Annotated[int, doc("Port of the Service.", minimum=1, maximum=65535)]
    name: Annotated[str, doc("Name of the port.")] = ""
    protocol: Annotated[str, doc("TCP, UDP or SCTP.", default="TCP")] = "TCP"
    target_port: Annotated[IntOrString | None, doc("Number or name of the pods' port; `port` when absent.")] = None
    node_port: Annotated[int, doc("Port on every node.")] = 0
    app_protocol: Annotated[str, doc("Protocol that is spoken on it.")] = ""


class KVCacheService(Value, frozen=True):
    """The Service of the cache."""

    ports: Annotated[
        list[KVCacheServicePort], doc("Ports of the Service.", minItems=1, maxItems=64, map_keys=["port", "protocol"])
    ]
    type: Annotated[
        str,
        doc(
            "ClusterIP, NodePort or LoadBalancer.",
            Rule(
                "self in ['', 'ClusterIP', 'NodePort', 'LoadBalancer']",
                "type must be ClusterIP, NodePort or LoadBalancer",
            ),
            default="ClusterIP",
            maxLength=63,
        ),
    ] = "ClusterIP"


class KVCacheSpec(Wire):
    """Pods of the cache, its metadata and its Service."""

    mode: Annotated[str, doc("Accepted for compatibility; the annotation decides.", default="distributed")] = (
        "distributed"
    )
    metadata: Annotated[KVCacheMetadata | None, doc("Where the cache keeps track of its members.")] = None
    cache: Annotated[
        RuntimeSpec,
        doc("Pods of the cache.", default={"image": DEFAULT_IMAGE, "imagePullPolicy": "IfNotPresent"}),
    ] = RuntimeSpec(image=DEFAULT_IMAGE)
    watcher: Annotated[RuntimeSpec | None, doc("Pod that registers members in Redis.")] = None
    service: Annotated[KVCacheService | None, doc("The Service of the cache.")] = None


class KVCacheStatus(Wire):
    """How the cache is."""

    observed_generation: Annotated[Int64, OBSERVED_GENERATION] = 0
    current: Annotated[int, doc("Ready pods of the cache.")] = 0
    conditions: Annotated[list[StandardCondition], STANDARD_CONDITIONS] = []


class KVCache(CustomResource):
    """Run a cache of keys and values that engines share."""

    gvk: ClassVar = GroupVersionKind("orchestration.aibrix.ai", "v1alpha1", "KVCache", "kvcaches")
    definition: ClassVar = Definition(
        columns=(
            Column("Desired", "integer", ".spec.cache.replicas"),
            Column("Ready", "integer", ".status.current"),
            Column("Status", "string", ".status.conditions[?(@.type=='Ready')].reason"),
            Column("Membership", "string", ".status.conditions[?(@.type=='MembershipPublished')].message", priority=1),
            AGE,
        ),
        # The longest Service that every backend can make is `<name>-etcd-service`.
        name={"maxLength": 50, "pattern": DNS_1035_PATTERN},
    )
    spec: Annotated[KVCacheSpec, doc("Pods of the cache, its metadata and its Service.")] = msgspec.field(
        default_factory=KVCacheSpec
    )
    status: Annotated[KVCacheStatus, doc("How the cache is.")] = msgspec.field(default_factory=KVCacheStatus)
