"""What a component may do at the API server, said beside the code that does it. `pybrix install` turns it into RBAC."""

from __future__ import annotations

from dataclasses import dataclass

READ = ("get", "list", "watch")


@dataclass(frozen=True, slots=True)
class Permission:
    """Verbs on resources of one API group (the core group is "").

    `resources` are plural names, with subresources as in RBAC: `pods`, `modeladapters/status`. `names`, where given,
    narrows it to objects of these names; that never fits list, watch and create.
    """

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    names: tuple[str, ...] = ()
