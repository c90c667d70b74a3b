"""Watch the workloads that may ask for the sidecar: the shell around `plan`."""

from __future__ import annotations

from collections.abc import Sequence

from pybrix.api.apps import Deployment
from pybrix.api.identity import ObjectKey
from pybrix.api.meta import Object
from pybrix.api.orchestration.v1alpha1.stormservice import StormService
from pybrix.controllers.registration import Registration, Setup
from pybrix.controllers.sidecarinjection.plan import may_matter, plan
from pybrix.kube.permissions import Permission
from pybrix.runtime.actions import Plan
from pybrix.runtime.controller import Controller, For

NAME = "sidecarinjection"
WATCHED: tuple[type[Object], ...] = (Deployment, StormService)


def _controllers(setup: Setup) -> Sequence[Controller]:
    # One for each kind: where StormServices are not defined, Deployments are watched all the same.
    return [_controller(setup, cls) for cls in WATCHED]


def _controller(setup: Setup, cls: type[Object]) -> Controller:
    objects = setup.manager.informer(cls)

    async def reconcile(key: ObjectKey) -> Plan | None:
        obj = objects.get(key)
        return None if obj is None else plan(obj)

    return Controller(
        f"{NAME}-{cls.gvk.plural}",
        reconcile,
        sources=[For(objects, when=may_matter)],
        concurrency=setup.concurrency(NAME),
    )


SIDECARINJECTION = Registration(
    NAME,
    kinds=(),
    watches="Deployments and StormServices that ask for the sidecar and were not given one, and says so in an Event",
    permissions=tuple(Permission(cls.gvk.group, (cls.gvk.plural,), ("list", "watch")) for cls in WATCHED),
    build=_controllers,
)
