"""The registry of typed kinds: which class decodes which `apiVersion` and `kind`."""

from __future__ import annotations

from typing import Any

from pybrix.api.apps import Deployment, ReplicaSet
from pybrix.api.core import (
    ConfigMap,
    EndpointSlice,
    Event,
    Lease,
    Namespace,
    Node,
    Pod,
    Secret,
    Service,
)
from pybrix.api.meta import Object

KINDS: tuple[type[Object], ...] = (
    Namespace,
    Node,
    Pod,
    Service,
    ConfigMap,
    Secret,
    Event,
    EndpointSlice,
    Lease,
    Deployment,
    ReplicaSet,
)
_BY_NAME = {(cls.gvk.api_version, cls.gvk.kind): cls for cls in KINDS}


def kind_class(api_version: str, kind: str) -> type[Object] | None:
    """Return the class of a kind, or None for one that pybrix has no type for."""
    return _BY_NAME.get((api_version, kind))


def decode(data: dict[str, Any]) -> Object:
    """Decode a JSON-like object by its `apiVersion` and `kind`.

    Raises:
        ValueError: the kind has no type here.
        msgspec.ValidationError: a known field has the wrong type.
    """
    cls = kind_class(str(data.get("apiVersion", "")), str(data.get("kind", "")))
    if cls is None:
        raise ValueError(f"no type for {data.get('apiVersion')} {data.get('kind')}")
    return cls.from_dict(data)
