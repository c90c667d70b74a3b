"""Deletions: at once, or marked where the node or a finalizer comes first."""

from __future__ import annotations

from pybrix.api.identity import ObjectKey
from pybrix.cluster.apiserver.chain import AdmissionChain
from pybrix.cluster.apiserver.deletion import plan_deletion
from pybrix.cluster.apiserver.failures import forbidden
from pybrix.cluster.apiserver.matching import Change
from pybrix.cluster.apiserver.options import DeleteOptions, ListOptions
from pybrix.cluster.apiserver.preconditions import check_version
from pybrix.cluster.apiserver.records import Data, Records
from pybrix.cluster.apiserver.resources import ResourceType

PROTECTED_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")


class Removal:
    """Deletes objects."""

    def __init__(self, records: Records, chain: AdmissionChain) -> None:
        self._records = records
        self._chain = chain

    def delete(self, served: ResourceType, key: ObjectKey, options: DeleteOptions) -> tuple[Data, bool]:
        """Delete an object, or mark it where something must happen first; return its last form and whether it is gone.

        Raises:
            NotFound, Conflict (a precondition), Forbidden (a namespace that always exists)
        """
        stored = self._records.read(served, key)
        check_version(served, stored, options.uid, options.resource_version)
        if served.storage == "namespaces" and key.name in PROTECTED_NAMESPACES:
            raise forbidden("namespaces", "", key.name, "this namespace may not be deleted")
        shown = self._records.view(served, stored.data)
        change = Change(served, "DELETE", key, None, shown, is_dry_run=options.is_dry_run, user=options.user)
        self._chain.judge(change, [])
        doom = plan_deletion(
            "" if served.is_custom else served.kind,
            stored.data,
            self._records.clock.now(),
            propagation=options.propagation,
            grace_period_s=options.grace_period_s,
        )
        if options.is_dry_run:
            return self._records.view(served, doom.data), doom.is_removed
        if doom.is_removed:
            return self._records.remove(served, stored, doom.data), True
        if doom.data != stored.data:
            return self._records.change(served, stored, doom.data), False
        return shown, False

    def delete_collection(
        self, served: ResourceType, namespace: str | None, selected: ListOptions, options: DeleteOptions
    ) -> list[Data]:
        """Delete what is selected, each object by itself."""
        store = self._records.store
        doomed = [s for s in store.list(served.storage, namespace) if selected.selects(s.data)]
        return [
            self.delete(served, stored.key, options)[0]
            for stored in doomed
            if store.get(served.storage, stored.key) is not None
        ]
