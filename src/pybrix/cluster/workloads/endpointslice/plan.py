"""Decide which EndpointSlices a Service gets, changing as few of them as possible."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from pybrix.api import names
from pybrix.api.core import Endpoint, EndpointSlice, Service
from pybrix.base.hashing import template_hash
from pybrix.cluster.workloads.endpointslice.render import Group, by_identity, identity, render_groups
from pybrix.cluster.workloads.endpointslice.state import MANAGER, Observed, is_worked_on
from pybrix.runtime.actions import Action, Create, Delete, Patch, Plan

MAX_ENDPOINTS = 100
"""Endpoints in one slice; upstream's default."""
HEADLESS = "service.kubernetes.io/headless"


def plan(seen: Observed) -> Plan:
    """Return the actions that make the slices say what the pods are.

    An endpoint stays in its slice. New ones fill the slices that change anyway, then one that has room for them all,
    then new slices. Creations come first and deletions last, so that no endpoint is missing in between.
    """
    if not is_worked_on(seen.service):
        return Plan()
    groups = render_groups(seen)
    fresh = _names(seen)
    creates: list[Action] = []
    patches: list[Action] = []
    doomed: list[EndpointSlice] = []
    present: dict[Group, list[EndpointSlice]] = {}
    for piece in sorted(seen.slices, key=lambda s: s.metadata.name):
        group = (piece.address_type, tuple(piece.ports))
        if group in groups and _is_owned(piece, seen.service):
            present.setdefault(group, []).append(piece)
        else:
            doomed.append(piece)
    for group, wanted in groups.items():
        kept, empty, more = _distribute(wanted, present.get(group, []))
        if not kept and not more:
            # The placeholder, or the first slice that just lost its last endpoint, stays.
            kept, empty = [(p, []) for p in empty[:1]], empty[1:]
            more = [] if kept else [[]]
        doomed += empty
        patches += [p for piece, endpoints in kept for p in _patch(seen.service, piece, endpoints)]
        creates += [_create(seen.service, group, endpoints, next(fresh)) for endpoints in more]
    why = f"no endpoint of {seen.service.metadata.name} is left in it"
    deletes = [Delete(EndpointSlice, piece.key, piece.uid, why, owner=seen.service) for piece in doomed]
    return Plan((*creates, *patches, *deletes))


def _distribute(
    wanted: list[Endpoint], present: list[EndpointSlice]
) -> tuple[list[tuple[EndpointSlice, list[Endpoint]]], list[EndpointSlice], list[list[Endpoint]]]:
    """Return the slices to keep with their endpoints, those left empty, and the contents of new ones."""
    remaining = by_identity(wanted)
    kept: list[tuple[EndpointSlice, list[Endpoint]]] = []
    empty: list[EndpointSlice] = []
    for piece in present:
        staying = [remaining.pop(identity(e)) for e in piece.endpoints if identity(e) in remaining]
        if staying:
            kept.append((piece, staying))
        else:
            empty.append(piece)
    waiting = sorted(remaining.values(), key=identity)
    for piece, endpoints in kept:
        if waiting and endpoints != piece.endpoints:
            waiting = _fill(endpoints, waiting)
    if waiting and len(waiting) < MAX_ENDPOINTS:
        roomy = [e for _, e in kept if len(e) + len(waiting) <= MAX_ENDPOINTS]
        if roomy:
            waiting = _fill(max(roomy, key=len), waiting)
    while waiting and empty:
        content: list[Endpoint] = []
        waiting = _fill(content, waiting)
        kept.append((empty.pop(0), content))
    more = [waiting[i : i + MAX_ENDPOINTS] for i in range(0, len(waiting), MAX_ENDPOINTS)]
    return kept, empty, more


def _fill(endpoints: list[Endpoint], waiting: list[Endpoint]) -> list[Endpoint]:
    """Move what fits from `waiting` into `endpoints`; return the rest."""
    room = MAX_ENDPOINTS - len(endpoints)
    endpoints += waiting[:room]
    return waiting[room:]


def _is_owned(piece: EndpointSlice, service: Service) -> bool:
    """Say whether a slice belongs to this very Service, not to a deleted one of its name."""
    return any(reference.uid == service.uid for reference in piece.metadata.owner_references)


def _names(seen: Observed) -> Iterator[str]:
    """Yield free names, the same ones for the same input: a stale cache cannot make a slice twice."""
    prefix = seen.service.metadata.name
    # A name has at most 253 characters, six of which are the suffix.
    candidates = (f"{prefix[:247]}-{template_hash(seen.service.uid, i)[:5]}" for i in range(10_000))
    return (name for name in candidates if name not in seen.taken)


def _labels(service: Service) -> dict[str, str]:
    labels = {k: v for k, v in service.metadata.labels.items() if k != HEADLESS}
    if service.spec.cluster_ip == "None":
        labels[HEADLESS] = ""
    return {**labels, names.SERVICE_NAME: service.metadata.name, names.MANAGED_BY_ENDPOINTSLICE: MANAGER}


def _create(service: Service, group: Group, endpoints: list[Endpoint], name: str) -> Create:
    address_type, ports = group
    manifest = {
        "apiVersion": EndpointSlice.gvk.api_version,
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "generateName": f"{service.metadata.name}-",
            "namespace": service.metadata.namespace,
            "labels": _labels(service),
        },
        "addressType": address_type,
        "endpoints": msgspec.to_builtins(endpoints),
        "ports": msgspec.to_builtins(list(ports)),
    }
    why = f"{len(endpoints)} endpoints of {service.metadata.name} are in no slice" if endpoints else "it has no slice"
    return Create(manifest, why, owner=service)


def _patch(service: Service, piece: EndpointSlice, endpoints: list[Endpoint]) -> list[Patch]:
    patch: dict[str, Any] = {}
    labels, wanted = piece.metadata.labels, _labels(service)
    difference: dict[str, str | None] = {k: v for k, v in wanted.items() if labels.get(k) != v}
    difference |= {k: None for k in labels if k not in wanted}
    if difference:
        patch["metadata"] = {"labels": difference}
    if endpoints != piece.endpoints:
        patch["endpoints"] = msgspec.to_builtins(endpoints)
    if not patch:
        return []
    why = f"endpoints of {service.metadata.name} changed" if "endpoints" in patch else "labels of the Service changed"
    return [Patch(EndpointSlice, piece.key, patch, why, resource_version=piece.metadata.resource_version)]
