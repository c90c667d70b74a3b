"""Redis for the gateways: a Secret that fills itself, a Deployment with or without a disk, a Service. Pure.

Rendering makes nothing random, so that to install again changes nothing. The Secret is written without a password; an
init container of Redis puts one there, once, with the right to read and patch this one Secret and no other. A later
apply does not own the field and leaves it alone.
"""

from __future__ import annotations

from collections.abc import Iterable

from pybrix.install.names import REDIS, image, metadata, pod_labels, selector
from pybrix.install.pods import container_security, pod_security, pull_settings, token_mount, token_volume
from pybrix.install.rbac import role, service_account
from pybrix.install.template import All, Either, If, Line, Lines, MoreThan, Not, Sha256, Template, Text, Value
from pybrix.kube.permissions import Permission

PORT = 6379
PASSWORD_KEY = "password"
CA_KEY = "ca.crt"
_CONFIG_DIR = "/etc/redis"
_RUN_DIR = "/run/redis"
_DATA_DIR = "/data"
_OWN_SECRET = Value("redis.passwordSecret")
_OWN_ADDRESS = Value("redis.address")
_DISK = Value("redis.storage.size")
IS_INSTALLED = All(Not(_OWN_ADDRESS), Either(MoreThan(Value("gateway.replicas"), 1), _DISK))

# What gateways are told.
ADDRESS = If(_OWN_ADDRESS, _OWN_ADDRESS, If(IS_INSTALLED, Text(REDIS, f":{PORT}"), ""))
HAS_PASSWORD = Either(IS_INSTALLED, All(_OWN_ADDRESS, _OWN_SECRET))
PASSWORD_SECRET = If(_OWN_SECRET, _OWN_SECRET, REDIS)
IS_PASSWORD_MADE = Not(_OWN_SECRET)
"""Whether the Secret fills itself, some time after it is there."""
IS_TLS = If(_OWN_ADDRESS, Value("redis.tls.enabled"), False)
CA_SECRET = Value("redis.tls.caSecret")
HAS_CA = All(_OWN_ADDRESS, Value("redis.tls.enabled"), CA_SECRET)

# The password is in a file, not among the arguments, which every process of a node's user may read.
_START = (
    "umask 077; "
    f"printf 'include {_CONFIG_DIR}/redis.conf\\nrequirepass %s\\n' \"$REDIS_PASSWORD\" > {_RUN_DIR}/redis.conf; "
    f"exec redis-server {_RUN_DIR}/redis.conf"
)


def redis(permissions: Iterable[Permission]) -> list[Template]:
    """Return every object of Redis; `permissions` are what filling the Secret takes."""
    own = [
        {**service_account(REDIS)},
        *role(REDIS, REDIS, permissions),
        {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata(REDIS, REDIS)},
    ]
    rest = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata(REDIS, REDIS),
            "data": {"redis.conf": _configuration()},
        },
        If(_DISK, _claim()),
        _deployment(),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata(REDIS, REDIS),
            "spec": {
                "type": "ClusterIP",
                "selector": selector(REDIS),
                "ports": [{"name": "redis", "port": PORT, "targetPort": "redis", "protocol": "TCP"}],
            },
        },
    ]
    return [If(All(IS_INSTALLED, Not(_OWN_SECRET)), own), If(IS_INSTALLED, rest)]


def _configuration() -> Lines:
    """Return `redis.conf`: users and API keys are here, so every write goes to a file and nothing is evicted.

    Without a claim the file is in the pod, and a server that was killed finds it again.
    """
    return Lines(
        "pybrix.redisConfiguration",
        (
            Line("port", PORT),
            Line("dir", _DATA_DIR),
            Line("save", ""),
            Line("appendonly", "yes"),
            Line("appendfsync", "everysec"),
            Line("maxmemory", Value("redis.maxMemory")),
            Line("maxmemory-policy", "noeviction"),
        ),
        separator=" ",
    )


def _claim() -> Template:
    storage_class = Value("redis.storage.className")
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata(REDIS, REDIS),
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": If(storage_class, storage_class),
            "resources": {"requests": {"storage": _DISK}},
        },
    }


def _deployment() -> Template:
    fill = {
        "name": "password",
        "image": image(),
        "imagePullPolicy": Value("image.pullPolicy"),
        "args": ["secret", "fill", REDIS, "--key", PASSWORD_KEY],
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": container_security(),
        "volumeMounts": [token_mount()],
    }
    server = {
        "name": "redis",
        "image": Value("redis.image"),
        "imagePullPolicy": Value("image.pullPolicy"),
        "command": ["sh", "-c", _START],
        "env": [
            {"name": "REDIS_PASSWORD", "valueFrom": {"secretKeyRef": {"name": PASSWORD_SECRET, "key": PASSWORD_KEY}}}
        ],
        "ports": [{"name": "redis", "containerPort": PORT}],
        "readinessProbe": {"tcpSocket": {"port": "redis"}, "periodSeconds": 5},
        "livenessProbe": {"tcpSocket": {"port": "redis"}, "periodSeconds": 20, "timeoutSeconds": 5},
        "resources": Value("redis.resources"),
        "securityContext": container_security(),
        "volumeMounts": [
            {"name": "config", "mountPath": _CONFIG_DIR, "readOnly": True},
            {"name": "run", "mountPath": _RUN_DIR},
            {"name": "data", "mountPath": _DATA_DIR},
        ],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(REDIS, REDIS),
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": selector(REDIS)},
            # Two at once would be two different memories behind one Service, or two writers of one file.
            "strategy": {"type": "Recreate"},
            "template": {
                "metadata": {
                    "labels": pod_labels(REDIS),
                    "annotations": {"pybrix.ai/configuration-hash": Sha256(_configuration())},
                },
                "spec": {
                    "serviceAccountName": If(Not(_OWN_SECRET), REDIS),
                    "automountServiceAccountToken": False,
                    "securityContext": pod_security(),
                    **pull_settings(),
                    "initContainers": If(Not(_OWN_SECRET), [fill]),
                    "containers": [server],
                    "volumes": [
                        {"name": "config", "configMap": {"name": REDIS}},
                        {"name": "run", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
                        If(
                            _DISK,
                            {"name": "data", "persistentVolumeClaim": {"claimName": REDIS}},
                            {"name": "data", "emptyDir": {}},
                        ),
                        If(Not(_OWN_SECRET), token_volume()),
                    ],
                },
            },
        },
    }
