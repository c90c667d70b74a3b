"""The copy of a cache's record, in a ConfigMap beside it, and where the record may be. Pure.

A destination is the part of a spec that says where the membership goes, such as `spec.metadata` of a KVCachePool: no
passwords, but the names of the Secrets that hold them. It is noted before anything is published there, and until it is
certain that nothing is left there; so whoever leads by then finds what a former server still has.
"""

from __future__ import annotations

from typing import Any

import msgspec

from pybrix.api.core import ConfigMap
from pybrix.api.markers import CustomResource
from pybrix.api.meta import Object
from pybrix.controllers.cachecluster.blueprint import KIND_LABEL, NAME_LABEL, Destinations
from pybrix.controllers.membership.records import Record, decode, encode

RECORD = "membership.json"
"""Key of the record."""
DESTINATIONS = "destinations.json"
"""Key of the destinations."""


def record_name(obj: Object) -> str:
    """Return the name of the ConfigMap; a pool and a KVCache of one name have one each."""
    return f"{obj.metadata.name}.{obj.gvk.plural}"


def read_record(copied: Object | None) -> Record | None:
    """Return the record; None when there is none, or something else."""
    if not isinstance(copied, ConfigMap) or RECORD not in copied.data:
        return None
    return decode(copied.data[RECORD].encode())


def read_destinations(copied: Object | None) -> Destinations:
    """Return the destinations; none when something else is written there."""
    if not isinstance(copied, ConfigMap):
        return {}
    try:
        return msgspec.json.decode(copied.data.get(DESTINATIONS, "{}"), type=dict[str, Any])
    except msgspec.MsgspecError:
        return {}


def render_record(obj: CustomResource, record: Record | None, destinations: Destinations) -> dict[str, Any]:
    data = {RECORD: encode(record).decode()} if record is not None else {}
    if destinations:
        data[DESTINATIONS] = msgspec.json.encode(destinations, order="sorted").decode()
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": record_name(obj),
            "namespace": obj.metadata.namespace,
            "labels": {KIND_LABEL: obj.gvk.plural, NAME_LABEL: obj.metadata.name},
        },
        "data": data,
    }
