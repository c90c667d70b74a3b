"""What is served: the built-in resources, and what custom resource definitions add. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pybrix.cluster.apiserver.builtin_types import BUILTINS
from pybrix.cluster.apiserver.resources import ResourceType, custom_types, storage_type


class Catalog:
    """What is served now. Replaced entries take effect for the next request."""

    def __init__(self) -> None:
        self._types: dict[tuple[str, str, str], ResourceType] = {(t.group, t.version, t.plural): t for t in BUILTINS}
        self._storage: dict[str, ResourceType] = {t.storage: t for t in BUILTINS}
        self._custom: dict[str, list[ResourceType]] = {}

    def find(self, group: str, version: str, plural: str) -> ResourceType | None:
        return self._types.get((group, version, plural))

    def by_storage(self, resource: str) -> ResourceType | None:
        """Return the storage version of `plural.group`."""
        return self._storage.get(resource)

    def types(self) -> list[ResourceType]:
        return list(self._types.values())

    def group_versions(self) -> dict[str, list[str]]:
        """Return group -> versions, best first: v1 before v1beta1 before v1alpha1, higher numbers first."""
        found: dict[str, set[str]] = {}
        for known in self._types.values():
            found.setdefault(known.group, set()).add(known.version)
        return {group: sorted(versions, key=version_priority) for group, versions in sorted(found.items())}

    def serve_definition(self, crd: Mapping[str, Any]) -> None:
        """Serve what an established CustomResourceDefinition describes, in place of what it described before."""
        name = crd["metadata"]["name"]
        self.withdraw_definition(name)
        for served in custom_types(crd):
            self._custom.setdefault(name, []).append(served)
            self._types[(served.group, served.version, served.plural)] = served
        stored = storage_type(crd)
        if stored is not None:
            self._storage[stored.storage] = stored

    def withdraw_definition(self, name: str) -> None:
        for served in self._custom.pop(name, []):
            self._types.pop((served.group, served.version, served.plural), None)
        if all(t.storage != name for t in BUILTINS):
            self._storage.pop(name, None)

    def names_taken(self, group: str, *, besides: str) -> dict[str, str]:
        """Return name -> CRD or built-in that has it, for a group: plurals, singulars, short names and kinds."""
        taken: dict[str, str] = {}
        for known in self._types.values():
            if known.group == group and known.storage != besides:
                for name in (known.plural, known.singular, *known.short_names):
                    taken[name] = known.storage
                taken[f"kind:{known.kind}"] = known.storage
        return taken


def version_priority(version: str) -> tuple[int, int, int, str]:
    """Order versions as https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definition-versioning/#version-priority."""
    number = version[1:] if version.startswith("v") else ""
    for rank, word in ((1, "beta"), (2, "alpha")):
        major, found, minor = number.partition(word)
        if found and major.isdigit() and (minor.isdigit() or not minor):
            return (rank, -int(major), -int(minor or 0), version)
    if number.isdigit():
        return (0, -int(number), 0, version)
    return (3, 0, 0, version)
