"""The sidecar as MutatingAdmissionPolicies: what `api.sidecar` does to an object, said in CEL. Pure.

Served from Kubernetes 1.36 as v1, from 1.34 as v1beta1, from 1.32 as v1alpha1; the last two behind a feature gate.
A test holds both forms of the rule together.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pybrix.api import sidecar
from pybrix.api.names import DEFAULT_MODEL_PORT, MODEL_ENGINE, MODEL_PORT
from pybrix.api.orchestration.v1alpha1.roleset import MAX_ROLES

VERSIONS = ("v1", "v1beta1", "v1alpha1")
_GROUP = "admissionregistration.k8s.io"
_NAME = "sidecar-injection"
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Cel(str):
    """A text that is an expression already."""

    __slots__ = ()


def render_injection_policies(version: str = "v1", image: str = sidecar.DEFAULT_IMAGE) -> list[dict[str, Any]]:
    """Return the policies, each followed by its binding.

    Args:
        version: of the API, one of `VERSIONS`.
        image: of sidecars whose workload names none.
    """
    deployments = _policy(
        version,
        "deployments.apps",
        {"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]},
        f"{_annotation(sidecar.INJECTION)} == 'true'",
        image,
        _deployment_mutations(),
    )
    storm_services = _policy(
        version,
        "stormservices.orchestration.aibrix.ai",
        {"apiGroups": ["orchestration.aibrix.ai"], "apiVersions": ["v1alpha1"], "resources": ["stormservices"]},
        f"{_annotation(sidecar.INJECTION, 'false')} != 'false'",
        image,
        _storm_service_mutations(),
    )
    return [*deployments, *storm_services]


def _policy(
    version: str, name: str, rule: dict[str, Any], condition: str, image: str, mutations: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    metadata = {"name": f"{_NAME}.{name}"}
    policy = {
        "apiVersion": f"{_GROUP}/{version}",
        "kind": "MutatingAdmissionPolicy",
        "metadata": metadata,
        "spec": {
            # An object that asks for a sidecar and cannot get one is refused: without it nothing would load adapters.
            "failurePolicy": "Fail",
            "reinvocationPolicy": "IfNeeded",
            "matchConstraints": {"resourceRules": [{**rule, "operations": ["CREATE", "UPDATE"]}]},
            "matchConditions": [{"name": "asks-for-a-sidecar", "expression": condition}],
            "variables": [
                {"name": "image", "expression": _first(_annotation(sidecar.RUNTIME_IMAGE), _text(image))},
                {
                    "name": "command",
                    "expression": f"variables.image.matches({_text(sidecar.AIBRIX_IMAGE)}) "
                    f"? {_literal(list(sidecar.AIBRIX_COMMAND))} : {_literal(list(sidecar.COMMAND))}",
                },
            ],
            "mutations": mutations,
        },
    }
    binding = {
        "apiVersion": f"{_GROUP}/{version}",
        "kind": "MutatingAdmissionPolicyBinding",
        "metadata": metadata,
        "spec": {"policyName": metadata["name"]},
    }
    return [policy, binding]


def _deployment_mutations() -> list[dict[str, Any]]:
    template, typed = "object.spec.template", "Object.spec.template"
    path = "/spec/template/spec/containers/0"
    return [
        _apply_configuration(
            f"{_lacks(template)}\n? Object{{spec: Object.spec{{template: {_storage(template, typed)}}}}}\n: Object{{}}"
        ),
        _json_patch(
            f"{_lacks(template)}\n"
            f"? [JSONPatch{{op: 'add', path: '{path}', value: {_container(template, typed)}}}]\n"
            ": []"
        ),
    ]


def _storm_service_mutations() -> list[dict[str, Any]]:
    roles, typed = "object.?spec.?template.?spec.?roles.orValue([])", "Object.spec.template.spec.roles"
    around = (
        f"Object{{spec: Object.spec{{template: Object.spec.template{{spec: Object.spec.template.spec{{roles: {roles}"
    )
    numbers = ", ".join(str(number) for number in range(MAX_ROLES))
    return [
        _apply_configuration(
            f"{around}\n.filter(r, {_lacks('r.template')})\n"
            f".map(r, {typed}{{name: r.?name.orValue(''), template: {_storage('r.template', typed + '.template')}}})"
            "}}}}"
        ),
        # An expression has no way to count: these are the numbers that roles can have.
        _json_patch(
            f"[{numbers}]\n.filter(i, i < size({roles}) && {_lacks(f'{roles}[i].template')})\n"
            ".map(i, JSONPatch{op: 'add', path: '/spec/template/spec/roles/' + string(i) + "
            "'/template/spec/containers/0', "
            f"value: {_container('object.spec.template.spec.roles[i].template', typed + '.template')}}})"
        ),
    ]


def _storage(template: str, typed: str) -> str:
    """Return the configuration that adds the volume and its mounts to a template."""
    volumes = f"{_optional(template)}.?spec.?volumes.orValue([])"
    has_volume = f"{volumes}.exists(v, v.?name.orValue('') == '{sidecar.VOLUME}')"
    mounts = "c.?volumeMounts.orValue([])"
    is_mounted = f"{mounts}.exists(m, m.?mountPath.orValue('') == '{sidecar.ADAPTERS_PATH}')"
    containers = f"{typed}.spec.containers"
    added = f"[{_literal(sidecar.mount(), f'{containers}.volumeMounts')}]"
    return (
        f"{typed}{{spec: {typed}.spec{{\n"
        f"  containers: {template}.spec.containers.filter(c, !{is_mounted})"
        f".map(c, {containers}{{name: c.name, volumeMounts: {added}}}),\n"
        f"  volumes: {has_volume} ? [] : [{_literal(sidecar.volume(), f'{typed}.spec.volumes')}]\n}}}}"
    )


def _container(template: str, typed: str) -> str:
    label = f"{template}.?metadata.?labels['%s'].orValue('')"
    images = f"{template}.spec.containers.exists(c, c.?image.orValue('').contains(%s)) ? %s : "
    inferred = "".join(images % (_text(word), _text(engine)) for word, engine in sidecar.ENGINE_WORDS)
    engine = _first(_annotation(MODEL_ENGINE), _first(label % MODEL_ENGINE, inferred + _text(sidecar.UNKNOWN_ENGINE)))
    port = _first(label % MODEL_PORT, _text(str(DEFAULT_MODEL_PORT)))
    address, _, rest = sidecar.endpoint("|").partition("|")
    made = sidecar.container(
        Cel("variables.image"),
        Cel("variables.command"),
        Cel(engine),
        Cel(f"{_text(address)} + ({port}) + {_text(rest)}"),
    )
    return _literal(made, f"{typed}.spec.containers")


def _lacks(template: str) -> str:
    """Return whether a template has containers, and no sidecar among them."""
    spec = f"{_optional(template)}.?spec"
    named = f"exists(c, c.?name.orValue('') == '{sidecar.CONTAINER}')"
    containers, init = f"{spec}.?containers.orValue([])", f"{spec}.?initContainers.orValue([])"
    return f"size({containers}) > 0 && !{containers}.{named} && !{init}.{named}"


def _optional(template: str) -> str:
    around, _, name = template.rpartition(".")
    return f"{around}.?{name}"


def _annotation(name: str, otherwise: str = "") -> str:
    return f"object.metadata.?annotations['{name}'].orValue('{otherwise}')"


def _first(value: str, otherwise: str) -> str:
    """Return the value, or another one where it is empty."""
    return f"({value} != '' ? {value} : ({otherwise}))"


def _literal(value: Any, typed: str = "") -> str:
    """Return a value as an expression; objects have the type of their place, as a typed API server wants it."""
    match value:
        case Cel():
            return value
        case Mapping():
            if typed and all(_IDENTIFIER.fullmatch(name) for name in value):
                fields = ", ".join(f"{name}: {_literal(part, f'{typed}.{name}')}" for name, part in value.items())
                return f"{typed}{{{fields}}}"
            return "{" + ", ".join(f"{_text(name)}: {_literal(part)}" for name, part in value.items()) + "}"
        case list():
            return "[" + ", ".join(_literal(part, typed) for part in value) + "]"
        case str():
            return _text(value)
        case _:
            return json.dumps(value)


def _text(value: str) -> str:
    return json.dumps(value)


def _json_patch(expression: str) -> dict[str, Any]:
    return {"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}


def _apply_configuration(expression: str) -> dict[str, Any]:
    return {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}
