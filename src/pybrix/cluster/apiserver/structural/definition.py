"""Check the schema of a definition itself: structural, with defaults that fit and rules that compile. Pure.

https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pybrix.cluster.apiserver.failures import Cause, duplicate, forbidden_field, invalid_value, not_supported, required
from pybrix.cluster.apiserver.structural import cel
from pybrix.cluster.apiserver.structural.fields import UnknownField, check_fields
from pybrix.cluster.apiserver.structural.pruning import fresh, prune
from pybrix.cluster.apiserver.structural.rules import REASONS, compile_rule
from pybrix.cluster.apiserver.structural.schema import (
    EMBEDDED_KEYS,
    JUNCTORS,
    MAX_DEPTH,
    Node,
    parse_rule,
    parse_schema,
)
from pybrix.cluster.apiserver.structural.validation import type_name, validate

_TYPES = ("array", "boolean", "integer", "number", "object", "string")
_STRINGS = ("$schema", "$ref", "id", "title", "description", "type", "format", "pattern")
_COUNTS = ("maxLength", "minLength", "maxItems", "minItems", "maxProperties", "minProperties")
_NUMBERS = ("maximum", "minimum", "multipleOf")
_FLAGS = (
    "exclusiveMaximum", "exclusiveMinimum", "uniqueItems", "nullable", "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-embedded-resource", "x-kubernetes-int-or-string",
)  # fmt: skip
_STRUCTURE = ("description", "type", "default", "additionalProperties", "nullable", "title")
_EXTENSIONS = (
    "x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource", "x-kubernetes-int-or-string",
    "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type", "x-kubernetes-validations",
)  # fmt: skip
_FORBIDDEN = ("$ref", "id", "patternProperties", "additionalItems", "definitions", "dependencies")
_KNOWN = frozenset(
    {
        *_STRINGS, *_COUNTS, *_NUMBERS, *_FLAGS, *_EXTENSIONS, *_FORBIDDEN, *JUNCTORS, "not", "default", "enum",
        "example", "externalDocs", "items", "properties", "additionalProperties", "required",
    }
)  # fmt: skip
_RULE_KEYS = frozenset({"rule", "message", "messageExpression", "reason", "fieldPath", "optionalOldSelf"})
_MAX_CAUSES = 100


def unknown_keywords(schema: Any, path: str) -> list[str]:
    """Return the paths of what no schema has."""
    found: list[str] = []
    _find_unknown(schema, path, found, 0)
    return found


def _find_unknown(schema: Any, path: str, found: list[str], depth: int) -> None:
    if not isinstance(schema, dict) or depth > MAX_DEPTH:
        return
    found += [f"{path}.{name}" for name in schema if name not in _KNOWN]
    for index, rule in enumerate(_list(schema, "x-kubernetes-validations")):
        if isinstance(rule, dict):
            at = f"{path}.x-kubernetes-validations[{index}]"
            found += [f"{at}.{name}" for name in rule if name not in _RULE_KEYS]
    for at, part in _parts(schema, path):
        _find_unknown(part, at, found, depth + 1)


def _parts(schema: Mapping[str, Any], path: str) -> list[tuple[str, Any]]:
    parts: list[tuple[str, Any]] = []
    properties = schema.get("properties")
    if isinstance(properties, dict):
        parts += [(f"{path}.properties[{name}]", part) for name, part in properties.items()]
    parts += [(f"{path}.{name}", schema[name]) for name in ("items", "additionalProperties", "not") if name in schema]
    for name in JUNCTORS:
        parts += [(f"{path}.{name}[{i}]", part) for i, part in enumerate(_list(schema, name))]
    return parts


def check_schema(schema: Any, path: str) -> list[Cause]:
    """Return what is wrong with the `openAPIV3Schema` of a version.

    Defaults and rules are looked at only when the structure is right.
    """
    if not isinstance(schema, Mapping):
        return [required(path, "schemas are required")]
    check = _Check()
    if schema.get("type") != "object":
        check.causes.append(invalid_value(f"{path}.type", schema.get("type", ""), "must be object at the root"))
    check.structure(schema, path, 0, is_root=True)
    if not check.causes:
        check.meaning(schema, path, parse_schema(schema), is_root=True)
    return check.causes[:_MAX_CAUSES]


@dataclass(slots=True)
class _Check:
    causes: list[Cause] = field(default_factory=list)
    is_in_unkeyed_list: str = ""
    """The list that the schema is in whose items have no identity; empty when there is none."""

    def refuse(self, path: str, detail: str) -> None:
        self.causes.append(forbidden_field(path, detail))

    # Structure.

    def structure(self, schema: Any, path: str, depth: int, *, is_root: bool = False) -> None:
        if not isinstance(schema, Mapping):
            self.causes.append(invalid_value(path, type_name(schema), "must be a schema object"))
            return
        if depth > MAX_DEPTH:
            self.refuse(path[:300], f"must not be nested deeper than {MAX_DEPTH} levels")
            return
        if not self.keyword_types(schema, path):
            return
        self.type_of(schema, path, depth)
        self.extensions(schema, path)
        if "items" in schema:
            self.structure(schema["items"], f"{path}.items", depth + 1)
        extra = schema.get("additionalProperties")
        if isinstance(extra, Mapping):
            self.structure(extra, f"{path}.additionalProperties", depth + 1)
        elif extra is False:
            self.refuse(f"{path}.additionalProperties", "additionalProperties cannot be set to false")
        if extra is not None and schema.get("properties"):
            self.refuse(f"{path}.additionalProperties", "additionalProperties and properties are mutual exclusive")
        if extra is not None and is_root:
            self.refuse(f"{path}.additionalProperties", "must not be used at the root")
        for name, part in (schema.get("properties") or {}).items():
            if is_root and name == "metadata":
                self.metadata(part, f"{path}.properties[metadata]")
            else:
                self.structure(part, f"{path}.properties[{name}]", depth + 1)
        for at, part in _parts(schema, path):
            if any(at.startswith(f"{path}.{name}") for name in (*JUNCTORS, "not")):
                self.junctor(part, at, schema, path, depth + 1)

    def keyword_types(self, schema: Mapping[str, Any], path: str) -> bool:
        before = len(self.causes)
        expected: list[tuple[tuple[str, ...], str]] = [
            (_STRINGS, "string"),
            (_COUNTS, "integer"),
            (_FLAGS, "boolean"),
            (("properties",), "object"),
            ((*JUNCTORS, "enum", "required", "x-kubernetes-list-map-keys", "x-kubernetes-validations"), "array"),
        ]
        for names, kind in expected:
            for name in names:
                if name in schema and type_name(schema[name]) != kind:
                    detail = f"must be of type {kind}"
                    self.causes.append(invalid_value(f"{path}.{name}", type_name(schema[name]), detail))
        for name in _NUMBERS:
            if name in schema and type_name(schema[name]) not in ("integer", "number"):
                self.causes.append(invalid_value(f"{path}.{name}", type_name(schema[name]), "must be of type number"))
        if schema.get("multipleOf", 1) in (0, 0.0):
            self.causes.append(invalid_value(f"{path}.multipleOf", 0, "must be greater than 0"))
        for name in ("required", "x-kubernetes-list-map-keys"):
            if any(not isinstance(v, str) for v in _list(schema, name)):
                self.causes.append(invalid_value(f"{path}.{name}", "array", "must be a list of strings"))
        for name in _FORBIDDEN:
            if name in schema:
                self.refuse(f"{path}.{name}", f"{name} is not supported")
        if schema.get("uniqueItems") is True:
            detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
            self.refuse(f"{path}.uniqueItems", f"{detail}: use x-kubernetes-list-type: set")
        pattern = schema.get("pattern")
        if isinstance(pattern, str):
            try:
                cel.matches(pattern, "")
            except cel.CelError as err:
                self.causes.append(
                    invalid_value(f"{path}.pattern", pattern, f"must be a valid regular expression: {err}")
                )
        if "enum" in schema and schema["enum"] == []:
            self.causes.append(required(f"{path}.enum", "must have at least one value"))
        return len(self.causes) == before

    def type_of(self, schema: Mapping[str, Any], path: str, depth: int) -> None:
        kind = schema.get("type", "")
        preserves = schema.get("x-kubernetes-preserve-unknown-fields") is True
        if schema.get("x-kubernetes-int-or-string"):
            if kind:
                self.refuse(f"{path}.type", "must be empty if x-kubernetes-int-or-string is true")
        elif not kind:
            if not preserves:
                place = "array items" if path.endswith(".items") else "object fields"
                if depth:
                    self.causes.append(required(f"{path}.type", f"must not be empty for specified {place}"))
        elif kind not in _TYPES:
            self.causes.append(not_supported(f"{path}.type", kind, _TYPES))
        if kind == "array" and "items" not in schema:
            self.causes.append(required(f"{path}.items", "must be specified"))
        if kind != "array" and "items" in schema:
            self.refuse(f"{path}.items", "items must be used only with type array")
        if kind != "object" and (schema.get("properties") or schema.get("additionalProperties")) and kind:
            self.refuse(path, "properties and additionalProperties must be used only with type object")

    def extensions(self, schema: Mapping[str, Any], path: str) -> None:
        kind = schema.get("type")
        if schema.get("x-kubernetes-preserve-unknown-fields") is False:
            self.causes.append(
                invalid_value(f"{path}.x-kubernetes-preserve-unknown-fields", False, "must be true or undefined")
            )
        if schema.get("x-kubernetes-preserve-unknown-fields") and kind not in ("object", None, ""):
            self.causes.append(
                invalid_value(f"{path}.type", kind, "must be object if x-kubernetes-preserve-unknown-fields is true")
            )
        if schema.get("x-kubernetes-embedded-resource"):
            if kind != "object":
                self.causes.append(
                    invalid_value(
                        f"{path}.type", kind or "", "must be object if x-kubernetes-embedded-resource is true"
                    )
                )
            if not schema.get("properties") and not schema.get("x-kubernetes-preserve-unknown-fields"):
                detail = "must not be empty for an embedded resource that does not preserve unknown fields"
                self.causes.append(required(f"{path}.properties", detail))
        list_type = schema.get("x-kubernetes-list-type")
        if list_type is not None:
            self.list_type(schema, path, list_type)
        elif "x-kubernetes-list-map-keys" in schema:
            self.refuse(f"{path}.x-kubernetes-list-map-keys", "must be used only with x-kubernetes-list-type map")
        map_type = schema.get("x-kubernetes-map-type")
        if map_type is not None:
            if map_type not in ("atomic", "granular"):
                self.causes.append(not_supported(f"{path}.x-kubernetes-map-type", map_type, ("atomic", "granular")))
            if kind != "object":
                self.causes.append(
                    invalid_value(f"{path}.type", kind or "", "must be object if x-kubernetes-map-type is specified")
                )

    def list_type(self, schema: Mapping[str, Any], path: str, list_type: Any) -> None:
        at = f"{path}.x-kubernetes-list-type"
        if list_type not in ("atomic", "map", "set"):
            self.causes.append(not_supported(at, list_type, ("atomic", "map", "set")))
            return
        if schema.get("type") != "array":
            self.causes.append(
                invalid_value(
                    f"{path}.type", schema.get("type", ""), "must be array if x-kubernetes-list-type is specified"
                )
            )
            return
        items = schema.get("items")
        items = items if isinstance(items, Mapping) else {}
        keys = _list(schema, "x-kubernetes-list-map-keys")
        if list_type != "map":
            if keys:
                self.refuse(f"{path}.x-kubernetes-list-map-keys", "must be used only with x-kubernetes-list-type map")
            if list_type == "set" and items.get("type") == "object" and items.get("x-kubernetes-map-type") != "atomic":
                detail = "must be atomic as item of a list with x-kubernetes-list-type=set"
                self.causes.append(
                    invalid_value(f"{path}.items.x-kubernetes-map-type", items.get("x-kubernetes-map-type", ""), detail)
                )
            return
        if not keys:
            self.causes.append(
                required(f"{path}.x-kubernetes-list-map-keys", "must not be empty if x-kubernetes-list-type is map")
            )
        if items.get("type") != "object":
            self.causes.append(
                invalid_value(
                    f"{path}.items.type",
                    items.get("type", ""),
                    "must be object if parent array's x-kubernetes-list-type is map",
                )
            )
            return
        properties = items.get("properties")
        properties = properties if isinstance(properties, Mapping) else {}
        for index, key in enumerate(keys):
            described = properties.get(key)
            at = f"{path}.x-kubernetes-list-map-keys[{index}]"
            if keys.index(key) != index:
                self.causes.append(duplicate(at, key))
            if not isinstance(described, Mapping):
                self.causes.append(invalid_value(at, key, "entries must all be names of item properties"))
            elif described.get("type") in ("object", "array"):
                self.causes.append(invalid_value(at, key, "must be a scalar"))
            elif key not in _list(items, "required") and "default" not in described:
                detail = "a property in x-kubernetes-list-map-keys must have a default or be required"
                self.causes.append(required(f"{path}.items.properties[{key}].default", detail))

    def metadata(self, schema: Any, path: str) -> None:
        if not isinstance(schema, Mapping) or schema.get("type", "object") != "object":
            self.causes.append(invalid_value(f"{path}.type", type_name(schema), "must be object"))
            return
        allowed = ("type", "properties", "required")
        for name in schema:
            if name not in allowed:
                self.refuse(f"{path}.{name}", "must not be specified in metadata: only its name can be restricted")
        properties = schema.get("properties")
        for name in properties if isinstance(properties, Mapping) else ():
            if name not in ("name", "generateName"):
                self.refuse(f"{path}.properties[{name}]", "must not specify anything other than name and generateName")

    def junctor(self, schema: Any, path: str, beside: Mapping[str, Any], outer: str, depth: int) -> None:
        """Check a part of a logical combination, which says something about values and has no structure of its own."""
        if not isinstance(schema, Mapping):
            self.causes.append(invalid_value(path, type_name(schema), "must be a schema object"))
            return
        if depth > MAX_DEPTH:
            self.refuse(path[:300], f"must not be nested deeper than {MAX_DEPTH} levels")
            return
        if not self.keyword_types(schema, path):
            return
        is_int_or_string = beside.get("x-kubernetes-int-or-string") is True
        for name in (*_STRUCTURE, *_EXTENSIONS):
            if name in schema and not (name == "type" and is_int_or_string):
                self.refuse(f"{path}.{name}", "must be empty to be structural")
        for name, part in (schema.get("properties") or {}).items():
            outside = (beside.get("properties") or {}).get(name)
            if not isinstance(outside, Mapping):
                self.causes.append(
                    required(f"{outer}.properties[{name}]", f"because it is defined in {path}.properties[{name}]")
                )
            else:
                self.junctor(part, f"{path}.properties[{name}]", outside, f"{outer}.properties[{name}]", depth + 1)
        if isinstance(schema.get("items"), Mapping):
            outside = beside.get("items")
            inside = outside if isinstance(outside, Mapping) else {}
            self.junctor(schema["items"], f"{path}.items", inside, f"{outer}.items", depth + 1)
        for at, part in _parts(schema, path):
            if any(at.startswith(f"{path}.{name}") for name in (*JUNCTORS, "not")):
                self.junctor(part, at, beside, outer, depth + 1)

    # Meaning: defaults and rules.

    def meaning(self, schema: Mapping[str, Any], path: str, node: Node, *, is_root: bool = False) -> None:
        if "default" in schema:
            self.default(schema["default"], f"{path}.default", node)
        for index, rule in enumerate(_list(schema, "x-kubernetes-validations")):
            self.rule(rule, f"{path}.x-kubernetes-validations[{index}]", node, is_root=is_root)
        for name, part in (schema.get("properties") or {}).items():
            if not (is_root and name in EMBEDDED_KEYS):
                self.meaning(part, f"{path}.properties[{name}]", node.properties[name])
        if node.additional is not None:
            self.meaning(schema["additionalProperties"], f"{path}.additionalProperties", node.additional)
        if node.items is not None:
            outer = self.is_in_unkeyed_list
            if node.list_type != "map":
                self.is_in_unkeyed_list = outer or path
            self.meaning(schema["items"], f"{path}.items", node.items)
            self.is_in_unkeyed_list = outer

    def default(self, default: Any, path: str, node: Node) -> None:
        value = fresh(default)
        for name in prune(value, node):
            self.causes.append(invalid_value(f"{path}.{name}", type_name(default), "must not have unknown fields"))
        for cause in validate(default, node):
            at = f"{path}.{cause.field}" if cause.field else path
            self.causes.append(Cause(at, cause.message, cause.reason))

    def rule(self, data: Any, path: str, node: Node, *, is_root: bool) -> None:
        if not isinstance(data, Mapping):
            self.causes.append(invalid_value(path, type_name(data), "must be an object with a rule"))
            return
        rule = parse_rule(data)
        before = len(self.causes)
        if not rule.rule.strip():
            self.causes.append(required(f"{path}.rule", "rule is not specified"))
        if "message" in data and not rule.message.strip():
            self.causes.append(invalid_value(f"{path}.message", rule.message, "message must be non-empty if specified"))
        if "\n" in rule.message.strip():
            self.causes.append(invalid_value(f"{path}.message", rule.message, "message must not contain line breaks"))
        if "\n" in rule.rule.strip() and not rule.message:
            self.causes.append(required(f"{path}.message", "message must be specified if rule contains line breaks"))
        if rule.reason not in REASONS:
            self.causes.append(not_supported(f"{path}.reason", rule.reason, REASONS))
        if len(self.causes) > before:
            return
        try:
            compiled = compile_rule(rule)
        except cel.CelError as err:
            self.expression(rule.rule, rule.message_expression, path, err)
            return
        except ValueError as err:
            self.causes.append(invalid_value(f"{path}.fieldPath", rule.field_path, str(err)))
            return
        if compiled.is_transition and self.is_in_unkeyed_list:
            detail = (
                f"oldSelf cannot be used on the uncorrelatable portion of the schema within {self.is_in_unkeyed_list}"
            )
            self.causes.append(invalid_value(f"{path}.rule", rule.rule, detail))
        if rule.optional_old_self and not compiled.is_transition:
            detail = "may not be set if oldSelf is not used in rule"
            self.causes.append(invalid_value(f"{path}.optionalOldSelf", True, detail))
        self.field_path(compiled.steps, rule.field_path, path, node)
        for program, name in ((compiled.program, "rule"), (compiled.message, "messageExpression")):
            if program is not None:
                try:
                    check_fields(program, node, is_root=is_root)
                except UnknownField as err:
                    self.causes.append(invalid_value(f"{path}.{name}", program.text, f"compilation failed: {err}"))

    def expression(self, rule: str, message: str, path: str, err: cel.CelError) -> None:
        try:
            cel.uses_old(rule)
        except cel.CelError:
            self.causes.append(invalid_value(f"{path}.rule", rule[:500], str(err)))
            return
        at, text = (f"{path}.messageExpression", message) if "bool" not in str(err) else (f"{path}.rule", rule)
        self.causes.append(invalid_value(at, text[:500], str(err)))

    def field_path(self, steps: tuple[str, ...], text: str, path: str, node: Node) -> None:
        current: Node | None = node
        for step in steps:
            current = current.below(step) if current is not None else None
            if current is None:
                detail = f"fieldPath must be a valid path: {step} is not a property there"
                self.causes.append(invalid_value(f"{path}.fieldPath", text, detail))
                return


def _list(data: Mapping[str, Any], name: str) -> list[Any]:
    value = data.get(name)
    return value if isinstance(value, list) else []
