"""Watch kinds that no controller works on yet, and say so in their status: the shell around `plan`."""

from __future__ import annotations

from collections.abc import Sequence

from pybrix.api.identity import ObjectKey
from pybrix.api.markers import CustomResource
from pybrix.controllers.registration import Registration, Setup
from pybrix.controllers.unimplemented.plan import plan
from pybrix.kube.permissions import Permission
from pybrix.runtime.actions import Plan
from pybrix.runtime.controller import Controller, For

NAME = "unimplemented"


def registration(kinds: tuple[type[CustomResource], ...]) -> tuple[Registration, ...]:
    """Return the registration for these kinds; none when there are no such kinds."""
    if not kinds:
        return ()
    return (
        Registration(
            NAME,
            kinds=kinds,
            watches="kinds that have no controller yet, and says so in their status",
            permissions=tuple(
                permission
                for group in sorted({kind.gvk.group for kind in kinds})
                for permission in _permissions(group, [kind.gvk.plural for kind in kinds if kind.gvk.group == group])
            ),
            build=lambda setup: [_controller(setup, kind) for kind in kinds],
        ),
    )


def _permissions(group: str, plurals: Sequence[str]) -> tuple[Permission, ...]:
    # An informer lists and watches; nothing is read one by one.
    return (
        Permission(group, tuple(plurals), ("list", "watch")),
        Permission(group, tuple(f"{plural}/status" for plural in plurals), ("patch",)),
    )


def _controller(setup: Setup, kind: type[CustomResource]) -> Controller:
    """Return the controller of one kind: each is parked by itself while its kind is unknown to the server."""
    objects = setup.manager.informer(kind)

    async def reconcile(key: ObjectKey) -> Plan | None:
        obj = objects.get(key)
        return None if obj is None else plan(obj, setup.clock.now())

    return Controller(
        f"{NAME}-{kind.gvk.plural}", reconcile, sources=[For(objects)], concurrency=setup.concurrency(NAME)
    )
