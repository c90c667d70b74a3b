"""Where the membership of a KVCache goes. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import msgspec

from pybrix.api.identity import ObjectKey
from pybrix.api.orchestration.v1alpha1.kvcache import (
    ExternalConnection,
    KVCache,
    KVCacheMetadata,
    MetadataServer,
    RuntimeSpec,
)
from pybrix.controllers.cachecluster.blueprint import ManagedServer, Problem, SecretUse, Seen
from pybrix.controllers.cachecluster.managed import ETCD_PORT, ETCD_USER, REDIS_PORT
from pybrix.controllers.cachecluster.members import has_labels, host_port
from pybrix.controllers.kvcache.annotations import BACKEND, backend_of, labels_of
from pybrix.controllers.membership.keys import HPKV_KEY, INFINISTORE_KEY, Keys, cache_keys
from pybrix.controllers.membership.store import Kind, Server, Tls, split_address

CREDENTIALS_UNAVAILABLE = "CredentialsUnavailable"
_RECORDS = {"infinistore": INFINISTORE_KEY, "hpkv": HPKV_KEY}
_DATABASE = "REDIS_DATABASE"


@dataclass(frozen=True, slots=True)
class Metadata:
    """A metadata server of a KVCache. `kind` empty: it has none."""

    kind: Kind | None = None
    address: str = ""
    keys: Keys | None = None
    server: Server | None = None
    problem: Problem | None = None
    managed: ManagedServer | None = None
    runtime: RuntimeSpec | None = None
    """What a managed one is made from."""
    secret: tuple[str, str] | None = None
    """Secret and key of the password of one that runs elsewhere."""
    is_plain: bool = True
    """Whether it is spoken to without credentials and without TLS."""
    invalid: str = ""


def secrets_of(cache: KVCache) -> list[SecretUse]:
    kind, external, _ = _parts(cache)
    secret = _secret(external) if external is not None else None
    if secret is None:
        return []
    return [SecretUse(secret[0], f"spec.metadata.{kind}.externalConnection.passwordSecretRef")]


class _Destination(msgspec.Struct, frozen=True):
    """The parts of a KVCache that say where its membership goes."""

    backend: str
    kind: Kind
    connection: ExternalConnection
    database: int


def destination_of(cache: KVCache) -> Any:
    """Return what says where the membership goes, to a server that runs elsewhere."""
    kind, external, _ = _parts(cache)
    assert kind is not None
    assert external is not None
    return msgspec.to_builtins(_Destination(backend_of(cache), kind, external, _database(cache)))


def with_destination(cache: KVCache, destination: Any) -> KVCache:
    """Return a cache whose membership goes elsewhere.

    Raises:
        msgspec.ValidationError: it is no destination.
    """
    said = msgspec.convert(destination, _Destination)
    server = MetadataServer(external_connection=said.connection)
    metadata = KVCacheMetadata(etcd=server) if said.kind == "etcd" else KVCacheMetadata(redis=server)
    watcher = RuntimeSpec(env=[{"name": _DATABASE, "value": str(said.database)}])
    annotations = {**cache.metadata.annotations, BACKEND: said.backend}
    return msgspec.structs.replace(
        cache,
        metadata=msgspec.structs.replace(cache.metadata, annotations=annotations),
        spec=msgspec.structs.replace(cache.spec, metadata=metadata, watcher=watcher),
    )


def metadata_of(cache: KVCache, seen: Seen, timeout_s: float) -> Metadata:
    """Return where the membership goes."""
    kind, external, runtime = _parts(cache)
    if kind is None:
        return Metadata()
    keys = cache_keys(kind, cache.key, _RECORDS.get(backend_of(cache), ""))
    if external is not None:
        return _external(cache, kind, external, keys, seen, timeout_s)
    if runtime is None:
        # As a definition that is older than its rules lets it through.
        text = f"spec.metadata.{kind}: set runtime to run a server in the cluster, or externalConnection.address"
        return Metadata(kind, invalid=text)
    return _managed(cache, kind, runtime, keys, seen, timeout_s)


def _parts(cache: KVCache) -> tuple[Kind | None, ExternalConnection | None, RuntimeSpec | None]:
    metadata = cache.spec.metadata
    kind: Kind
    if metadata is None:
        return None, None, None
    # AIBrix takes etcd for vineyard where both are given, and Redis for the others.
    is_vineyard = backend_of(cache) == "vineyard"
    if metadata.etcd is not None and (metadata.redis is None or is_vineyard):
        kind, server = "etcd", metadata.etcd
    elif metadata.redis is not None:
        kind, server = "redis", metadata.redis
    else:
        return None, None, None
    external = server.external_connection
    return kind, (external if external is not None and external.address else None), server.runtime


def _secret(external: ExternalConnection) -> tuple[str, str] | None:
    name, slash, key = external.password_secret_ref.partition("/")
    return (name, key if slash else "password") if name else None


def _external(
    cache: KVCache, kind: Kind, external: ExternalConnection, keys: Keys, seen: Seen, timeout_s: float
) -> Metadata:
    path = f"spec.metadata.{kind}.externalConnection"
    secret = _secret(external)
    found = Metadata(kind, external.address, keys, secret=secret, is_plain=secret is None)
    texts = [each.strip().rstrip("/") for each in external.address.split(",")] if kind == "etcd" else [external.address]
    is_tls = kind == "etcd" and any(each.startswith("https://") for each in texts)
    addresses = tuple(each.partition("://")[2] or each for each in texts)
    try:
        for address in addresses:
            split_address(address)
    except ValueError as err:
        return replace(found, invalid=f"{path}.address: {err}")
    password = ""
    if secret is not None:
        held = seen.secrets.get(secret[0])
        if held is None or held.values is None:
            problem = held.problem if held is not None else f"Secret {secret[0]} was not read yet"
            return replace(found, problem=Problem(CREDENTIALS_UNAVAILABLE, problem))
        if not held.values.get(secret[1]):
            text = f"Secret {secret[0]} of {path}.passwordSecretRef has no {secret[1]}"
            return replace(found, problem=Problem(CREDENTIALS_UNAVAILABLE, text))
        password = held.values[secret[1]]
    server = Server(
        kind,
        addresses,
        # A password alone is etcd's root's; AIBrix has no field for another user.
        ETCD_USER if kind == "etcd" and password else "",
        password,
        Tls() if is_tls else None,
        database=_database(cache) if kind == "redis" else 0,
        timeout_s=timeout_s,
    )
    return replace(found, server=server, is_plain=secret is None and not is_tls)


def _database(cache: KVCache) -> int:
    """Return the database of Redis: AIBrix's watcher takes it from its environment, so it is looked for there."""
    env = cache.spec.watcher.env if cache.spec.watcher is not None else []
    value = next((str(each.get("value", "")) for each in env if each.get("name") == _DATABASE), "")
    return int(value) if value.isascii() and value.isdigit() else 0


def _managed(cache: KVCache, kind: Kind, runtime: RuntimeSpec, keys: Keys, seen: Seen, timeout_s: float) -> Metadata:
    labels = labels_of(cache, "metadata")
    port = ETCD_PORT if kind == "etcd" else REDIS_PORT
    replicas = max(runtime.replicas, 1) if kind == "etcd" else 1
    name = f"{cache.metadata.name}-etcd-service" if kind == "etcd" else f"{cache.metadata.name}-redis"
    found = Metadata(
        kind,
        f"{name}.{cache.metadata.namespace}.svc:{port}",
        keys,
        managed=ManagedServer(kind, labels, replicas),
        runtime=runtime,
    )
    running = [p for p in seen.pods if has_labels(p, labels) and p.status.pod_ip and p.status.phase == "Running"]
    ready = [p for p in running if p.is_ready]
    pods = ready or (running if seen.record is not None else [])
    if not pods:
        return replace(found, problem=Problem("Starting", f"0 of {replicas} pods of the {kind} are ready"))
    addresses = tuple(host_port(p.status.pod_ip, port) for p in pods)
    return replace(found, server=Server(kind, addresses, timeout_s=timeout_s))


def managed_key(cache: KVCache, kind: str) -> ObjectKey:
    """Return the name of the StatefulSet of a managed server."""
    return ObjectKey(cache.metadata.namespace, f"{cache.metadata.name}-{kind}")
