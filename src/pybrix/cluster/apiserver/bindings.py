"""Bindings: a pod is assigned to a node, once."""

from __future__ import annotations

from typing import Any

from pybrix.api.identity import ObjectKey
from pybrix.cluster.apiserver import admission
from pybrix.cluster.apiserver.failures import conflict, invalid, invalid_value, required
from pybrix.cluster.apiserver.options import WriteOptions
from pybrix.cluster.apiserver.preconditions import check_version
from pybrix.cluster.apiserver.records import Records
from pybrix.cluster.apiserver.subresources import bound


def bind(records: Records, key: ObjectKey, sent: Any, options: WriteOptions) -> None:
    """Bind a pod to a node.

    Raises:
        Conflict: it is bound already, or being deleted.
        BadRequest, Invalid, NotFound
    """
    served = records.served("pods")
    binding = admission.decode(records.served("bindings"), sent, options)
    stored = records.read(served, key)
    metadata, target = binding["metadata"], binding.get("target", {})
    check_version(served, stored, metadata.get("uid"), metadata.get("resourceVersion"))
    if target.get("kind", "Node") not in ("Node", "") or not target.get("name"):
        cause = (
            required("target.name")
            if not target.get("name")
            else invalid_value("target.kind", target["kind"], "must be Node")
        )
        raise invalid("Binding", "", key.name, [cause])
    if stored.data["metadata"].get("deletionTimestamp"):
        raise conflict("pods/binding", "", key.name, f"pod {key.name} is being deleted, cannot be assigned to a host")
    assigned = stored.data["spec"].get("nodeName")
    if assigned:
        raise conflict("pods/binding", "", key.name, f'pod {key.name} is already assigned to node "{assigned}"')
    if not options.is_dry_run:
        records.change(served, stored, bound(stored.data, binding, records.now()))
