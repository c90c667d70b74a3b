"""OpenAPI v3 documents, enough for `kubectl explain`, `apply`, `diff` and client-side schema lookups. Pure."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from pybrix.cluster.apiserver.catalog import Catalog
from pybrix.cluster.apiserver.resources import TYPES, ResourceType
from pybrix.cluster.apiserver.schema.shape import Field, Form, ListType, Shape
from pybrix.kube.interface import PatchType

Doc = dict[str, Any]
_SCALARS: dict[str, Doc] = {
    "string": {"type": "string"},
    "int": {"type": "integer", "format": "int32"},
    "int64": {"type": "integer", "format": "int64"},
    "bool": {"type": "boolean"},
    "float": {"type": "number"},
    "quantity": {"oneOf": [{"type": "string"}, {"type": "number"}]},
    "intstr": {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]},
    "time": {"type": "string", "format": "date-time"},
    "microtime": {"type": "string", "format": "date-time"},
    "bytes": {"type": "string", "format": "byte"},
}
_PREFIX = "io.k8s."


def path_of(group: str, version: str) -> str:
    return f"apis/{group}/{version}" if group else f"api/{version}"


def print_index(catalog: Catalog) -> Doc:
    """Return `/openapi/v3`: where each group-version's document is; the hash changes with its content."""
    paths = {}
    for group, versions in catalog.group_versions().items():
        for version in versions:
            document = print_document(catalog, group, version)
            digest = hashlib.sha256(msgspec.json.encode(document)).hexdigest().upper()
            path = path_of(group, version)
            paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest}"}
    return {"paths": paths}


def print_document(catalog: Catalog, group: str, version: str) -> Doc | None:
    """Return the document of a group-version, None when it is not served."""
    served = [t for t in catalog.types() if (t.group, t.version) == (group, version)]
    if not served:
        return None
    schemas: dict[str, Doc] = {}
    paths: dict[str, Doc] = {}
    for resource in served:
        if resource.is_custom:
            _add_custom(resource, schemas)
        else:
            _add(resource.shape, schemas)
            schemas[_ref_name(resource.shape)]["x-kubernetes-group-version-kind"] = [_gvk(resource)]
        paths.update(_paths(resource))
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.37.0"},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _gvk(resource: ResourceType) -> Doc:
    return {"group": resource.group, "version": resource.version, "kind": resource.kind}


def _ref_name(shape: Shape) -> str:
    return f"{_PREFIX}api.{shape.name}"


def _add(shape: Shape, schemas: dict[str, Doc]) -> None:
    """Add a described type and all that it refers to."""
    name = _ref_name(shape)
    if name in schemas:
        return
    built: Doc = {"type": "object"}
    if shape.description:
        built["description"] = shape.description
    schemas[name] = built
    built["properties"] = {f.name: _field(f, schemas) for f in shape.fields.values()}
    needed = [f.name for f in shape.fields.values() if f.is_required]
    if needed:
        built["required"] = needed


def _field(described: Field, schemas: dict[str, Doc]) -> Doc:
    schema = _schema(described.shape, schemas)
    if "$ref" in schema:
        schema = {"allOf": [schema], "default": {}}
    if described.description:
        schema["description"] = described.description
    if described.shape.form is Form.LIST:
        schema["x-kubernetes-list-type"] = str(described.list_type)
        if described.list_type is ListType.MAP:
            schema["x-kubernetes-list-map-keys"] = list(described.keys)
    strategies = [
        word for word, is_set in (("merge", _merges(described)), ("retainKeys", described.retains_keys)) if is_set
    ]
    if strategies:
        schema["x-kubernetes-patch-strategy"] = ",".join(strategies)
    if described.merge_key:
        schema["x-kubernetes-patch-merge-key"] = described.merge_key
    if described.is_atomic:
        schema["x-kubernetes-map-type"] = "atomic"
    return schema


def _merges(described: Field) -> bool:
    return bool(described.merge_key) or described.list_type is ListType.SET


def _schema(shape: Shape, schemas: dict[str, Doc]) -> Doc:
    match shape.form:
        case Form.SCALAR:
            return copy.deepcopy(_SCALARS[shape.name])
        case Form.LIST:
            assert shape.item is not None
            return {"type": "array", "items": _schema(shape.item, schemas)}
        case Form.MAP:
            assert shape.item is not None
            return {"type": "object", "additionalProperties": _schema(shape.item, schemas)}
        case Form.STRUCT:
            _add(shape, schemas)
            return {"$ref": f"#/components/schemas/{_ref_name(shape)}"}
        case Form.ANY:
            return {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def _add_custom(resource: ResourceType, schemas: dict[str, Doc]) -> None:
    metadata = TYPES["ObjectMeta"]
    _add(metadata, schemas)
    built: Doc = copy.deepcopy(dict(resource.schema or {"type": "object"}))
    if not resource.schema or resource.schema.get("x-kubernetes-preserve-unknown-fields"):
        built.setdefault("x-kubernetes-preserve-unknown-fields", True)
    properties = built.setdefault("properties", {})
    properties["apiVersion"] = {"type": "string", "description": "the version of this representation"}
    properties["kind"] = {"type": "string", "description": "the kind of this object"}
    text = "Name, namespace, labels, annotations and what else every object has."
    properties["metadata"] = {"description": text, "allOf": [{"$ref": f"#/components/schemas/{_ref_name(metadata)}"}]}
    built["x-kubernetes-group-version-kind"] = [_gvk(resource)]
    schemas[custom_ref(resource)] = built


def custom_ref(resource: ResourceType) -> str:
    reversed_group = ".".join(reversed(resource.group.split(".")))
    return f"{reversed_group}.{resource.version}.{resource.kind}"


def _paths(resource: ResourceType) -> dict[str, Doc]:
    base = f"/{path_of(resource.group, resource.version)}"
    scope = "/namespaces/{namespace}" if resource.is_namespaced else ""
    collection = f"{base}{scope}/{resource.plural}"
    name = custom_ref(resource) if resource.is_custom else _ref_name(resource.shape)
    body = {"$ref": f"#/components/schemas/{name}"}
    found: dict[str, Doc] = {collection: {}}
    if "list" in resource.verbs:
        found[collection]["get"] = _operation(resource, "list", body)
    if "create" in resource.verbs:
        found[collection]["post"] = _operation(resource, "post", body, writes=True)
    if "get" in resource.verbs:
        found[f"{collection}/{{name}}"] = {
            "get": _operation(resource, "get", body),
            "put": _operation(resource, "put", body, writes=True),
            "patch": _operation(resource, "patch", body, writes=True),
            "delete": _operation(resource, "delete", body),
        }
    return found


def _operation(resource: ResourceType, action: str, body: Mapping[str, Any], *, writes: bool = False) -> Doc:
    operation: Doc = {
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": _gvk(resource),
        "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": body}}}},
    }
    if writes:
        names: Iterable[str] = ("dryRun", "fieldManager", "fieldValidation")
        operation["parameters"] = [{"name": n, "in": "query", "schema": {"type": "string"}} for n in names]
        # From this list kubectl learns whether a kind takes strategic merge patches.
        patches = [str(t) for t in PatchType if not (resource.is_custom and t is PatchType.STRATEGIC)]
        media = patches if action == "patch" else ["application/json"]
        operation["requestBody"] = {"content": {m: {"schema": body} for m in media}}
    return operation
