"""What the EndpointSlice controller sees in one pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pybrix.api import names
from pybrix.api.core import EndpointSlice, Pod, Service

MANAGER = "endpointslice-controller.k8s.io"
"""Value of the label that says who keeps a slice."""


@dataclass(frozen=True, slots=True)
class Observed:
    """One Service, the pods of its namespace that it selects, and the slices it has."""

    service: Service
    pods: tuple[Pod, ...] = ()
    slices: tuple[EndpointSlice, ...] = ()
    """Slices labelled with the Service and kept by this controller."""
    taken: frozenset[str] = frozenset()
    """Names of all slices of the namespace, whoever keeps them."""
    zones: Mapping[str, str] = field(default_factory=dict)
    """Zone of each node that has one, by name."""


def is_kept_here(piece: EndpointSlice) -> bool:
    return piece.metadata.labels.get(names.MANAGED_BY_ENDPOINTSLICE) == MANAGER


def service_of(piece: EndpointSlice) -> str:
    """Return the name of the Service that a slice is for; empty for none."""
    return piece.metadata.labels.get(names.SERVICE_NAME, "")


def is_worked_on(service: Service) -> bool:
    """Say whether the slices of a Service follow from a selector; others are kept by whoever made the Service."""
    return bool(service.spec.selector) and service.spec.type != "ExternalName" and not service.metadata.is_terminating
