"""Where the membership of a cache is in its metadata server. Pure.

| server | what | key |
|---|---|---|
| etcd | of a pool | `<prefix>/membership`, `<prefix>/members/<member>`; by default below `/pybrix/<namespace>/<name>` |
| etcd | of a KVCache | the same below `/pybrix.kvcache/<namespace>/<name>` |
| Redis | of a pool | `pybrix:{<namespace>/<name>}:membership`, `...:members:<member>` |
| Redis | of a KVCache | `kvcache_nodes` or `hpkv_cluster_metadata`, as AIBrix's library looks for it |

The braces are a hash tag: in a Redis Cluster all keys of a cache are in one slot.
"""

from __future__ import annotations

from dataclasses import dataclass

from pybrix.api.identity import ObjectKey
from pybrix.controllers.membership.store import Kind

INFINISTORE_KEY = "kvcache_nodes"
HPKV_KEY = "hpkv_cluster_metadata"


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one cache. Nothing else of the server is ever touched."""

    record: str
    members: str
    """What the key of a member begins with."""
    servers: str = ""
    """What the keys begin with that the cache servers themselves write, in etcd; empty: they write none."""

    def member(self, name: str) -> str:
        return f"{self.members}{name}"

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Return what everything begins with that goes with the cache, beside the record."""
        return tuple(prefix for prefix in (self.members, f"{self.servers}/" if self.servers else "") if prefix)


def pool_keys(kind: Kind, pool: ObjectKey, prefix: str = "") -> Keys:
    """Return the keys of a KVCachePool.

    Raises:
        ValueError: the prefix is all of the server.
    """
    if kind == "redis":
        return _redis(f"pybrix:{{{pool.namespace}/{pool.name}}}")
    root = (prefix or f"/pybrix/{pool.namespace}/{pool.name}").rstrip("/")
    if not root:
        raise ValueError("a prefix of / would be everything in the server; leave it out, or give the pool a part of it")
    return _etcd(root)


def cache_keys(kind: Kind, cache: ObjectKey, record: str = "") -> Keys:
    """Return the keys of a KVCache; `record` is the key in Redis that its engines look for."""
    if kind == "redis":
        keys = _redis(f"pybrix.kvcache:{{{cache.namespace}/{cache.name}}}")
        return Keys(record or keys.record, keys.members)
    return _etcd(f"/pybrix.kvcache/{cache.namespace}/{cache.name}")


def _redis(root: str) -> Keys:
    return Keys(f"{root}:membership", f"{root}:members:")


def _etcd(root: str) -> Keys:
    return Keys(f"{root}/membership", f"{root}/members/", f"{root}/servers")
