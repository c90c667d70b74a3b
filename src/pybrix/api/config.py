"""Configuration kinds of pybrix's own components: defaulted and validated here, overridden only by flags."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from pybrix.api.meta import Value

Port = Annotated[int, Meta(ge=1, le=65535)]
Positive = Annotated[int, Meta(ge=1)]
PositiveSeconds = Annotated[float, Meta(gt=0)]

API_VERSION = "config.pybrix.ai/v1alpha1"


class RedisConfiguration(Value, frozen=True):
    """Where several gateways keep what they share. One gateway needs none."""

    address: Annotated[str, Meta(pattern=r"^([^/:\s]+:[0-9]{1,5}|/.+)?$")] = ""
    """HOST:PORT, or the absolute path of a Unix socket; empty means no Redis."""
    database: Annotated[int, Meta(ge=0, le=15)] = 0
    """Number of the database; 0."""
    username: str = ""
    """User of Redis's ACL; empty means its default user."""
    password_path: str = ""
    """File with the password; read again for every connection. Empty means none."""
    is_tls: bool = False
    """Whether the connection is encrypted and the server's certificate verified; false."""
    tls_ca_path: str = ""
    """File with the certificates (PEM) that the server's must be signed by; empty means the system's."""
    key_prefix: Annotated[str, Meta(max_length=64, pattern=r"^[A-Za-z0-9:._-]*$")] = "pybrix:"
    """What every key of this installation starts with, but those of AIBrix's users; `pybrix:`."""
    timeout_ms: Positive = 250
    """How long an answer may take before limits are of each gateway alone; 250."""


class LimitsConfiguration(Value, frozen=True):
    """How requests and tokens of users are limited."""

    is_enabled: bool = True
    """Whether there are limits at all; true."""
    default_rpm: Positive = 100
    """Requests a minute of users whose own number is 0; 100."""
    unknown_user: Literal["401", "403", "default"] = "401"
    """Answer to a request of a user that nobody has created: a status, or `default` for the limits of one with zeros.
    401."""
    user_cache_s: PositiveSeconds = 10.0
    """How old what is known of a user in Redis may be; 10."""
    lease_ratio: Annotated[float, Meta(gt=0, le=0.5)] = 0.1
    """Share of a limit that a gateway takes from Redis at once. Several gateways may together exceed a limit by twice
    this share each. 0.1."""


class IdentityConfiguration(Value, frozen=True):
    """Who a client is."""

    is_api_key_required: bool = False
    """Whether Envoy lets only requests with an API key through; false."""
    is_user_header_trusted: bool = False
    """Whether the header `user` says who a client is, where no API key does. Only safe behind something that sets the
    header itself. false."""
    users_address: str = "127.0.0.1"
    """Address of the API for users and keys; 127.0.0.1."""
    users_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """Port of the same; 0 means that only the socket in the run directory has it. 0."""
    admin_token_path: str = ""
    """File with the token that the API on a port asks for, and that lets a request ask for an explanation; needed with
    the port."""


class ExplainConfiguration(Value, frozen=True):
    """What is kept of decisions, for `pybrix explain`."""

    kept_decisions: Annotated[int, Meta(ge=0, le=1_000_000)] = 4096
    """How many of the last decisions are kept; 4096."""
    reasons_per_s: Annotated[int, Meta(ge=0)] = 20
    """For how many decisions a second reasons are kept, besides those that are asked for; 0 for these only. 20."""


class TracingConfiguration(Value, frozen=True):
    """Where Envoy sends OpenTelemetry spans."""

    endpoint: Annotated[str, Meta(pattern=r"^((https?|grpcs?)://[^\s/@?#]+(/[^\s?#]*)?)?$")] = ""
    """The collector: `http://HOST:4318` (or https) for OTLP over HTTP, which goes to `/v1/traces` unless the URL has a
    path; `grpc://HOST:4317` (or grpcs) for OTLP over gRPC. Empty for no spans."""
    sampling_ratio: Annotated[float, Meta(ge=0, le=1)] = 0.01
    """Share of the requests that get a span, of those that bring no `traceparent`, which decides otherwise; 0.01."""
    service_name: Annotated[str, Meta(min_length=1, max_length=255)] = "pybrix-gateway"
    """`service.name` of the spans; pybrix-gateway."""


class StateSyncConfiguration(Value, frozen=True):
    """How several gateways come to one view of loads, prefixes and rates: through Redis where there is one, else by a
    directory of this machine. One gateway alone needs neither; its state outlives it in its data directory."""

    is_enabled: bool = True
    """Whether state is shared and kept at all; true."""
    instance: Annotated[str, Meta(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,62})?$")] = ""
    """What this gateway is called among the others, none of which may have its name; empty for a name that is drawn
    once and kept in the data directory."""
    peers_dir: Annotated[str, Meta(pattern=r"^(/.*)?$")] = ""
    """Absolute path of a directory, for this user only, in which gateways on one machine find each other; it is made
    where there is none, and has no use with Redis. Empty for none."""
    interval_ms: Annotated[int, Meta(ge=20, le=10_000)] = 100
    """How often others are told what changed; 100."""
    snapshot_interval_s: Annotated[float, Meta(ge=1, le=300)] = 15.0
    """How often all that is known is written, for those that join and for a restart; 15."""


class GatewayConfiguration(Value, frozen=True):
    """How a gateway (Envoy and brain) listens and routes."""

    api_version: str = API_VERSION
    kind: str = "GatewayConfiguration"
    address: str = "127.0.0.1"
    """Address that clients connect to; 127.0.0.1."""
    port: Port = 8080
    """Port that clients connect to; 8080."""
    namespaces: list[str] = []
    """Namespaces whose pods are routed to; empty means all."""
    routing_strategy: str = "prefix-affinity"
    """Strategy of requests that name none; prefix-affinity."""
    body_limit_bytes: Positive = 32 * 1024 * 1024
    """Largest request body; above it the answer is 413. 32 MiB."""
    decision_timeout_ms: Positive = 100
    """How long Envoy waits for the brain before it routes by itself; 100."""
    stream_idle_timeout_s: PositiveSeconds = 600.0
    """A stream without a byte for so long is ended; 600."""
    connect_timeout_s: PositiveSeconds = 1.0
    """How long a connection to an engine may take before the next endpoint is tried; 1."""
    reservation_renewal_s: PositiveSeconds = 10.0
    """Interval of access-log renewals of long streams; three missed ones release the reservation. 10."""
    engine_metrics_interval_s: Annotated[float, Meta(ge=0)] = 1.0
    """How often an engine under load is asked for its metrics, idle ones less often; 0 for never. 1."""
    is_usage_counted: bool = True
    """Whether Envoy reads token usage from responses; true."""
    envoy_workers: Positive = 1
    """Envoy worker threads; 1."""
    stream_deadline_s: Annotated[float, Meta(ge=0)] = 0.0
    """How long an answer may take in all, streams included; 0 for as long as it wants. Where it is below
    `drainTimeoutS` no drain cuts a stream. 0."""
    listener_drain_s: Annotated[float, Meta(ge=0)] = 0.0
    """How long, after SIGTERM, connections are still accepted while health checks say no: what a load balancer in front
    needs to notice. 0."""
    drain_timeout_s: PositiveSeconds = 30.0
    """How long what is under way may go on after SIGTERM, before it is cut; 30."""
    tls_certificate_path: str = ""
    """Absolute path of the certificate chain (PEM) that clients are shown; empty means plain HTTP."""
    tls_key_path: str = ""
    """Absolute path of its private key (PEM); needed with the certificate, in the same directory."""
    redis: RedisConfiguration = RedisConfiguration()
    """Where several gateways keep what they share."""
    limits: LimitsConfiguration = LimitsConfiguration()
    """How requests and tokens of users are limited."""
    identity: IdentityConfiguration = IdentityConfiguration()
    """Who a client is."""
    explain: ExplainConfiguration = ExplainConfiguration()
    """What is kept of decisions."""
    tracing: TracingConfiguration = TracingConfiguration()
    """Where spans go."""
    statesync: StateSyncConfiguration = StateSyncConfiguration()
    """How several gateways come to one view."""


class LeaderElectionConfiguration(Value, frozen=True):
    """How one of several processes is chosen to work."""

    is_enabled: bool = True
    """Whether there is an election; without one this process always works. true."""
    namespace: str = "pybrix-system"
    """Namespace of the Lease, which must exist; pybrix-system."""
    name: str = "pybrix-controllers"
    """Name of the Lease; pybrix-controllers."""
    lease_duration_s: Positive = 15
    """How long a silent leader keeps others waiting; 15."""
    renew_deadline_s: PositiveSeconds = 10.0
    """When a leader without a successful renewal gives up; less than the duration. 10."""
    retry_period_s: PositiveSeconds = 2.0
    """Time between attempts; less than the deadline. 2."""


class ModelAdapterConfiguration(Value, frozen=True):
    """How adapters are placed in pods and loaded into engines."""

    scheduler_policy: Literal["random", "leastAdapters", "binPack", "leastLatency", "leastThroughput"] = "leastAdapters"
    """Policy of adapters whose `schedulerName` is default; leastAdapters."""
    load_deadline_s: PositiveSeconds = 120.0
    """How long an engine may take to load an adapter, its own download included; 120."""
    sidecar_load_deadline_s: PositiveSeconds = 600.0
    """The same where a sidecar fetches the adapter; 600."""
    unload_deadline_s: PositiveSeconds = 10.0
    """How long an engine may take to unload one; 10."""
    list_interval_s: PositiveSeconds = 10.0
    """How often each engine is asked what it has loaded; 10."""
    drain_s: PositiveSeconds = 3.0
    """How long a pod is out of the EndpointSlices before its engine unloads; 3."""
    concurrent_requests: Positive = 64
    """Loads and unloads under way at the same time; 64."""
    requests_per_pod: Positive = 2
    """Of these, to one pod; 2."""


class KVCacheConfiguration(Value, frozen=True):
    """How caches are placed, and how their members are published."""

    gpu_type_key: Annotated[str, Meta(min_length=1, max_length=317)] = "nvidia.com/gpu.product"
    """Label of nodes that holds the GPU model, for pools that name none; nvidia.com/gpu.product."""
    metadata_timeout_ms: Positive = 2000
    """How long a metadata server may take to answer; 2000."""
    member_ttl_s: Annotated[int, Meta(ge=5)] = 60
    """How long a member counts as alive after the controller last said so; 60."""
    member_min_ready_s: Annotated[int, Meta(ge=0, le=300)] = 3
    """How long a cache server is ready before it gets slots of others, and not ready before it loses its own; 3."""
    longest_retry_s: PositiveSeconds = 15.0
    """The longest pause between two attempts to reach a metadata server that fails; 15."""
    deregister_deadline_s: PositiveSeconds = 120.0
    """How long the deletion of a cache waits for a metadata server that does not answer; 120."""
    etcd_image: str = "quay.io/coreos/etcd:v3.5.21"
    """Image of the etcd that is made for a pool; quay.io/coreos/etcd:v3.5.21."""
    redis_image: str = "redis:7.4"
    """Image of the Redis that is made for a pool; redis:7.4."""


class ControllersConfiguration(Value, frozen=True):
    """How a process of controllers runs."""

    api_version: str = API_VERSION
    kind: str = "ControllersConfiguration"
    namespaces: list[str] = []
    """Namespaces that are watched; empty means all."""
    controllers: list[str] = msgspec.field(default_factory=lambda: ["*"])
    """Controllers that run: `*` is all, `name` one, `-name` all but this one. All."""
    default_concurrency: Positive = 4
    """Objects that a controller works on at the same time; 4."""
    concurrency: dict[str, Positive] = {}
    """The same for single controllers, by name."""
    leader_election: LeaderElectionConfiguration = LeaderElectionConfiguration()
    """How one of several processes is chosen."""
    health_address: str = "127.0.0.1"
    """Address of /healthz, /readyz and /metrics; 127.0.0.1."""
    health_port: Annotated[int, Meta(ge=0, le=65535)] = 8081
    """Port of the same; 0 for any free one. 8081."""
    health_socket: str = ""
    """Path of a Unix socket for the same, in place of address and port; empty for none."""
    model_adapter: ModelAdapterConfiguration = ModelAdapterConfiguration()
    """How adapters are placed and loaded."""
    kv_cache: KVCacheConfiguration = KVCacheConfiguration()
    """How caches are placed and published."""
