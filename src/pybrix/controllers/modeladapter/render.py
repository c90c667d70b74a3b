"""Render the Service and the EndpointSlices of an adapter, and what has to change for them to be so. Pure.

An endpoint stays in the slice that it is in, so that a change of one pod touches one slice.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from pybrix.api.core import Endpoint, EndpointConditions, EndpointSlice, ObjectReference, Service
from pybrix.api.model.v1alpha1.modeladapter import ModelAdapter
from pybrix.api.names import DEFAULT_MODEL_PORT, MANAGED_BY_ENDPOINTSLICE, MODEL_NAME, SERVICE_NAME
from pybrix.controllers.modeladapter.plan import EndpointFacts
from pybrix.controllers.modeladapter.state import ADAPTER_NAME, MANAGER, Observed
from pybrix.runtime.actions import Action, Create, Delete, Patch

MAX_ENDPOINTS = 100
"""Endpoints in one slice."""
PORT_NAME = "http"

_Group = tuple[str, int]
"""Address family and port: what the endpoints of a slice have in common."""


def plan_service(seen: Observed, *, is_wanted: bool) -> list[Action]:
    """Return what makes the headless Service right; one that is there is repaired, wanted or not."""
    adapter, service = seen.adapter, seen.service
    labels = _service_labels(adapter)
    if service is None:
        if not is_wanted:
            return []
        why = "clients and DNS find the adapter by it"
        return [Create(_service(adapter, labels, _service_port(seen) or DEFAULT_MODEL_PORT), why, owner=adapter)]
    patch: dict[str, Any] = {}
    if drifted := {k: v for k, v in labels.items() if service.metadata.labels.get(k) != v}:
        patch["metadata"] = {"labels": drifted}
    if MODEL_NAME not in labels and MODEL_NAME in service.metadata.labels:
        patch.setdefault("metadata", {}).setdefault("labels", {})[MODEL_NAME] = None
    spec: dict[str, Any] = {}
    port = _service_port(seen)
    if port is not None and [(p.name, p.port) for p in service.spec.ports] != [(PORT_NAME, port)]:
        spec["ports"] = _ports(port)
    if service.spec.selector:
        # With a selector the cluster's own controller would keep slices of it, too.
        spec["selector"] = None
    if not service.spec.publish_not_ready_addresses:
        spec["publishNotReadyAddresses"] = True
    if spec:
        patch["spec"] = spec
    if not patch:
        return []
    why = "it is not as the adapter has it"
    return [Patch(Service, service.key, patch, why, resource_version=service.metadata.resource_version)]


def is_ours(obj: Service | EndpointSlice, adapter: ModelAdapter) -> bool:
    """Say whether an object belongs to this very adapter, not to a deleted one of its name or to somebody else."""
    controller = obj.metadata.controller
    return controller is not None and controller.uid == adapter.uid


def _service(adapter: ModelAdapter, labels: dict[str, str], port: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": adapter.metadata.name, "namespace": adapter.metadata.namespace, "labels": labels},
        "spec": {"clusterIP": "None", "publishNotReadyAddresses": True, "ports": _ports(port)},
    }


def _ports(port: int) -> list[dict[str, Any]]:
    return [{"name": PORT_NAME, "protocol": "TCP", "port": port, "targetPort": port}]


def _service_port(seen: Observed) -> int | None:
    """Return the port that all pods share; 8000 when they differ, None when there are none to tell."""
    ports = seen.survey.ports
    if not ports:
        return None
    return next(iter(ports)) if len(ports) == 1 else DEFAULT_MODEL_PORT


def _service_labels(adapter: ModelAdapter) -> dict[str, str]:
    labels = {ADAPTER_NAME: adapter.metadata.name}
    base = adapter.spec.base_model or ""
    if base and is_label_value(base):
        labels[MODEL_NAME] = base
    return labels


def is_label_value(text: str) -> bool:
    """Say whether a text can be the value of a label; a name such as `org/model` cannot."""
    ends = text[:1] + text[-1:]
    return len(text) <= 63 and ends.isalnum() and text.isascii() and not set(text) - _LABEL_CHARACTERS


_LABEL_CHARACTERS = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


def plan_slices(seen: Observed, endpoints: Sequence[EndpointFacts], zones: Mapping[str, str]) -> list[Action]:
    """Return what makes the slices list exactly these endpoints: creations, then patches, then deletions.

    The last slice stays when it becomes empty; none is made for nothing.

    Args:
        zones: zone of each node that has one, by name.
    """
    adapter = seen.adapter
    groups = _groups(endpoints, zones)
    present: dict[_Group, list[EndpointSlice]] = {}
    doomed: list[EndpointSlice] = []
    for piece in sorted(seen.slices, key=lambda s: _number(adapter, s)):
        group = _group_of(piece)
        if group is None or not is_ours(piece, adapter):
            doomed.append(piece)
        else:
            present.setdefault(group, []).append(piece)
    names = _names(seen)
    creates: list[Action] = []
    patches: list[Action] = []
    emptied: list[EndpointSlice] = []
    kept = 0
    for group in sorted({*groups, *present}):
        filled, empty, more = _distribute(groups.get(group, {}), present.get(group, []))
        patches += [p for piece, content in filled for p in _patch(seen, piece, content)]
        creates += [
            Create(_slice(adapter, group, content, next(names)), _why(content), owner=adapter) for content in more
        ]
        emptied += empty
        kept += len(filled) + len(more)
    if emptied and not kept:
        patches += _patch(seen, emptied[0], [])
        emptied = emptied[1:]
    deletes = [
        Delete(EndpointSlice, piece.key, piece.uid, "no endpoint is left in it", owner=adapter)
        for piece in (*emptied, *doomed)
    ]
    return [*creates, *patches, *deletes]


def _groups(
    endpoints: Sequence[EndpointFacts], zones: Mapping[str, str]
) -> dict[_Group, dict[tuple[str, str], Endpoint]]:
    """Return the endpoints of each group by pod UID and address."""
    groups: dict[_Group, dict[tuple[str, str], Endpoint]] = {}
    for endpoint in sorted(endpoints, key=lambda e: e.pod.key):
        pod = endpoint.pod
        for address in pod.addresses:
            group = (f"IPv{ipaddress.ip_address(address).version}", pod.port)
            groups.setdefault(group, {})[pod.uid, address] = Endpoint(
                addresses=[address],
                conditions=EndpointConditions(ready=endpoint.is_ready, serving=True, terminating=pod.is_terminating),
                target_ref=ObjectReference(kind="Pod", namespace=pod.key.namespace, name=pod.key.name, uid=pod.uid),
                node_name=pod.node_name,
                zone=zones.get(pod.node_name, ""),
            )
    return groups


def _distribute(
    wanted: dict[tuple[str, str], Endpoint], present: list[EndpointSlice]
) -> tuple[list[tuple[EndpointSlice, list[Endpoint]]], list[EndpointSlice], list[list[Endpoint]]]:
    """Return slices with their contents, slices that became empty, and the contents of new ones.

    New endpoints go into slices that change anyway, then into the fullest that has room, then into new ones.
    """
    waiting = dict(wanted)
    filled: list[tuple[EndpointSlice, list[Endpoint]]] = []
    empty: list[EndpointSlice] = []
    for piece in present:
        content: list[Endpoint] = []
        for endpoint in piece.endpoints:
            if (identity := _identity(endpoint)) in waiting and len(content) < MAX_ENDPOINTS:
                content.append(waiting.pop(identity))
        if content:
            filled.append((piece, content))
        else:
            empty.append(piece)
    rest = [waiting[identity] for identity in sorted(waiting)]
    changing = [content for piece, content in filled if content != piece.endpoints]
    roomy = sorted((content for piece, content in filled if content == piece.endpoints), key=len, reverse=True)
    for content in (*changing, *roomy):
        room = MAX_ENDPOINTS - len(content)
        content += rest[:room]
        rest = rest[room:]
    while rest and empty:
        filled.append((empty.pop(0), rest[:MAX_ENDPOINTS]))
        rest = rest[MAX_ENDPOINTS:]
    more = [rest[i : i + MAX_ENDPOINTS] for i in range(0, len(rest), MAX_ENDPOINTS)]
    return filled, empty, more


def _identity(endpoint: Endpoint) -> tuple[str, str]:
    uid = endpoint.target_ref.uid if endpoint.target_ref is not None else ""
    return uid, endpoint.addresses[0] if endpoint.addresses else ""


def _group_of(piece: EndpointSlice) -> _Group | None:
    """Return the group of a slice; None for one that no adapter's slice can be like."""
    if len(piece.ports) != 1 or piece.ports[0].port is None or piece.ports[0].name != PORT_NAME:
        return None
    return piece.address_type, piece.ports[0].port


def _number(adapter: ModelAdapter, piece: EndpointSlice) -> tuple[int, str]:
    suffix = piece.metadata.name.removeprefix(adapter.metadata.name).removeprefix("-")
    return (int(suffix) if suffix.isdecimal() else 1, piece.metadata.name)


def _names(seen: Observed) -> Iterator[str]:
    """Yield free names, the same ones for the same input: the adapter's own, then with -2, -3 and so on."""
    name = seen.adapter.metadata.name
    used = {piece.metadata.name for piece in seen.slices} | seen.taken
    number = 1
    while True:
        candidate = name if number == 1 else f"{name}-{number}"
        if candidate not in used:
            yield candidate
        number += 1


def _slice_labels(adapter: ModelAdapter) -> dict[str, str]:
    name = adapter.metadata.name
    return {SERVICE_NAME: name, MANAGED_BY_ENDPOINTSLICE: MANAGER, ADAPTER_NAME: name}


def _slice(adapter: ModelAdapter, group: _Group, content: list[Endpoint], name: str) -> dict[str, Any]:
    address_type, port = group
    return {
        "apiVersion": EndpointSlice.gvk.api_version,
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": adapter.metadata.namespace, "labels": _slice_labels(adapter)},
        "addressType": address_type,
        "endpoints": msgspec.to_builtins(content),
        "ports": [{"name": PORT_NAME, "port": port, "protocol": "TCP"}],
    }


def _patch(seen: Observed, piece: EndpointSlice, content: list[Endpoint]) -> list[Action]:
    patch: dict[str, Any] = {}
    labels = _slice_labels(seen.adapter)
    if drifted := {k: v for k, v in labels.items() if piece.metadata.labels.get(k) != v}:
        patch["metadata"] = {"labels": drifted}
    if content != piece.endpoints:
        patch["endpoints"] = msgspec.to_builtins(content)
    if not patch:
        return []
    return [Patch(EndpointSlice, piece.key, patch, _why(content), resource_version=piece.metadata.resource_version)]


def _why(content: list[Endpoint]) -> str:
    ready = sum(bool(endpoint.conditions.ready) for endpoint in content)
    return f"{ready} endpoints are ready" + (
        f", {len(content) - ready} on their way out" if len(content) > ready else ""
    )
