"""CustomResourceDefinitions of our kinds, made from their classes. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from pybrix.api.markers import Column, CustomResource
from pybrix.api.scheme import CUSTOM_KINDS
from pybrix.api.structural import schema_of, summary

_ROOT_TEXTS = {
    "apiVersion": "Version of the schema of this object.",
    "kind": "Kind of this object.",
}

_NAME_TEXT = "Name of the object, unique among its kind in the namespace; names of what is made for it are made of it."


def find_kind(text: str) -> type[CustomResource] | None:
    """Return the kind of that name, whatever the case: kind, plural, short name, or plural with group."""
    wanted = text.lower()
    for cls in CUSTOM_KINDS:
        gvk = cls.gvk
        singular = gvk.kind.lower()
        names = {singular, gvk.plural, f"{singular}.{gvk.group}", f"{gvk.plural}.{gvk.group}"}
        if wanted in names or wanted in cls.definition.short_names:
            return cls
    return None


def definition_names() -> tuple[str, ...]:
    """Return the kinds that have a definition, in the order of `render_crds`."""
    return tuple(cls.gvk.kind for cls in CUSTOM_KINDS)


def render_crds(kinds: Iterable[str] | None = None) -> list[dict[str, Any]]:
    """Return the definitions of all kinds, or of some in the order asked for.

    Raises:
        ValueError: a name that is no kind of ours.
    """
    if kinds is None:
        return [render_crd(cls) for cls in CUSTOM_KINDS]
    found: list[dict[str, Any]] = []
    for kind in kinds:
        cls = find_kind(kind)
        if cls is None:
            raise ValueError(f"unknown kind {kind!r}; there are {', '.join(definition_names())}")
        found.append(render_crd(cls))
    return found


def render_crd(cls: type[CustomResource]) -> dict[str, Any]:
    """Return the CustomResourceDefinition of a kind."""
    gvk, definition = cls.gvk, cls.definition
    names: dict[str, Any] = {
        "kind": gvk.kind,
        "listKind": f"{gvk.kind}List",
        "plural": gvk.plural,
        "singular": gvk.kind.lower(),
    }
    if definition.short_names:
        names["shortNames"] = list(definition.short_names)
    subresources: dict[str, Any] = {"status": {}} if definition.is_status_subresource else {}
    if (scale := definition.scale) is not None:
        subresources["scale"] = {
            "specReplicasPath": scale.replicas,
            "statusReplicasPath": scale.status_replicas,
            **({"labelSelectorPath": scale.selector} if scale.selector else {}),
        }
    version: dict[str, Any] = {
        "name": gvk.version,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": root_schema(cls)},
    }
    if subresources:
        version["subresources"] = subresources
    if definition.columns:
        version["additionalPrinterColumns"] = [_column(column) for column in definition.columns]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{gvk.plural}.{gvk.group}"},
        "spec": {
            "group": gvk.group,
            "names": names,
            "scope": "Namespaced" if gvk.is_namespaced else "Cluster",
            "versions": [version],
        },
    }


def root_schema(cls: type[CustomResource]) -> dict[str, Any]:
    """Return the structural schema of whole objects of a kind."""
    fields = {entry.name: entry for entry in msgspec.structs.fields(cls)}
    # An API server describes metadata itself, and takes no text for it.
    metadata: dict[str, Any] = {"type": "object"}
    if cls.definition.name:
        name = {"type": "string", "description": _NAME_TEXT, **cls.definition.name}
        metadata["properties"] = {"name": name}
    schema: dict[str, Any] = {
        "type": "object",
        "description": summary(cls),
        "properties": {
            **{name: {"type": "string", "description": text} for name, text in _ROOT_TEXTS.items()},
            "metadata": metadata,
            "spec": schema_of(fields["spec"].type),
            "status": schema_of(fields["status"].type),
        },
    }
    if fields["spec"].required:
        schema["required"] = ["spec"]
    if cls.definition.rules:
        schema["x-kubernetes-validations"] = [rule.to_dict() for rule in cls.definition.rules]
    return schema


def _column(column: Column) -> dict[str, Any]:
    found: dict[str, Any] = {"name": column.name, "type": column.type, "jsonPath": column.path}
    if column.description:
        found["description"] = column.description
    if column.priority:
        found["priority"] = column.priority
    return found
