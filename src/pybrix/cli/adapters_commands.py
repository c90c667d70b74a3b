"""What `pybrix adapters` does; imported only when it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import msgspec
import yaml

from pybrix.api.meta import find_condition
from pybrix.api.model.v1alpha1.modeladapter import ModelAdapter
from pybrix.base.clock import Clock, SystemClock, parse_rfc3339
from pybrix.base.errors import UsageError
from pybrix.cli.access import find_access_of_user
from pybrix.cli.tables import render_table
from pybrix.kube.client import HttpClient
from pybrix.kube.errors import Gone, NotFound
from pybrix.kube.interface import Client, EventType

_LONGEST_ERROR = 80


def show_adapters(
    kubeconfig: Path | None,
    data_dir_path: Path | None,
    *,
    namespace: str | None,
    is_everywhere: bool,
    names: tuple[str, ...],
    output: str,
    is_watching: bool,
) -> None:
    """Print the adapters of a cluster.

    Raises:
        UsageError: there is none of a name, or the cluster has no such kind.
    """
    access = find_access_of_user(kubeconfig, data_dir_path)
    where = None if is_everywhere else namespace or access.namespace

    async def show() -> None:
        async with HttpClient(access) as client:
            if is_watching:
                await _watch(client, where, names, is_wide=output == "wide", clock=SystemClock())
            else:
                found, _ = await fetch_adapters(client, where, names)
                click.echo(_render(found, output, where, names, SystemClock()), nl=output != "yaml")

    asyncio.run(show())


async def fetch_adapters(
    client: Client, namespace: str | None, names: Sequence[str] = ()
) -> tuple[list[ModelAdapter], str]:
    """Return the adapters, by namespace and name, and the version to watch from.

    Raises:
        UsageError: there is none of a name, or the cluster has no such kind.
    """
    try:
        listed = await client.list(ModelAdapter, namespace)
    except NotFound as err:
        raise UsageError(
            "this cluster knows no ModelAdapter", "pybrix crds | kubectl apply --server-side -f -"
        ) from err
    found = sorted(listed.items, key=lambda adapter: adapter.key)
    for name in names:
        if all(adapter.metadata.name != name for adapter in found):
            place = f"in namespace {namespace}" if namespace else "in any namespace"
            raise UsageError(f"there is no ModelAdapter {name!r} {place}", "`pybrix adapters -A` lists all")
    return [adapter for adapter in found if not names or adapter.metadata.name in names], listed.resource_version


def _render(
    adapters: Sequence[ModelAdapter], output: str, namespace: str | None, names: Sequence[str], clock: Clock
) -> str:
    if output in ("json", "yaml"):
        documents = [adapter.to_dict() for adapter in adapters]
        is_one = len(names) == 1 and len(documents) == 1
        document: Any = documents[0] if is_one else {"apiVersion": "v1", "kind": "List", "items": documents}
        if output == "json":
            return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()
        return yaml.safe_dump(document, sort_keys=False, width=120)
    if not adapters:
        return f"No adapters in namespace {namespace}." if namespace else "No adapters."
    return "\n".join(render_adapters(adapters, clock.now(), is_everywhere=namespace is None, is_wide=output == "wide"))


async def _watch(client: Client, namespace: str | None, names: Sequence[str], *, is_wide: bool, clock: Clock) -> None:
    """Print the table, then a line for each adapter that changes, as `kubectl get --watch` does."""
    adapters, version = await fetch_adapters(client, namespace, names)
    shown = {adapter.key: adapter for adapter in adapters}

    def table() -> list[str]:
        # All of it, so that a line is as wide as the lines above it.
        return render_adapters(list(shown.values()), clock.now(), is_everywhere=namespace is None, is_wide=is_wide)

    def follow(adapter: ModelAdapter, *, is_gone: bool = False) -> None:
        key = adapter.key
        if names and key.name not in names:
            return
        if is_gone:
            shown.pop(key, None)
            click.echo(f"{key} deleted")
            return
        previous = shown.get(key)
        shown[key] = adapter
        if previous is None or _facts(previous, is_wide=is_wide) != _facts(adapter, is_wide=is_wide):
            click.echo(table()[1 + list(shown).index(key)])

    click.echo("\n".join(table()))
    while True:
        try:
            async for event in client.watch(ModelAdapter, namespace, resource_version=version):
                version = event.object.metadata.resource_version
                if event.type is not EventType.BOOKMARK:
                    follow(event.object, is_gone=event.type is EventType.DELETED)
        except Gone:
            listed = await client.list(ModelAdapter, namespace)
            version = listed.resource_version
            there = {adapter.key for adapter in listed.items}
            for adapter in [adapter for key, adapter in shown.items() if key not in there]:
                follow(adapter, is_gone=True)
            for adapter in listed.items:
                follow(adapter)


def render_adapters(
    adapters: Sequence[ModelAdapter], now: datetime, *, is_everywhere: bool, is_wide: bool
) -> list[str]:
    """Return the lines of the table, the head first."""
    head: tuple[str, ...] = ("NAME", "BASE MODEL", "PODS", "PHASE", "AGE")
    if is_everywhere:
        head = ("NAMESPACE", *head)
    head = (*head, "ARTIFACT", "LOADED IN", "LAST ERROR") if is_wide else (*head, "LAST ERROR")
    rows = []
    for adapter in adapters:
        facts = _facts(adapter, is_wide=is_wide)
        row = (*facts[:4], _age(adapter, now), *facts[4:])
        rows.append((adapter.metadata.namespace, *row) if is_everywhere else row)
    return render_table(head, rows)


def last_error(adapter: ModelAdapter) -> str:
    """Return what went wrong last, in a pod or for all of it: reason, colon, message; empty when nothing did."""
    for pod in adapter.status.pods:
        if pod.reason:
            return _sentence(f"{pod.reason} in {pod.name}", pod.message)
    conditions = adapter.status.conditions
    ready = find_condition(conditions, "Ready")
    for condition in (ready, *conditions):
        if condition is not None and condition.status == "False":
            return _sentence(condition.reason, condition.message)
    return ""


def _facts(adapter: ModelAdapter, *, is_wide: bool) -> tuple[str, ...]:
    """Return what a line says, apart from the age: a change of it is worth another line."""
    status = adapter.status
    error = last_error(adapter)
    facts = (
        adapter.metadata.name,
        adapter.spec.base_model or "-",
        f"{status.ready_replicas}/{status.desired_replicas}",
        "Terminating" if adapter.metadata.is_terminating else status.phase or "Pending",
    )
    if is_wide:
        return (*facts, adapter.spec.artifact_url, ",".join(status.instances) or "-", error or "-")
    return (*facts, _cut(error) or "-")


def _sentence(reason: str, message: str) -> str:
    return f"{reason}: {message}" if message else reason


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_ERROR else text[: _LONGEST_ERROR - 3] + "..."


def _age(adapter: ModelAdapter, now: datetime) -> str:
    created = adapter.metadata.creation_timestamp
    if created is None:
        return "-"
    return format_age((now - parse_rfc3339(created)).total_seconds())


_UNITS: Mapping[str, int] = {"d": 86_400, "h": 3_600, "m": 60}


def format_age(age_s: float) -> str:
    """Return an age as `kubectl` shows it, with one unit: 95s, 7m, 3h, 12d."""
    for unit, seconds in _UNITS.items():
        # Two of a unit are clearer than one: 95 seconds, not a minute.
        if age_s >= 2 * seconds:
            return f"{int(age_s // seconds)}{unit}"
    return f"{max(0, int(age_s))}s"
