"""What can be chosen about an installation: one versioned document, for `pybrix install` and for the Helm chart. Pure.

The docstring under each field is what its line in `values.yaml` and the reference say.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

import pybrix
from pybrix.api.config import ControllersConfiguration, GatewayConfiguration, Port
from pybrix.api.meta import Value

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
_OBJECT_NAME = r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?)?$"

Replicas = Annotated[int, Meta(ge=1, le=100)]
Namespace = Annotated[str, Meta(pattern=DNS_LABEL)]
ObjectName = Annotated[str, Meta(pattern=_OBJECT_NAME)]
Quantity = Annotated[str, Meta(pattern=r"^[0-9]+(\.[0-9]+)?([numkMGTPE]|[KMGTPE]i)?$")]
Strings = dict[str, str]
Toleration = dict[str, Any]

# The address and port in the pod are not a matter of taste: the Service is what clients see.
RESERVED = {
    "gateway.configuration": {
        "apiVersion": "",
        "kind": "",
        "address": "gateway.service.type",
        "port": "gateway.service.port",
        "namespaces": "gateway.namespaces",
        "tlsCertificatePath": "gateway.tls.secretName",
        "tlsKeyPath": "gateway.tls.secretName",
    },
    "gateway.configuration.redis": {
        "address": "redis.address",
        "passwordPath": "redis.passwordSecret",
        "isTls": "redis.tls.enabled",
        "tlsCaPath": "redis.tls.caSecret",
    },
    "gateway.configuration.identity": {
        "usersAddress": "gateway.adminTokenSecret",
        "usersPort": "gateway.usersPort",
        "adminTokenPath": "gateway.adminTokenSecret",
    },
    "gateway.configuration.statesync": {"instance": "", "peersDir": ""},
    "controllers.configuration": {
        "apiVersion": "",
        "kind": "",
        "namespaces": "controllers.namespaces",
        "leaderElection": "",
        "healthAddress": "",
        "healthPort": "",
        "healthSocket": "",
    },
}
"""Fields of a component's configuration that the installation decides -> the value to set instead, if there is one."""


class Image(Value, frozen=True):
    """The image of controllers and gateway; `Containerfile` builds it."""

    repository: Annotated[str, Meta(pattern=r"^[a-z0-9][a-zA-Z0-9._:/-]*[a-z0-9]$")] = "ghcr.io/pybrix/pybrix"
    """Registry and repository."""
    tag: Annotated[str, Meta(pattern=r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$")] = pybrix.__version__
    """Tag; a label of the objects has it, too."""
    digest: Annotated[str, Meta(pattern=r"^(sha256:[0-9a-f]{64})?$")] = ""
    """Digest such as sha256:...; with one the tag does not count."""
    pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    """When the image is pulled."""
    pull_secrets: list[Namespace] = []
    """Names of Secrets with credentials of the registry."""


class Resources(Value, frozen=True):
    """What a container asks for and may use."""

    requests: dict[str, Quantity] = {}
    """What the scheduler sets aside."""
    limits: dict[str, Quantity] = {}
    """What the container may use at most."""


class Controllers(Value, frozen=True):
    """The controllers of the custom resources; one of the replicas works, the others wait."""

    replicas: Replicas = 2
    """Processes; the Lease decides which one works."""
    namespaces: list[Namespace] = []
    """Namespaces whose objects they work on, with Roles there in place of a ClusterRole; empty means all."""
    configuration: ControllersConfiguration = ControllersConfiguration()
    """Fields of ControllersConfiguration that the installation does not decide itself."""
    resources: Resources = Resources(requests={"cpu": "100m", "memory": "128Mi"}, limits={"memory": "512Mi"})
    """What the container asks for and may use."""
    node_selector: Strings = {}
    """Labels that a node must have."""
    tolerations: list[Toleration] = []
    """Taints that do not matter."""
    priority_class_name: ObjectName = ""
    """Priority class of the pods."""
    pod_annotations: Strings = {}
    """Annotations of the pods."""


class GatewayService(Value, frozen=True):
    """The Service that clients connect to."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"
    """Type of the Service."""
    port: Port = 80
    """Port that clients connect to; 443 is usual with TLS."""
    annotations: Strings = {}
    """Annotations of the Service, such as those of a cloud's load balancer."""
    load_balancer_source_ranges: list[str] = []
    """Address ranges that may connect to a LoadBalancer; empty means all."""


class GatewayTls(Value, frozen=True):
    """TLS between clients and the gateway."""

    secret_name: ObjectName = ""
    """Secret of type kubernetes.io/tls; empty for plain HTTP."""


class Gateway(Value, frozen=True):
    """The gateway; each of its pods is an Envoy and a brain."""

    replicas: Replicas = 2
    """Pods; all of them serve."""
    namespaces: list[Namespace] = []
    """Namespaces whose pods are routed to, with Roles there in place of a ClusterRole; empty means all."""
    configuration: GatewayConfiguration = GatewayConfiguration()
    """Fields of GatewayConfiguration that the installation does not decide itself."""
    service: GatewayService = GatewayService()
    """The Service that clients connect to."""
    tls: GatewayTls = GatewayTls()
    """TLS between clients and the gateway."""
    admin_token_secret: ObjectName = ""
    """Secret of your own with the key `token`, 16 characters or more: what the API for users and API keys asks for, and
    explanations in answers (`x-pybrix-explain`). Empty: neither is there."""
    users_port: Annotated[int, Meta(ge=0, le=65535)] = 8090
    """Port of the Service `pybrix-gateway-users`, which has the API for users and API keys inside the cluster, where
    there is an admin token; 0 for none."""
    endpoint_removal_s: Annotated[int, Meta(ge=0, le=300)] = 5
    """How long a pod that ends takes new connections, until load balancers have noticed."""
    envoy_resources: Resources = Resources(requests={"cpu": "500m", "memory": "256Mi"}, limits={"memory": "1Gi"})
    """What Envoy asks for and may use."""
    brain_resources: Resources = Resources(requests={"cpu": "250m", "memory": "256Mi"}, limits={"memory": "1Gi"})
    """What the brain asks for and may use."""
    node_selector: Strings = {}
    """Labels that a node must have."""
    tolerations: list[Toleration] = []
    """Taints that do not matter."""
    priority_class_name: ObjectName = ""
    """Priority class of the pods."""
    pod_annotations: Strings = {}
    """Annotations of the pods."""


class RedisTls(Value, frozen=True):
    """TLS between gateways and a Redis of your own."""

    enabled: bool = False
    """Whether connections to `redis.address` are encrypted and the server's certificate is verified."""
    ca_secret: ObjectName = ""
    """Secret with the key `ca.crt`: the certificates that the server's must be signed by. Empty: those of the image."""


class RedisStorage(Value, frozen=True):
    """The disk of the Redis that is installed."""

    size: Annotated[str, Meta(pattern=r"^([0-9]+(\.[0-9]+)?([kMGTPE]|[KMGTPE]i)?)?$")] = ""
    """Size of a PersistentVolumeClaim, such as 2Gi; four times `redis.maxMemory` is enough. Empty: what Redis holds
    goes with its pod. Gateways that run write API keys back; users are lost."""
    class_name: ObjectName = ""
    """Storage class of the claim; empty for the cluster's default."""


class Redis(Value, frozen=True):
    """What gateways share: users, API keys, limits. One is installed when there is no address, and more than one
    gateway or a size of storage."""

    address: Annotated[str, Meta(pattern=r"^([A-Za-z0-9.-]+:[0-9]{1,5})?$")] = ""
    """Redis of your own, HOST:PORT; empty to have one installed."""
    password_secret: ObjectName = ""
    """Secret of your own with the key `password`. Empty: a password is made in the cluster for the Redis that is
    installed, and one of your own is asked without any."""
    tls: RedisTls = RedisTls()
    """TLS between gateways and a Redis of your own."""
    storage: RedisStorage = RedisStorage()
    """The disk of the Redis that is installed."""
    image: Annotated[str, Meta(min_length=1)] = "docker.io/library/redis:7.2.7-alpine"
    """Image of the Redis that is installed."""
    max_memory: Annotated[str, Meta(pattern=r"^[0-9]+(kb|mb|gb)$")] = "256mb"
    """Memory that Redis keeps. Nothing is evicted: a full Redis refuses what is new, and gateways then limit each by
    itself."""
    resources: Resources = Resources(requests={"cpu": "100m", "memory": "128Mi"}, limits={"memory": "512Mi"})
    """What Redis asks for and may use; twice `redis.maxMemory`, since rewriting its file takes a copy."""


class NetworkPolicies(Value, frozen=True):
    """Who may talk to whom."""

    enabled: bool = True
    """Whether there are NetworkPolicies."""
    clients: list[dict[str, Any]] = []
    """Peers (`from` of a NetworkPolicy) that may connect to the gateway; empty means everyone."""
    scrapers: list[dict[str, Any]] = []
    """Peers that may read /metrics; empty means every pod of the cluster."""
    administrators: list[dict[str, Any]] = []
    """Peers that may connect to the API for users and API keys; empty means every pod of the cluster."""
    redis: list[dict[str, Any]] = []
    """Peers (`to` of a NetworkPolicy) that a Redis of your own is among; empty means any address, on its port."""
    gateway_egress: list[dict[str, Any]] = []
    """Further rules (`egress` of a NetworkPolicy) of the gateway, such as to a collector of spans."""
    controllers_egress: list[dict[str, Any]] = []
    """Further rules of the controllers, such as to an etcd or a Redis of yours that KVCachePools name."""
    api_server_cidrs: list[str] = []
    """Address ranges of the Kubernetes API; empty means any address."""
    api_server_ports: Annotated[list[Port], Meta(min_length=1)] = msgspec.field(default_factory=lambda: [443, 6443])
    """Ports of the Kubernetes API, before and behind its Service."""


class SidecarInjection(Value, frozen=True):
    """Who gives workloads the sidecar that they ask for by `model.aibrix.ai/sidecar-injection`."""

    api_version: Literal["", "v1", "v1beta1", "v1alpha1"] = ""
    """Version of MutatingAdmissionPolicy that the API server serves (v1 from Kubernetes 1.36), by which it injects the
    sidecar itself. Empty: nobody does, and `pybrix inject` puts it into manifests."""


class InstallConfiguration(Value, frozen=True):
    """An installation of pybrix on a cluster."""

    api_version: Literal["config.pybrix.ai/v1alpha1"] = "config.pybrix.ai/v1alpha1"
    """Version of this document."""
    kind: Literal["InstallConfiguration"] = "InstallConfiguration"
    """Kind of this document."""
    image: Image = Image()
    """The image of controllers and gateway."""
    admission_policies: bool = True
    """Whether rules on annotations are installed as ValidatingAdmissionPolicies."""
    sidecar_injection: SidecarInjection = SidecarInjection()
    """Who gives workloads their sidecars."""
    controllers: Controllers = Controllers()
    """The controllers of the custom resources."""
    gateway: Gateway = Gateway()
    """The gateway."""
    redis: Redis = Redis()
    """What gateways share: users, API keys, limits."""
    network_policies: NetworkPolicies = NetworkPolicies()
    """Who may talk to whom."""


def to_document(value: Any, path: str = "") -> dict[str, Any]:
    """Return a struct with all its fields, defaults included, as on the wire; reserved fields are left out."""
    found: dict[str, Any] = {}
    for field in msgspec.structs.fields(value):
        if field.encode_name in RESERVED.get(path, {}):
            continue
        inner = getattr(value, field.name)
        below = f"{path}.{field.encode_name}".strip(".")
        found[field.encode_name] = (
            to_document(inner, below) if isinstance(inner, msgspec.Struct) else msgspec.to_builtins(inner)
        )
    return found
