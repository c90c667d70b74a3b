"""CustomResourceDefinitions for tests: a schema in, a definition out."""

from __future__ import annotations

from typing import Any

GROUP = "test.pybrix.dev"
API_VERSION = f"{GROUP}/v1"


def spec_schema(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return the schema of an object whose spec has these properties; `more` are keywords of the spec."""
    spec = {"type": "object", "properties": properties, **more}
    status = {"type": "object", "properties": {"replicas": {"type": "integer"}, "phase": {"type": "string"}}}
    return {"type": "object", "properties": {"spec": spec, "status": status}}


def definition(
    schema: dict[str, Any], *, plural: str = "widgets", kind: str = "Widget", **version: Any
) -> dict[str, Any]:
    """Return a definition with one version; `version` are further fields of that version."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"plural": plural, "singular": kind.lower(), "kind": kind},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": {"status": {}},
                    **version,
                }
            ],
        },
    }


def widget(name: str = "w", spec: Any = None, **more: Any) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": "Widget",
        "metadata": {"name": name},
        **({} if spec is None else {"spec": spec}),
        **more,
    }
