"""References from our kinds to other objects. Their schemas are in `parts`."""

from __future__ import annotations

from pybrix.api.meta import Value


class SecretReference(Value, frozen=True):
    """A Secret in the same namespace."""

    name: str = ""


class ScaleTargetReference(Value, frozen=True):
    """The workload that is scaled, in the autoscaler's own namespace."""

    api_version: str = ""
    kind: str = ""
    name: str = ""
    namespace: str = ""
