"""Where the membership of a pool goes, from its spec and the Secrets that it names. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec

from pybrix.api.identity import ObjectKey
from pybrix.api.kvcache.v1alpha1.kvcachepool import (
    EtcdMetadata,
    KVCachePool,
    ManagedMetadata,
    PoolMetadata,
    RedisMetadata,
    TlsConfig,
)
from pybrix.controllers.cachecluster.blueprint import ManagedServer, Problem, SecretUse, Seen
from pybrix.controllers.cachecluster.managed import ETCD_PORT, ETCD_USER, PASSWORD, REDIS_PORT, USERNAME
from pybrix.controllers.cachecluster.members import has_labels, host_port
from pybrix.controllers.cachecluster.vineyard import is_vineyardd
from pybrix.controllers.membership.keys import Keys, pool_keys
from pybrix.controllers.membership.store import Kind, Server, Tls

CREDENTIALS_UNAVAILABLE = "CredentialsUnavailable"
STARTING = "Starting"
_TLS_KEYS = ("ca.crt", "tls.crt", "tls.key")


@dataclass(frozen=True, slots=True)
class Metadata:
    """A metadata server. `server` None: it cannot be used, and `problem` says why."""

    kind: Kind
    address: str
    keys: Keys | None = None
    server: Server | None = None
    problem: Problem | None = None
    managed: ManagedServer | None = None
    is_plain: bool = True
    """Whether it is spoken to without credentials and without TLS."""


def secret_name(pool: KVCachePool) -> str:
    """Return the name of the Secret with generated credentials."""
    return f"{pool.metadata.name}-metadata"


def managed_name(pool: KVCachePool, kind: str) -> str:
    """Return the name of the StatefulSet and the client Service of a managed server."""
    return f"{pool.metadata.name}-{kind}"


def has_password(pool: KVCachePool, managed: ManagedMetadata) -> bool:
    """Say whether a managed server asks for a password: always, unless the cache servers need etcd and know none."""
    return managed.kind != "etcd" or not is_vineyardd(pool.spec.cache.image)


def secrets_of(pool: KVCachePool) -> list[SecretUse]:
    """Return the Secrets that the metadata of a pool needs, each once."""
    metadata = pool.spec.effective_metadata
    found: dict[str, SecretUse] = {}

    def add(name: str, field: str) -> None:
        if name:
            found.setdefault(name, SecretUse(name, field))

    if metadata.managed is not None:
        if has_password(pool, metadata.managed):
            add(secret_name(pool), "the managed metadata server")
        return list(found.values())
    brought: EtcdMetadata | RedisMetadata | None = metadata.etcd or metadata.redis
    if brought is None:
        return []
    path = "spec.metadata.etcd" if metadata.etcd is not None else "spec.metadata.redis"
    if brought.credentials_secret_ref is not None:
        add(brought.credentials_secret_ref.name, f"{path}.credentialsSecretRef")
    if isinstance(brought, RedisMetadata) and brought.sentinel_secret_ref is not None:
        add(brought.sentinel_secret_ref.name, f"{path}.sentinelSecretRef")
    if brought.tls is not None and brought.tls.enabled:
        if brought.tls.ca_secret_ref is not None:
            add(brought.tls.ca_secret_ref.name, f"{path}.tls.caSecretRef")
        if brought.tls.client_secret_ref is not None:
            add(brought.tls.client_secret_ref.name, f"{path}.tls.clientSecretRef")
    return list(found.values())


def destination_of(pool: KVCachePool) -> Any:
    """Return the part of the spec that says where the membership goes."""
    return msgspec.to_builtins(pool.spec.effective_metadata)


def with_destination(pool: KVCachePool, destination: Any) -> KVCachePool:
    """Return a pool whose membership goes elsewhere.

    Raises:
        msgspec.ValidationError: it is no destination.
    """
    metadata = msgspec.convert(destination, PoolMetadata)
    return msgspec.structs.replace(pool, spec=msgspec.structs.replace(pool.spec, metadata=metadata))


def metadata_of(pool: KVCachePool, seen: Seen, labels: Mapping[str, str], timeout_s: float) -> Metadata:
    """Return where the membership goes.

    Args:
        labels: of the pods of a managed server.
    """
    metadata = pool.spec.effective_metadata
    if metadata.etcd is not None:
        return _brought_etcd(pool, metadata.etcd, seen, timeout_s)
    if metadata.redis is not None:
        return _brought_redis(pool, metadata.redis, seen, timeout_s)
    return _managed(pool, metadata.managed or ManagedMetadata(), seen, labels, timeout_s)


class _Missing(Exception):
    """A Secret, or a key of it, is not there; the text is for people."""


def _brought_etcd(pool: KVCachePool, etcd: EtcdMetadata, seen: Seen, timeout_s: float) -> Metadata:
    address = ", ".join(etcd.endpoints)
    try:
        keys = pool_keys("etcd", pool.key, etcd.prefix)
    except ValueError as err:
        return Metadata("etcd", address, problem=Problem("InvalidPrefix", f"spec.metadata.etcd.prefix: {err}"))
    schemes = {urlsplit(each).scheme for each in etcd.endpoints if "://" in each}
    if len(schemes) > 1:
        text = "spec.metadata.etcd.endpoints: some are http:// and some https://"
        return Metadata("etcd", address, keys, problem=Problem("InvalidEndpoints", text))
    try:
        tls = _tls(etcd.tls, seen, "spec.metadata.etcd.tls")
        if tls is None and schemes == {"https"}:
            tls = Tls()
        if tls is not None and schemes == {"http"}:
            text = "spec.metadata.etcd.endpoints: http:// with tls; leave the scheme out"
            return Metadata("etcd", address, keys, problem=Problem("InvalidEndpoints", text))
        username = password = ""
        if etcd.credentials_secret_ref is not None:
            field = "spec.metadata.etcd.credentialsSecretRef"
            values = _values(etcd.credentials_secret_ref.name, seen, field, (USERNAME, PASSWORD))
            username, password = values[USERNAME], values[PASSWORD]
    except _Missing as err:
        return Metadata("etcd", address, keys, problem=Problem(CREDENTIALS_UNAVAILABLE, str(err)))
    addresses = tuple(each.partition("://")[2] or each for each in (e.rstrip("/") for e in etcd.endpoints))
    server = Server("etcd", addresses, username, password, tls, timeout_s=timeout_s)
    return Metadata("etcd", address, keys, server, is_plain=not username and tls is None)


def _brought_redis(pool: KVCachePool, redis: RedisMetadata, seen: Seen, timeout_s: float) -> Metadata:
    addresses = tuple(dict.fromkeys((redis.address, *redis.addresses)))
    keys = pool_keys("redis", pool.key)
    try:
        tls = _tls(redis.tls, seen, "spec.metadata.redis.tls")
        username = password = sentinel_password = ""
        if redis.credentials_secret_ref is not None:
            field = "spec.metadata.redis.credentialsSecretRef"
            values = _values(redis.credentials_secret_ref.name, seen, field, (PASSWORD,))
            username, password = values.get(USERNAME, ""), values[PASSWORD]
        if redis.sentinel_secret_ref is not None:
            field = "spec.metadata.redis.sentinelSecretRef"
            sentinel_password = _values(redis.sentinel_secret_ref.name, seen, field, (PASSWORD,))[PASSWORD]
    except _Missing as err:
        return Metadata("redis", ", ".join(addresses), keys, problem=Problem(CREDENTIALS_UNAVAILABLE, str(err)))
    mode = redis.mode
    server = Server(
        "redis",
        addresses,
        username,
        password,
        tls,
        mode="Sentinel" if mode == "Sentinel" else "Cluster" if mode == "Cluster" else "Standalone",
        database=redis.database,
        master_name=redis.master_name,
        sentinel_password=sentinel_password,
        timeout_s=timeout_s,
    )
    return Metadata("redis", ", ".join(addresses), keys, server, is_plain=not password and tls is None)


def _managed(
    pool: KVCachePool, managed: ManagedMetadata, seen: Seen, labels: Mapping[str, str], timeout_s: float
) -> Metadata:
    kind: Kind = "redis" if managed.kind == "redis" else "etcd"
    port = REDIS_PORT if kind == "redis" else ETCD_PORT
    replicas = 1 if kind == "redis" else managed.replicas
    keys = pool_keys(kind, pool.key)
    address = service_address(ObjectKey(pool.metadata.namespace, managed_name(pool, kind)), port)
    is_secured = has_password(pool, managed)
    password = ""
    if is_secured:
        try:
            password = _values(secret_name(pool), seen, f"the managed {kind}", (PASSWORD,))[PASSWORD]
        except _Missing as err:
            server = ManagedServer(kind, labels, replicas)
            secret = seen.secrets.get(secret_name(pool))
            is_new = secret is not None and secret.is_missing
            problem = (
                Problem(STARTING, "its credentials are made") if is_new else Problem(CREDENTIALS_UNAVAILABLE, str(err))
            )
            return Metadata(kind, address, keys, problem=problem, managed=server, is_plain=False)
    server = ManagedServer(kind, labels, replicas, password)
    running = [
        pod
        for pod in seen.pods
        if has_labels(pod, labels) and pod.status.pod_ip and pod.status.phase == "Running" and not pod.is_finished
    ]
    # A member that is not ready may be the one that answers; one of a quorum that is not there yet is no use.
    ready = [pod for pod in running if pod.is_ready]
    if not ready:
        has_worked = bool(running) and seen.record is not None
        if not has_worked:
            text = f"0 of {replicas} pods of the managed {kind} are ready"
            return Metadata(
                kind, address, keys, problem=Problem(STARTING, text), managed=server, is_plain=not is_secured
            )
    addresses = tuple(host_port(pod.status.pod_ip, port) for pod in (ready or running))
    username = ETCD_USER if kind == "etcd" and is_secured else ""
    target = Server(kind, addresses, username, password, timeout_s=timeout_s)
    return Metadata(kind, address, keys, target, managed=server, is_plain=not is_secured)


def service_address(key: ObjectKey, port: int) -> str:
    """Return host:port of a Service, as pods of the cluster resolve it."""
    return f"{key.name}.{key.namespace}.svc:{port}"


def _tls(config: TlsConfig | None, seen: Seen, path: str) -> Tls | None:
    if config is None or not config.enabled:
        return None
    authority = certificate = key = ""
    if config.ca_secret_ref is not None:
        authority = _values(config.ca_secret_ref.name, seen, f"{path}.caSecretRef", _TLS_KEYS[:1])["ca.crt"]
    if config.client_secret_ref is not None:
        values = _values(config.client_secret_ref.name, seen, f"{path}.clientSecretRef", _TLS_KEYS[1:])
        certificate, key = values["tls.crt"], values["tls.key"]
    return Tls(authority, certificate, key, config.server_name)


def _values(name: str, seen: Seen, field: str, keys: tuple[str, ...]) -> Mapping[str, str]:
    """Return what a Secret holds.

    Raises:
        _Missing: it is not there, or lacks one of the keys.
    """
    secret = seen.secrets.get(name)
    if secret is None or secret.values is None:
        raise _Missing(secret.problem if secret is not None else f"Secret {name} of {field} was not read yet")
    for key in keys:
        if not secret.values.get(key):
            raise _Missing(f"Secret {name} of {field} has no {key}")
    return secret.values
