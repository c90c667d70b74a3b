"""The gateway: configuration, rights, Deployment of Envoy and brain, Service. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from pybrix.install.configuration import (
    ADMIN_TOKEN_DIR,
    ADMIN_TOKEN_KEY,
    GATEWAY_PORT,
    HAS_ADMIN_TOKEN,
    HAS_USERS_API,
    HEALTH_PORT,
    REDIS_CA_DIR,
    REDIS_PASSWORD_DIR,
    TLS_DIR,
    USERS_PORT,
    gateway_configuration,
)
from pybrix.install.names import GATEWAY, image, metadata, pod_labels, selector
from pybrix.install.pods import (
    container_security,
    placement,
    pod_annotations,
    pod_security,
    pull_settings,
    token_mount,
    token_volume,
)
from pybrix.install.rbac import rights, service_account
from pybrix.install.redis import (
    CA_KEY,
    CA_SECRET,
    HAS_CA,
    HAS_PASSWORD,
    IS_PASSWORD_MADE,
    PASSWORD_KEY,
    PASSWORD_SECRET,
)
from pybrix.install.template import OMITTED, If, Sha256, Spread, Sum, Template, Text, Value
from pybrix.kube.permissions import Permission

_CONFIG_DIR = "/etc/pybrix/gateway"
_RUN = "/run/pybrix"
_STATE_DIR = "/var/lib/pybrix"
# Sockets are in a directory that the first process makes, for its user alone: a volume's own root is open to all.
_DIRECTORIES = ("--gateway-dir", _STATE_DIR, "--run-dir", f"{_RUN}/gateway")
_CONFIG = ("--config", f"{_CONFIG_DIR}/gateway.yaml")
_HAS_TLS = Value("gateway.tls.secretName")
MIN_READY_S = 5
STARTUP_S = 600
"""How long the brain may take to be ready for the first time: the Kubernetes API, or Redis, may be away."""
ENDING_S = 20
"""What ending takes beyond the draining of streams: the end of Envoy, of the brain, and some to spare."""


def gateway(permissions: Iterable[Permission]) -> list[Template]:
    """Return every object of the gateway; `permissions` are what a brain does in the namespaces that it routes to."""
    return [
        service_account(GATEWAY),
        *rights(GATEWAY, permissions, Value("gateway.namespaces")),
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata(GATEWAY, GATEWAY),
            "data": {"gateway.yaml": gateway_configuration()},
        },
        _deployment(),
        _service(),
        If(HAS_USERS_API, _users_service()),
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": metadata(GATEWAY, GATEWAY),
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": selector(GATEWAY)}},
        },
    ]


def _deployment() -> Template:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(GATEWAY, GATEWAY),
        "spec": {
            "replicas": Value("gateway.replicas"),
            "selector": {"matchLabels": selector(GATEWAY)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            # One that fails within its first seconds must not have cost an old one.
            "minReadySeconds": MIN_READY_S,
            "template": {
                "metadata": {
                    "labels": pod_labels(GATEWAY),
                    "annotations": pod_annotations(
                        "gateway", **{"pybrix.ai/configuration-hash": Sha256(gateway_configuration())}
                    ),
                },
                "spec": {
                    "serviceAccountName": GATEWAY,
                    "automountServiceAccountToken": False,
                    "terminationGracePeriodSeconds": Sum(
                        (
                            Value("gateway.endpointRemovalS"),
                            Value("gateway.configuration.listenerDrainS"),
                            Value("gateway.configuration.drainTimeoutS"),
                        ),
                        ENDING_S,
                    ),
                    "securityContext": pod_security(),
                    **pull_settings(),
                    **placement("gateway", GATEWAY),
                    "initContainers": [_brain()],
                    "containers": [_envoy()],
                    "volumes": [
                        {"name": "config", "configMap": {"name": GATEWAY}},
                        {"name": "run", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
                        {"name": "state", "emptyDir": {"sizeLimit": "1Gi"}},
                        If(
                            _HAS_TLS,
                            {"name": "tls", "secret": {"secretName": _HAS_TLS, "defaultMode": 0o440}},
                        ),
                        *_secret_volumes(),
                        token_volume(),
                    ],
                },
            },
        },
    }


def _secret_volumes() -> list[Template]:
    """Return what the brain reads of Secrets; Envoy, which faces clients, mounts none of it."""
    return [
        If(
            HAS_PASSWORD,
            # The brain reads the file for every connection: gateways serve while the password is still being made.
            _secret_volume("redis-password", PASSWORD_SECRET, PASSWORD_KEY, If(IS_PASSWORD_MADE, True)),
        ),
        If(HAS_CA, _secret_volume("redis-ca", CA_SECRET, CA_KEY)),
        If(HAS_ADMIN_TOKEN, _secret_volume("admin-token", HAS_ADMIN_TOKEN, ADMIN_TOKEN_KEY)),
    ]


def _secret_volume(name: str, secret: Template, key: str, optional: Template = OMITTED) -> dict[str, Template]:
    items = [{"key": key, "path": key}]
    chosen = {} if optional is OMITTED else {"optional": optional}
    return {"name": name, "secret": {"secretName": secret, "items": items, "defaultMode": 0o440, **chosen}}


def _brain() -> Template:
    """Return the brain as a sidecar: it starts before Envoy and ends after it.

    Envoy is started once the brain is ready for the first time: its caches are synced, and it knows what the others
    know. It has no readiness probe: without its brain a gateway serves on.
    """
    return {
        "name": "brain",
        "restartPolicy": "Always",
        "image": image(),
        "imagePullPolicy": Value("image.pullPolicy"),
        "args": [
            *("gateway", "brain", *_CONFIG, *_DIRECTORIES),
            *("--health-address", "0.0.0.0", "--health-port", str(HEALTH_PORT)),
        ],
        "ports": [
            {"name": "health", "containerPort": HEALTH_PORT},
            If(HAS_USERS_API, {"name": "users", "containerPort": USERS_PORT}),
        ],
        "startupProbe": {
            "httpGet": {"path": "/readyz", "port": "health"},
            "periodSeconds": 1,
            "timeoutSeconds": 2,
            "failureThreshold": STARTUP_S,
        },
        "livenessProbe": {
            "httpGet": {"path": "/healthz", "port": "health"},
            "initialDelaySeconds": 10,
            "periodSeconds": 20,
            "timeoutSeconds": 5,
        },
        "resources": Value("gateway.brainResources"),
        "securityContext": container_security(),
        "volumeMounts": [
            *_shared_mounts(),
            If(HAS_PASSWORD, {"name": "redis-password", "mountPath": REDIS_PASSWORD_DIR, "readOnly": True}),
            If(HAS_CA, {"name": "redis-ca", "mountPath": REDIS_CA_DIR, "readOnly": True}),
            If(HAS_ADMIN_TOKEN, {"name": "admin-token", "mountPath": ADMIN_TOKEN_DIR, "readOnly": True}),
            token_mount(),
        ],
    }


def _envoy() -> Template:
    # Envoy opens its port when the brain has written a configuration; then it answers /healthz itself.
    health = {"path": "/healthz", "port": "http", "scheme": If(_HAS_TLS, "HTTPS", "HTTP")}
    return {
        "name": "envoy",
        "image": image(),
        "imagePullPolicy": Value("image.pullPolicy"),
        "args": ["gateway", "envoy", *_CONFIG, *_DIRECTORIES],
        "ports": [{"name": "http", "containerPort": GATEWAY_PORT}],
        "readinessProbe": {"httpGet": health, "periodSeconds": 2, "timeoutSeconds": 2},
        "lifecycle": {
            # New connections arrive until the endpoint's removal has reached every load balancer.
            "preStop": {"exec": {"command": ["sleep", Text(Value("gateway.endpointRemovalS"))]}},
        },
        "resources": Value("gateway.envoyResources"),
        "securityContext": container_security(),
        "volumeMounts": [
            *_shared_mounts(),
            If(_HAS_TLS, {"name": "tls", "mountPath": TLS_DIR, "readOnly": True}),
        ],
    }


def _shared_mounts() -> list[Template]:
    return [
        {"name": "config", "mountPath": _CONFIG_DIR, "readOnly": True},
        {"name": "run", "mountPath": _RUN},
        {"name": "state", "mountPath": _STATE_DIR},
    ]


def _service() -> Template:
    annotations = Value("gateway.service.annotations")
    ranges = Value("gateway.service.loadBalancerSourceRanges")
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            **metadata(GATEWAY, GATEWAY),
            "annotations": If(annotations, {Spread(annotations): {}}),
        },
        "spec": {
            "type": Value("gateway.service.type"),
            "selector": selector(GATEWAY),
            "loadBalancerSourceRanges": If(ranges, ranges),
            "ports": [
                {
                    "name": If(_HAS_TLS, "https", "http"),
                    "port": Value("gateway.service.port"),
                    "targetPort": "http",
                    "protocol": "TCP",
                }
            ],
        },
    }


def _users_service() -> Template:
    """Return the Service of the API for users and API keys: never more than inside the cluster."""
    name = f"{GATEWAY}-users"
    port = {"name": "users", "port": Value("gateway.usersPort"), "targetPort": "users", "protocol": "TCP"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(name, GATEWAY),
        "spec": {"type": "ClusterIP", "selector": selector(GATEWAY), "ports": [port]},
    }
