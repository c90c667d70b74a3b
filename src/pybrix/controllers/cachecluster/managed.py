"""Render the etcd or the Redis that is made for a cache. Pure.

An etcd of one member names itself by its loopback address, so that nothing has to resolve before it starts; one of
three finds the others by the headless Service, which lists members before they are ready: none is, before all are.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pybrix.api.identity import ObjectKey

ETCD_PORT = 2379
ETCD_PEER_PORT = 2380
REDIS_PORT = 6379
USERNAME = "username"
PASSWORD = "password"
ETCD_USER = "root"
_VOLUME = "/var/lib/pybrix-metadata"


@dataclass(frozen=True, slots=True)
class ManagedSpec:
    """What is asked of a metadata server. `secret` empty: no password."""

    key: ObjectKey
    """Of its StatefulSet and client Service."""
    labels: Mapping[str, str]
    image: str
    replicas: int = 1
    image_pull_policy: str = "IfNotPresent"
    storage: str = "0"
    resources: Mapping[str, Any] = field(default_factory=dict)
    env: tuple[Mapping[str, Any], ...] = ()
    secret: str = ""
    service_name: str = ""
    """Of the Service that clients use; the StatefulSet's name when empty."""
    port_name: str = ""
    """Of that Service's port."""
    template: Mapping[str, Any] | None = None
    """Replaces the built template of the pods; of a Redis only."""
    made_labels: Mapping[str, str] = field(default_factory=dict)
    """Labels of what is made, beside those by which the pods are selected."""

    @property
    def client_name(self) -> str:
        return self.service_name or self.key.name

    @property
    def headless_name(self) -> str:
        return f"{self.key.name}-peers"


def render_etcd(spec: ManagedSpec) -> list[dict[str, Any]]:
    """Return the StatefulSet and both Services of an etcd."""
    name, namespace = spec.key.name, spec.key.namespace
    domain = f"{spec.headless_name}.{namespace}.svc"
    if spec.replicas == 1:
        peer_url = f"http://127.0.0.1:{ETCD_PEER_PORT}"
        cluster = f"{name}-0={peer_url}"
    else:
        peer_url = f"http://$(POD_NAME).{domain}:{ETCD_PEER_PORT}"
        members = [f"{name}-{number}" for number in range(spec.replicas)]
        cluster = ",".join(f"{member}=http://{member}.{domain}:{ETCD_PEER_PORT}" for member in members)
    arguments = {
        "name": "$(POD_NAME)",
        "data-dir": "$(ETCD_DATA)",
        "listen-client-urls": f"http://$(POD_IP):{ETCD_PORT}",
        # vineyardd asks the members for these and resolves them once: the address of a Service stays.
        "advertise-client-urls": f"http://{spec.client_name}.{namespace}.svc:{ETCD_PORT}",
        "listen-peer-urls": f"http://$(POD_IP):{ETCD_PEER_PORT}",
        "initial-advertise-peer-urls": peer_url,
        "initial-cluster": cluster,
        "initial-cluster-token": f"{namespace}/{name}",
        "initial-cluster-state": "new",
        "auto-compaction-retention": "1h",
    }
    container = {
        "name": "etcd",
        "image": spec.image,
        "imagePullPolicy": spec.image_pull_policy,
        "command": ["etcd", *(f"--{key}={value}" for key, value in arguments.items())],
        "env": [
            field_variable("POD_NAME", "metadata.name"),
            field_variable("POD_IP", "status.podIP"),
            {"name": "ETCD_DATA", "value": f"{_VOLUME}/data"},
            *spec.env,
        ],
        "ports": [
            {"name": "client", "containerPort": ETCD_PORT, "protocol": "TCP"},
            {"name": "peer", "containerPort": ETCD_PEER_PORT, "protocol": "TCP"},
        ],
        # Also when it asks for a password: /health needs none. A member without a quorum is not healthy.
        "readinessProbe": {
            "httpGet": {"path": "/health", "port": ETCD_PORT, "scheme": "HTTP"},
            "periodSeconds": 2,
            "timeoutSeconds": 5,
        },
        **_resources(spec),
    }
    ports = {"client": ETCD_PORT, "peer": ETCD_PEER_PORT}
    return [
        _service(spec, spec.headless_name, ports, is_headless=True),
        _service(spec, spec.client_name, {spec.port_name or "client": ETCD_PORT}),
        _stateful_set(spec, container, spec.replicas),
    ]


def render_redis(spec: ManagedSpec) -> list[dict[str, Any]]:
    """Return the StatefulSet and both Services of a Redis that writes its data down."""
    command = ["redis-server", "--bind", "$(POD_IP)", "--port", str(REDIS_PORT), "--dir", "$(REDIS_DATA)"]
    command += ["--appendonly", "yes", "--protected-mode", "no"]
    env = [field_variable("POD_IP", "status.podIP"), {"name": "REDIS_DATA", "value": _VOLUME}, *spec.env]
    if spec.secret:
        env.append(secret_variable("REDIS_PASSWORD", spec.secret, PASSWORD))
        command += ["--requirepass", "$(REDIS_PASSWORD)"]
    container = {
        "name": "redis",
        "image": spec.image,
        "imagePullPolicy": spec.image_pull_policy,
        "command": command,
        "env": env,
        "ports": [{"name": "service", "containerPort": REDIS_PORT, "protocol": "TCP"}],
        "readinessProbe": {"tcpSocket": {"port": REDIS_PORT}, "periodSeconds": 2, "timeoutSeconds": 5},
        **_resources(spec),
    }
    ports = {"service": REDIS_PORT}
    return [
        _service(spec, spec.headless_name, ports, is_headless=True),
        _service(spec, spec.client_name, ports),
        _stateful_set(spec, container, 1),
    ]


def render_secret(key: ObjectKey, labels: Mapping[str, str], password: str) -> dict[str, Any]:
    """Return the Secret with generated credentials."""
    values = {USERNAME: ETCD_USER, PASSWORD: password}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": key.name, "namespace": key.namespace, "labels": dict(labels)},
        "type": "Opaque",
        "data": {name: base64.b64encode(text.encode()).decode() for name, text in values.items()},
    }


def secret_variable(variable: str, secret: str, key: str, *, is_optional: bool = False) -> dict[str, Any]:
    """Return an environment variable that a key of a Secret fills."""
    reference: dict[str, Any] = {"name": secret, "key": key}
    if is_optional:
        reference["optional"] = True
    return {"name": variable, "valueFrom": {"secretKeyRef": reference}}


def field_variable(variable: str, path: str) -> dict[str, Any]:
    """Return an environment variable that a field of the pod fills."""
    return {"name": variable, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _resources(spec: ManagedSpec) -> dict[str, Any]:
    return {
        "volumeMounts": [{"name": "data", "mountPath": _VOLUME}],
        **({"resources": dict(spec.resources)} if spec.resources else {}),
    }


def _service(spec: ManagedSpec, name: str, ports: Mapping[str, int], *, is_headless: bool = False) -> dict[str, Any]:
    body: dict[str, Any] = {
        "selector": dict(spec.labels),
        "ports": [{"name": n, "port": port, "targetPort": port, "protocol": "TCP"} for n, port in ports.items()],
    }
    body |= {"clusterIP": "None", "publishNotReadyAddresses": True} if is_headless else {"type": "ClusterIP"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": spec.key.namespace, "labels": {**spec.labels, **spec.made_labels}},
        "spec": body,
    }


def _stateful_set(spec: ManagedSpec, container: Mapping[str, Any], replicas: int) -> dict[str, Any]:
    labels = dict(spec.labels)
    pod: dict[str, Any] = {"containers": [dict(container)], "terminationGracePeriodSeconds": 10}
    body: dict[str, Any] = {
        "replicas": replicas,
        "serviceName": spec.headless_name,
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    if spec.template is not None:
        body["template"] = with_labels(spec.template, labels)
        return _wrapped(spec, body)
    if spec.storage in ("", "0"):
        pod["volumes"] = [{"name": "data", "emptyDir": {}}]
    else:
        claim = {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": spec.storage}},
        }
        body["volumeClaimTemplates"] = [{"metadata": {"name": "data"}, "spec": claim}]
        # The data is of no use to anybody else: it goes with the cache.
        body["persistentVolumeClaimRetentionPolicy"] = {"whenDeleted": "Delete", "whenScaled": "Delete"}
    return _wrapped(spec, body)


def with_labels(template: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, Any]:
    """Return a template as it was written, with the labels by which its pods are found."""
    metadata = dict(template.get("metadata") or {})
    metadata["labels"] = {**(metadata.get("labels") or {}), **labels}
    return {**template, "metadata": metadata}


def _wrapped(spec: ManagedSpec, body: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {
            "name": spec.key.name,
            "namespace": spec.key.namespace,
            "labels": {**spec.labels, **spec.made_labels},
        },
        "spec": dict(body),
    }
