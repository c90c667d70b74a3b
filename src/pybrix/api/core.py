"""Core kinds (`v1`): the parts of them that pybrix reads or writes.

Embedded templates that pybrix only passes on (a Deployment's pod template) stay plain dicts, so that no field of
theirs is lost.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from pybrix.api.meta import Condition, GroupVersionKind, Object, Value, Wire

IntOrString = int | str


class Namespace(Object):
    """A scope for names. `spec` and `status` pass through."""

    gvk: ClassVar = GroupVersionKind("", "v1", "Namespace", "namespaces", is_namespaced=False)
    spec: dict[str, Any] = {}
    status: dict[str, Any] = {}


class NodeAddress(Value, frozen=True):
    type: str = ""
    address: str = ""


class NodeStatus(Wire):
    """What a node offers and how it is. `capacity` and `allocatable` map a resource name to a quantity."""

    capacity: dict[str, str] = {}
    allocatable: dict[str, str] = {}
    conditions: list[Condition] = []
    addresses: list[NodeAddress] = []
    node_info: dict[str, str] = {}


class Taint(Value, frozen=True):
    """Keeps pods off a node that do not tolerate it; `effect` is NoSchedule, PreferNoSchedule or NoExecute."""

    key: str
    effect: str
    value: str = ""


class NodeSpec(Wire):
    unschedulable: bool = False
    taints: list[Taint] = []
    pod_cidr: str = msgspec.field(default="", name="podCIDR")


class Node(Object):
    """A machine that runs pods."""

    gvk: ClassVar = GroupVersionKind("", "v1", "Node", "nodes", is_namespaced=False)
    spec: NodeSpec = msgspec.field(default_factory=NodeSpec)
    status: NodeStatus = msgspec.field(default_factory=NodeStatus)


class KeySelector(Value, frozen=True):
    """A key of a ConfigMap or Secret in the pod's namespace."""

    key: str
    name: str = ""
    optional: bool = False


class FieldRef(Value, frozen=True):
    """A field of the pod itself, such as `status.podIP` or `metadata.labels['app']`."""

    field_path: str
    api_version: str = ""


class ResourceFieldRef(Value, frozen=True):
    """A resource of a container, such as `limits.memory`."""

    resource: str
    container_name: str = ""
    divisor: IntOrString = "0"


class EnvVarSource(Value, frozen=True):
    """Exactly one of the references is set."""

    field_ref: FieldRef | None = None
    secret_key_ref: KeySelector | None = None
    config_map_key_ref: KeySelector | None = None
    resource_field_ref: ResourceFieldRef | None = None


class EnvVar(Value, frozen=True):
    name: str
    value: str = ""
    value_from: EnvVarSource | None = None


class LocalReference(Value, frozen=True):
    name: str = ""
    optional: bool = False


class EnvFromSource(Value, frozen=True):
    """All keys of a ConfigMap or a Secret as variables."""

    prefix: str = ""
    config_map_ref: LocalReference | None = None
    secret_ref: LocalReference | None = None


class ContainerPort(Value, frozen=True):
    container_port: int
    name: str = ""
    protocol: str = "TCP"


class HttpHeader(Value, frozen=True):
    name: str
    value: str = ""


class HttpGetAction(Value, frozen=True):
    """`port` is a number or the name of a container port; `host` defaults to the pod IP."""

    port: IntOrString
    path: str = "/"
    host: str = ""
    scheme: str = "HTTP"
    http_headers: list[HttpHeader] = []


class ExecAction(Value, frozen=True):
    command: list[str] = []


class TcpSocketAction(Value, frozen=True):
    port: IntOrString
    host: str = ""


class GrpcAction(Value, frozen=True):
    """`service` is what the program's health server calls it; empty: the program as a whole."""

    port: int
    service: str = ""


class SleepAction(Value, frozen=True):
    seconds: int = 0


class Probe(Value, frozen=True):
    """Exactly one action is set. Times are seconds."""

    http_get: HttpGetAction | None = None
    exec: ExecAction | None = None
    tcp_socket: TcpSocketAction | None = None
    grpc: GrpcAction | None = None
    initial_delay_seconds: int = 0
    timeout_seconds: int = 1
    period_seconds: int = 10
    success_threshold: int = 1
    failure_threshold: int = 3
    termination_grace_period_seconds: int | None = None


class LifecycleHandler(Value, frozen=True):
    exec: ExecAction | None = None
    http_get: HttpGetAction | None = None
    sleep: SleepAction | None = None


class Lifecycle(Value, frozen=True):
    post_start: LifecycleHandler | None = None
    pre_stop: LifecycleHandler | None = None


class ResourceRequirements(Value, frozen=True):
    """Maps of resource name to quantity."""

    requests: dict[str, IntOrString | float] = {}
    limits: dict[str, IntOrString | float] = {}


class VolumeMount(Value, frozen=True):
    name: str
    mount_path: str
    sub_path: str = ""
    read_only: bool = False


class Container(Value, frozen=True):
    """One process of a pod. `command` replaces the image's entrypoint, `args` its arguments."""

    name: str
    image: str = ""
    command: list[str] = []
    args: list[str] = []
    working_dir: str = ""
    env: list[EnvVar] = []
    env_from: list[EnvFromSource] = []
    ports: list[ContainerPort] = []
    resources: ResourceRequirements = ResourceRequirements()
    volume_mounts: list[VolumeMount] = []
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    startup_probe: Probe | None = None
    lifecycle: Lifecycle | None = None
    restart_policy: str = ""
    image_pull_policy: str = ""
    termination_message_path: str = "/dev/termination-log"
    termination_message_policy: str = "File"


class Volume(Value, frozen=True):
    """A named volume; the kind of it is the one field that is set."""

    name: str
    empty_dir: dict[str, Any] | None = None
    host_path: dict[str, Any] | None = None
    config_map: dict[str, Any] | None = None
    secret: dict[str, Any] | None = None
    projected: dict[str, Any] | None = None
    downward_api: dict[str, Any] | None = msgspec.field(default=None, name="downwardAPI")
    persistent_volume_claim: dict[str, Any] | None = None


class Toleration(Value, frozen=True):
    """Lets a pod on a tainted node. An empty key or effect means any; `operator` is Equal or Exists."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""
    toleration_seconds: int | None = None


class HostAlias(Value, frozen=True):
    """More names in a pod's hosts file."""

    ip: str
    hostnames: list[str] = []


class PodSpec(Wire):
    """What a pod runs and where. `affinity` stays a dict."""

    containers: list[Container] = []
    init_containers: list[Container] = []
    volumes: list[Volume] = []
    restart_policy: str = "Always"
    termination_grace_period_seconds: int = 30
    node_name: str = ""
    node_selector: dict[str, str] = {}
    affinity: dict[str, Any] | None = None
    tolerations: list[Toleration] = []
    topology_spread_constraints: list[dict[str, Any]] = []
    scheduler_name: str = ""
    service_account_name: str = ""
    hostname: str = ""
    subdomain: str = ""
    host_aliases: list[HostAlias] = []
    enable_service_links: bool | None = None
    readiness_gates: list[dict[str, str]] = []
    scheduling_gates: list[dict[str, str]] = []


class ContainerStateWaiting(Value, frozen=True):
    reason: str = ""
    message: str = ""


class ContainerStateRunning(Value, frozen=True):
    started_at: str | None = None


class ContainerStateTerminated(Value, frozen=True):
    # No default: an exit code of 0 must reach the wire.
    exit_code: int
    signal: int = 0
    reason: str = ""
    message: str = ""
    started_at: str | None = None
    finished_at: str | None = None


class ContainerState(Value, frozen=True):
    """At most one is set; none means waiting."""

    waiting: ContainerStateWaiting | None = None
    running: ContainerStateRunning | None = None
    terminated: ContainerStateTerminated | None = None


class ContainerStatus(Value, frozen=True):
    """How a container is. The fields without a default are required on the wire."""

    name: str
    ready: bool
    restart_count: int
    image: str
    image_id: str = msgspec.field(name="imageID")
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()
    started: bool | None = None
    container_id: str = msgspec.field(default="", name="containerID")


class PodIP(Value, frozen=True):
    ip: str


class PodStatus(Wire):
    """What the node agent reports of a pod."""

    phase: str = ""
    conditions: list[Condition] = []
    message: str = ""
    reason: str = ""
    host_ip: str = msgspec.field(default="", name="hostIP")
    pod_ip: str = msgspec.field(default="", name="podIP")
    pod_ips: list[PodIP] = msgspec.field(default_factory=list, name="podIPs")
    start_time: str | None = None
    init_container_statuses: list[ContainerStatus] = []
    container_statuses: list[ContainerStatus] = []
    qos_class: str = ""
    observed_generation: int = 0


class Pod(Object):
    """Processes that live and die together under one IP."""

    gvk: ClassVar = GroupVersionKind("", "v1", "Pod", "pods")
    spec: PodSpec = msgspec.field(default_factory=PodSpec)
    status: PodStatus = msgspec.field(default_factory=PodStatus)

    @property
    def is_ready(self) -> bool:
        """Say whether the `Ready` condition is true."""
        return any(c.type == "Ready" and c.is_true for c in self.status.conditions)

    @property
    def is_finished(self) -> bool:
        return self.status.phase in ("Succeeded", "Failed")


class ServicePort(Value, frozen=True):
    """`targetPort` is a number or the name of a container port; it defaults to `port`."""

    port: int
    name: str = ""
    protocol: str = "TCP"
    target_port: IntOrString | None = None
    node_port: int = 0
    app_protocol: str = ""


class ServiceSpec(Wire):
    selector: dict[str, str] = {}
    ports: list[ServicePort] = []
    type: str = "ClusterIP"
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    publish_not_ready_addresses: bool = False
    session_affinity: str = "None"
    session_affinity_config: dict[str, Any] | None = None


class Service(Object):
    """A stable name for the pods that a selector finds."""

    gvk: ClassVar = GroupVersionKind("", "v1", "Service", "services")
    spec: ServiceSpec = msgspec.field(default_factory=ServiceSpec)


class ConfigMap(Object):
    gvk: ClassVar = GroupVersionKind("", "v1", "ConfigMap", "configmaps")
    data: dict[str, str] = {}
    binary_data: dict[str, str] = {}
    immutable: bool = False


class Secret(Object):
    """`data` is base64 text; `stringData` is write-only and merged into `data` by the server."""

    gvk: ClassVar = GroupVersionKind("", "v1", "Secret", "secrets")
    type: str = "Opaque"
    data: dict[str, str] = {}
    string_data: dict[str, str] = {}
    immutable: bool = False


class ClaimSpec(Wire):
    """`resources.requests.storage` is what is asked for."""

    access_modes: list[str] = []
    resources: ResourceRequirements = ResourceRequirements()
    volume_name: str = ""


class ClaimStatus(Wire):
    """`phase` is Pending, Bound or Lost."""

    phase: str = ""
    access_modes: list[str] = []
    capacity: dict[str, str] = {}


class PersistentVolumeClaim(Object):
    """Room on disk that outlives the pods that use it."""

    gvk: ClassVar = GroupVersionKind("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims")
    spec: ClaimSpec = msgspec.field(default_factory=ClaimSpec)
    status: ClaimStatus = msgspec.field(default_factory=ClaimStatus)


class ObjectReference(Value, frozen=True):
    api_version: str = ""
    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    resource_version: str = ""
    field_path: str = ""


class EventSource(Value, frozen=True):
    component: str = ""
    host: str = ""


class Event(Object, kw_only=True):
    """A note about an object: `type` is Normal or Warning."""

    gvk: ClassVar = GroupVersionKind("", "v1", "Event", "events")
    # No default: a server requires it, even empty.
    involved_object: ObjectReference
    reason: str = ""
    message: str = ""
    source: EventSource = EventSource()
    first_timestamp: str | None = None
    last_timestamp: str | None = None
    event_time: str | None = None
    count: int = 0
    type: str = "Normal"
    reporting_component: str = ""
    reporting_instance: str = ""
    action: str = ""


class EndpointConditions(Value, frozen=True):
    """`serving` may be true while `terminating` is: the endpoint still answers what it has."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class Endpoint(Value, frozen=True):
    addresses: list[str]
    conditions: EndpointConditions = EndpointConditions()
    hostname: str = ""
    target_ref: ObjectReference | None = None
    node_name: str = ""
    zone: str = ""


class EndpointPort(Value, frozen=True):
    # No defaults for what is meaningful when empty: the port of an unnamed service port is "".
    name: str
    port: int | None
    protocol: str = ""
    app_protocol: str = ""


class EndpointSlice(Object, kw_only=True):
    """At most 100 endpoints of one Service, of one address family."""

    gvk: ClassVar = GroupVersionKind("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices")
    address_type: str
    endpoints: list[Endpoint]
    ports: list[EndpointPort] = []


class LeaseSpec(Wire):
    """Who holds a lease since when; times are `metav1.MicroTime`."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int = 0


class Lease(Object):
    gvk: ClassVar = GroupVersionKind("coordination.k8s.io", "v1", "Lease", "leases")
    spec: LeaseSpec = msgspec.field(default_factory=LeaseSpec)
