"""What `pybrix kvcache` does; imported only when it runs.

The membership is read from the ConfigMap that the controller keeps beside a cache, so that nobody needs the metadata
server's address, network or password to look at it.
"""

from __future__ import annotations

import asyncio
import string
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec

from pybrix.api.conditions import StandardCondition
from pybrix.api.core import ConfigMap
from pybrix.api.identity import ObjectKey
from pybrix.api.kvcache.v1alpha1.kvcachepool import KVCachePool
from pybrix.api.meta import find_condition
from pybrix.api.orchestration.v1alpha1.kvcache import KVCache
from pybrix.base.errors import UsageError
from pybrix.cli.access import find_access_of_user
from pybrix.cli.tables import render_table
from pybrix.controllers.cachecluster.conditions import METADATA_REACHABLE, READY
from pybrix.controllers.cachecluster.record import read_record, record_name
from pybrix.controllers.membership.records import Record, slot_counts
from pybrix.kube.client import HttpClient
from pybrix.kube.errors import NotFound
from pybrix.kube.interface import Client

_COLUMNS = 64
_ROWS = 16
"""A picture has at most so many cells; each stands for a few slots that follow each other."""
_LETTERS = string.ascii_uppercase + string.ascii_lowercase + string.digits


@dataclass(frozen=True, slots=True)
class Cache:
    """A cache and what is published of it; `record` None: nothing yet."""

    obj: KVCachePool | KVCache
    record: Record | None

    @property
    def title(self) -> str:
        return f"{self.obj.gvk.kind} {self.obj.key}"

    @property
    def conditions(self) -> Sequence[StandardCondition]:
        return self.obj.status.conditions

    @property
    def is_ready(self) -> bool:
        found = find_condition(self.conditions, READY)
        return found is not None and found.is_true


def show_status(
    kubeconfig: Path | None, data_dir_path: Path | None, name: str, *, namespace: str | None, is_json: bool
) -> None:
    """Print how a cache is.

    Raises:
        UsageError: there is none of that name, or the cluster knows no such kinds.
    """
    print_status(asyncio.run(_fetch(kubeconfig, data_dir_path, name, namespace)), is_json=is_json)


def print_status(cache: Cache, *, is_json: bool) -> None:
    """Print how a cache is; exit with 1 when it is not ready and the output is for people.

    JSON says so itself, and a program that looks why has to get it.
    """
    if is_json:
        click.echo(msgspec.json.format(msgspec.json.encode(describe(cache)), indent=2).decode())
        return
    click.echo("\n".join(render_status(cache)))
    if not cache.is_ready:
        sys.exit(1)


def show_ring(
    kubeconfig: Path | None, data_dir_path: Path | None, name: str, *, namespace: str | None, is_json: bool
) -> None:
    """Print who has which slots.

    Raises:
        UsageError: there is none of that name, or nothing is published of it.
    """
    cache = asyncio.run(_fetch(kubeconfig, data_dir_path, name, namespace))
    record = cache.record
    if record is None or not record.nodes:
        raise UsageError(f"{cache.title} has no members yet", f"pybrix kvcache status {name}")
    if is_json:
        click.echo(msgspec.json.format(msgspec.json.encode(record), indent=2).decode())
    else:
        click.echo("\n".join(render_ring(record)))


async def _fetch(kubeconfig: Path | None, data_dir_path: Path | None, name: str, namespace: str | None) -> Cache:
    access = find_access_of_user(kubeconfig, data_dir_path)
    async with HttpClient(access) as client:
        return await fetch_cache(client, namespace or access.namespace, name)


async def fetch_cache(client: Client, namespace: str, name: str) -> Cache:
    """Return a pool or a KVCache with what is published of it.

    Raises:
        UsageError: there is none of that name.
    """
    kind, slash, bare = name.partition("/")
    kinds: dict[str, type[KVCachePool] | type[KVCache]] = {"pool": KVCachePool, "cache": KVCache}
    if slash:
        # Also as kubectl prints it: kvcachepool.kvcache.aibrix.ai/NAME.
        kind = {"kvcachepool": "pool", "kvcache": "cache"}.get(kind.partition(".")[0], kind)
    if slash and kind not in kinds:
        raise UsageError(f"{name!r}: {kind!r} is no kind of cache", "pool/NAME or cache/NAME")
    key = ObjectKey(namespace, bare if slash else name)
    for cls in [kinds[kind]] if slash else kinds.values():
        try:
            obj: Any = await client.get(cls, key)
        except NotFound:
            continue
        try:
            copied = await client.get(ConfigMap, ObjectKey(namespace, record_name(obj)))
        except NotFound:
            return Cache(obj, None)
        return Cache(obj, read_record(copied))
    what = {"pool": "KVCachePool", "cache": "KVCache"}.get(kind if slash else "", "KVCachePool or KVCache")
    raise UsageError(
        f"there is no {what} {key.name!r} in namespace {namespace}", "kubectl get kvcachepools,kvcaches -A"
    )


def describe(cache: Cache) -> dict[str, Any]:
    """Return what `status -o json` prints."""
    record = cache.record
    slots = slot_counts(record) if record is not None else {}
    found: dict[str, Any] = {
        "kind": cache.obj.gvk.kind,
        "namespace": cache.obj.metadata.namespace,
        "name": cache.obj.metadata.name,
        "ready": cache.is_ready,
        "membershipVersion": record.version if record is not None else 0,
        "members": [
            {"name": node.name, "address": node.addr, "port": node.port, "slots": slots[node.name]}
            for node in (record.nodes if record is not None else ())
        ],
        "conditions": msgspec.to_builtins(list(cache.conditions)),
    }
    if isinstance(cache.obj, KVCachePool):
        found["replicas"] = {"desired": cache.obj.spec.replicas, "ready": cache.obj.status.ready_replicas}
        found["metadata"] = msgspec.to_builtins(cache.obj.status.metadata)
    else:
        found["replicas"] = {"desired": cache.obj.spec.cache.replicas, "ready": cache.obj.status.current}
    return found


def render_status(cache: Cache) -> list[str]:
    """Return the lines for people."""
    said = describe(cache)
    lines = [
        f"{cache.title}: {said['replicas']['ready']} of {said['replicas']['desired']} cache servers are ready, "
        f"membership version {said['membershipVersion']}"
    ]
    metadata = said.get("metadata")
    if metadata and metadata.get("kind"):
        latency = metadata.get("latencyMilliseconds")
        state = f"answers within {latency} ms"
        if not metadata.get("reachable"):
            reachable = find_condition(cache.conditions, METADATA_REACHABLE)
            state = f"cannot be used: {reachable.reason if reachable is not None else 'NotTried'}"
        lines.append(f"Metadata: {metadata['kind']} at {metadata.get('address', '')} {state}")
    lines.append("")
    if said["members"]:
        members = [(m["name"], f"{m['address']}:{m['port']}", str(m["slots"])) for m in said["members"]]
        lines += render_table(("MEMBER", "ADDRESS", "SLOTS"), members)
    else:
        lines.append("No members are published.")
    lines.append("")
    rows = [(c.type, c.status, c.reason, c.message) for c in cache.conditions]
    if rows:
        lines += render_table(("CONDITION", "STATUS", "REASON", "MESSAGE"), rows)
    else:
        lines.append("No controller has looked at it yet: pybrix controllers run")
    return lines


def render_ring(record: Record) -> list[str]:
    """Return the picture: cells of a few slots in order, each with the letter of who has most of them."""
    owners = record.owners
    total = max(owners) + 1
    per_cell = max(-(-total // (_COLUMNS * _ROWS)), 1)
    letters = {node.name: _LETTERS[number % len(_LETTERS)] for number, node in enumerate(record.nodes)}

    def letter_at(start: int) -> str:
        """Return the letter of who has most of the slots of a cell."""
        found = Counter(letters.get(owners.get(slot, ""), ".") for slot in range(start, min(start + per_cell, total)))
        return found.most_common(1)[0][0]

    cells = [letter_at(start) for start in range(0, total, per_cell)]
    picture = [f"{at * per_cell:>6}  {''.join(cells[at : at + _COLUMNS])}" for at in range(0, len(cells), _COLUMNS)]
    counts = slot_counts(record)
    rows = [
        (
            letters[node.name],
            node.name,
            str(counts[node.name]),
            f"{counts[node.name] / total:.1%}",
            str(len(node.slots)),
        )
        for node in record.nodes
    ]
    head = f"version {record.version}, {total} slots, {per_cell} in a cell"
    return [head, "", *picture, "", *render_table(("", "MEMBER", "SLOTS", "SHARE", "RANGES"), rows)]
