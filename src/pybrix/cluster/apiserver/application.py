"""Server-side apply: merge what a manager wants into what is there, field by field.

https://kubernetes.io/docs/reference/using-api/server-side-apply/
"""

from __future__ import annotations

from typing import Any

from pybrix.api.identity import ObjectKey
from pybrix.cluster.apiserver import admission, managed
from pybrix.cluster.apiserver.creation import Creation
from pybrix.cluster.apiserver.failures import bad_request, conflict, failure, not_found
from pybrix.cluster.apiserver.options import WriteOptions
from pybrix.cluster.apiserver.preconditions import check_version, place
from pybrix.cluster.apiserver.records import Data, Records
from pybrix.cluster.apiserver.resources import ResourceType
from pybrix.cluster.apiserver.updates import Updates
from pybrix.kube.errors import StatusError


class Application:
    """Applies configurations; what is not there yet is created."""

    def __init__(self, records: Records, creation: Creation, updates: Updates) -> None:
        self._records = records
        self._creation = creation
        self._updates = updates

    def apply(self, served: ResourceType, key: ObjectKey, config: Any, options: WriteOptions, subresource: str) -> Data:
        """Apply a configuration to an object or its status, and return the object.

        Raises:
            Conflict: a field belongs to another manager and `force` was not asked for.
            BadRequest, Invalid, NotFound (of a status)
        """
        if subresource not in ("", "status"):
            raise bad_request(f"server-side apply to the {subresource} subresource is not supported: use a merge patch")
        data = admission.decode(served, config, options)
        place(served, key.namespace, data)
        metadata = data["metadata"]
        if metadata.setdefault("name", key.name) != key.name:
            raise bad_request(
                f"the name of the object ({metadata['name']}) does not match the name on the URL ({key.name})"
            )
        if metadata.get("managedFields"):
            raise bad_request("metadata.managedFields must be nil")
        by = managed.Manager(options.field_manager, managed.APPLY, served.api_version, subresource)
        stored = self._records.store.get(served.storage, key)
        if stored is None:
            if subresource:
                raise not_found(served.plural, served.group, key.name)
            if metadata.get("uid") or metadata.get("resourceVersion"):
                raise conflict(served.plural, served.group, key.name, "the object does not exist")
            return self._creation.create(served, key.namespace, config, options, is_apply=True)
        check_version(served, stored, metadata.get("uid"), metadata.get("resourceVersion"))
        live = self._records.view(served, stored.data)
        part = {
            k: v for k, v in data.items() if k != ("metadata" if subresource else "status") or not served.has_status
        }
        part.setdefault("metadata", {})
        owners = managed.parse_owners(live["metadata"].get("managedFields"))
        if not owners:
            before = managed.Manager("before-first-apply", managed.UPDATE, served.api_version)
            owners = managed.own_update({}, None, live, before, served.shape)
        applied = managed.apply(owners, live, part, by, served.shape, force=options.force)
        if applied.conflicts and managed.are_from_last_applied(applied.conflicts, live, by, served.shape):
            applied = managed.apply(owners, live, part, by, served.shape, force=True)
        if applied.conflicts:
            raise _refusal(applied.conflicts)
        merged = admission.decode(served, applied.data, options)
        merged["metadata"].pop("resourceVersion", None)
        return self._updates.write(served, stored, merged, options, subresource, applied.owners)


def _refusal(conflicts: tuple[managed.FieldConflict, ...]) -> StatusError:
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": f'conflict with "{c.manager.name}"'
            + (f" with subresource {c.manager.subresource!r}" if c.manager.subresource else "")
            + f" using {c.manager.api_version}",
            "field": c.path,
        }
        for c in conflicts
    ]
    several = "conflicts" if len(conflicts) > 1 else "conflict"
    text = "; ".join(f"{c['message']}: {c['field']}" for c in causes)
    message = f"Apply failed with {len(conflicts)} {several}: {text}"
    return failure(409, "Conflict", message, {"causes": causes})
