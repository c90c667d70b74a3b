"""Every controller there is, and which of them a process runs.

select(["*", "-modeladapter"]) -> the registrations of a process, in the registry's order
permissions_of(registrations)  -> what they need at the API server together, for RBAC
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pybrix.api.markers import CustomResource
from pybrix.api.scheme import CUSTOM_KINDS
from pybrix.base.errors import UsageError
from pybrix.controllers.kvcache.controller import KVCACHE
from pybrix.controllers.kvcachepool.controller import KVCACHEPOOL
from pybrix.controllers.modeladapter.controller import MODELADAPTER
from pybrix.controllers.rayclusterfleet.controller import RAYCLUSTERFLEET
from pybrix.controllers.rayclusterreplicaset.controller import RAYCLUSTERREPLICASET
from pybrix.controllers.registration import Registration
from pybrix.controllers.sidecarinjection.controller import SIDECARINJECTION
from pybrix.controllers.unimplemented.controller import registration as unimplemented
from pybrix.kube.permissions import Permission

IMPLEMENTED: tuple[Registration, ...] = (
    MODELADAPTER,
    KVCACHEPOOL,
    KVCACHE,
    RAYCLUSTERREPLICASET,
    RAYCLUSTERFLEET,
    SIDECARINJECTION,
)
"""Controllers of kinds. A new one is a line here."""

EVENTS = Permission("", ("events",), ("create", "patch"))
"""What every controller needs beside its own permissions."""


def kinds_without_controller(registrations: Iterable[Registration]) -> tuple[type[CustomResource], ...]:
    """Return the kinds of pybrix that none of these controllers works on."""
    covered = {kind for registration in registrations for kind in registration.kinds}
    return tuple(kind for kind in CUSTOM_KINDS if kind not in covered)


REGISTRY: tuple[Registration, ...] = (*IMPLEMENTED, *unimplemented(kinds_without_controller(IMPLEMENTED)))


def select(patterns: Sequence[str], registry: Sequence[Registration] = REGISTRY) -> tuple[Registration, ...]:
    """Return the registrations that a list like kube-controller-manager's `--controllers` names.

    `*` is all of them, `name` one, `-name` all but this one where `*` would bring it.

    Raises:
        UsageError: a name that is none, or a list that leaves nothing.
    """
    names = [registration.name for registration in registry]
    for pattern in patterns:
        if pattern != "*" and pattern.removeprefix("-") not in names:
            raise UsageError(f"controllers: {pattern!r} is none", f"there are *, {', '.join(names)}")
    chosen = tuple(
        registration
        for registration in registry
        if f"-{registration.name}" not in patterns and ("*" in patterns or registration.name in patterns)
    )
    if not chosen:
        raise UsageError(f"controllers: {','.join(patterns)!r} leaves none to run", "* stands for all of them")
    return chosen


def permissions_of(registrations: Iterable[Registration]) -> tuple[Permission, ...]:
    """Return what controllers need together, each permission once, in the order of the registrations."""
    every = [permission for registration in registrations for permission in registration.permissions]
    return tuple(dict.fromkeys((EVENTS, *every)))


def lease_permissions(name: str) -> tuple[Permission, ...]:
    """Return what leader election needs in the namespace of its lease."""
    return (
        # The name of an object that is created is not known when a request is judged, so it cannot narrow this.
        Permission("coordination.k8s.io", ("leases",), ("create",)),
        Permission("coordination.k8s.io", ("leases",), ("get", "patch"), names=(name,)),
    )
