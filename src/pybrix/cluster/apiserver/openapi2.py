"""The OpenAPI v2 document: all group-versions in one, for clients that do not read the v3 documents. Pure.

kubectl still asks for it where a kind has no path of its own, such as `List`, and reads it in protobuf form only:
messages of `openapiv2.proto` of gnostic, whose field numbers are beside each name below.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from pybrix.base.protobufwire import encode_varint, message_field, text_field
from pybrix.cluster.apiserver import openapi
from pybrix.cluster.apiserver.catalog import Catalog

Doc = dict[str, Any]
PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
# What clients ask for is not a media type that their own libraries would take.
_PROTOBUF_NAMES = (PROTOBUF, PROTOBUF.replace("v2.v1", "v2@v1"))
_V3_REF, _V2_REF = "#/components/schemas/", "#/definitions/"
_METHODS = {"get": 2, "put": 3, "post": 4, "delete": 5, "patch": 8}
_encode = msgspec.json.Encoder().encode


def wants_protobuf(accept: str) -> bool:
    """Say whether a client asks for the protobuf form before JSON."""
    asked = [part.partition(";")[0].strip() for part in accept.split(",")]
    return next((media in _PROTOBUF_NAMES for media in asked if media in (*_PROTOBUF_NAMES, "application/json")), False)


def print_document(catalog: Catalog) -> Doc:
    """Return `/openapi/v2`."""
    definitions: Doc = {}
    paths: Doc = {}
    for group, versions in catalog.group_versions().items():
        for version in versions:
            document = openapi.print_document(catalog, group, version)
            if document is None:
                continue
            for name, schema in document["components"]["schemas"].items():
                known = definitions.setdefault(name, {})
                # A type that several group-versions use is one of the served kinds in one of them.
                known.update(_schema(schema))
            for path, operations in document["paths"].items():
                paths[path] = {method: _operation(found) for method, found in operations.items()}
    info = {"title": "Kubernetes", "version": "v1.37.0"}
    return {"swagger": "2.0", "info": info, "paths": paths, "definitions": definitions}


def _schema(schema: Mapping[str, Any]) -> Doc:
    """Return a schema of v3 in the words of v2, which knows no alternatives and nothing beside a reference."""
    built: Doc = {k: v for k, v in schema.items() if k not in ("oneOf", "anyOf", "allOf", "not", "nullable")}
    if "$ref" in built:
        return {"$ref": built["$ref"].replace(_V3_REF, _V2_REF)}
    parts: list[Doc] = list(schema.get("allOf") or ())
    if len(parts) == 1 and "$ref" in parts[0]:
        described = {"description": built["description"]} if "description" in built else {}
        return {**_schema(parts[0]), **described, **{k: v for k, v in built.items() if k.startswith("x-")}}
    if "oneOf" in schema and "type" not in built:
        built["type"] = "string"
    if isinstance(built.get("properties"), dict):
        built["properties"] = {name: _schema(part) for name, part in built["properties"].items()}
    for name in ("items", "additionalProperties"):
        if isinstance(built.get(name), dict):
            built[name] = _schema(built[name])
    return built


def _operation(operation: Mapping[str, Any]) -> Doc:
    built: Doc = {k: v for k, v in operation.items() if k.startswith("x-")}
    content = (operation.get("requestBody") or {}).get("content") or {}
    parameters = [{"name": p["name"], "in": p["in"], "type": "string"} for p in operation.get("parameters") or ()]
    for media in content.values():
        parameters.append({"name": "body", "in": "body", "required": True, "schema": _schema(media["schema"])})
        break
    if parameters:
        built["parameters"] = parameters
    if content:
        built["consumes"] = list(content)
    built["produces"] = ["application/json"]
    answered = operation["responses"]["200"]["content"]["application/json"]["schema"]
    built["responses"] = {"200": {"description": "OK", "schema": _schema(answered)}}
    return built


# The protobuf form.


def encode_document(document: Mapping[str, Any]) -> bytes:
    """Return a v2 document as an `openapi.v2.Document`."""
    info = text_field(1, document["info"]["title"]) + text_field(2, document["info"]["version"])
    paths = b"".join(_named(2, path, _path_item(found)) for path, found in document["paths"].items())
    schemas = b"".join(_named(1, name, _encode_schema(found)) for name, found in document["definitions"].items())
    return (
        text_field(1, document["swagger"])
        + message_field(2, info)
        + message_field(8, paths)
        + message_field(9, schemas)
    )


def _texts(number: int, texts: Iterable[str]) -> bytes:
    return b"".join(text_field(number, text) for text in texts)


def _named(number: int, name: str, value: bytes) -> bytes:
    return message_field(number, text_field(1, name) + message_field(2, value))


def _extensions(number: int, values: Mapping[str, Any]) -> bytes:
    # Any{yaml=2}; JSON is YAML.
    return b"".join(
        _named(number, name, message_field(2, _encode(value)))
        for name, value in values.items()
        if name.startswith("x-")
    )


def _path_item(operations: Mapping[str, Any]) -> bytes:
    return b"".join(message_field(_METHODS[method], _encode_operation(found)) for method, found in operations.items())


def _encode_operation(operation: Mapping[str, Any]) -> bytes:
    written = _texts(6, operation["produces"]) + _texts(7, operation.get("consumes", ()))
    for parameter in operation.get("parameters", ()):
        described = text_field(2, parameter["name"]) + text_field(3, parameter["in"])
        if parameter["in"] == "body":
            body = described + encode_varint(4 << 3) + b"\x01" + message_field(5, _encode_schema(parameter["schema"]))
            chosen = message_field(1, body)
        else:
            query = text_field(2, parameter["in"]) + text_field(4, parameter["name"]) + text_field(6, parameter["type"])
            chosen = message_field(2, message_field(3, query))
        written += message_field(8, message_field(1, chosen))
    answers = b""
    for code, answer in operation["responses"].items():
        response = text_field(1, answer["description"]) + message_field(
            2, message_field(1, _encode_schema(answer["schema"]))
        )
        answers += _named(1, code, message_field(1, response))
    return written + message_field(9, answers) + _extensions(13, operation)


def _encode_schema(schema: Mapping[str, Any]) -> bytes:
    written = b""
    for name, number in (("$ref", 1), ("format", 2), ("description", 4)):
        if isinstance(schema.get(name), str):
            written += text_field(number, schema[name])
    if "default" in schema:
        written += message_field(5, message_field(2, _encode(schema["default"])))
    written += _texts(19, schema.get("required", ()))
    if isinstance(schema.get("additionalProperties"), dict):
        written += message_field(21, message_field(1, _encode_schema(schema["additionalProperties"])))
    if isinstance(schema.get("type"), str):
        written += message_field(22, text_field(1, schema["type"]))
    if isinstance(schema.get("items"), dict):
        written += message_field(23, message_field(1, _encode_schema(schema["items"])))
    if isinstance(schema.get("properties"), dict):
        parts = b"".join(_named(1, name, _encode_schema(part)) for name, part in schema["properties"].items())
        written += message_field(25, parts)
    return written + _extensions(31, schema)
