"""Builders of pods of which only the metadata matters."""

from __future__ import annotations

from pybrix.api.core import Pod
from pybrix.api.identity import ObjectKey
from pybrix.api.meta import Object, ObjectMeta


def make_pod(name: str = "a", namespace: str = "default", *, owner: Object | None = None, **labels: str) -> Pod:
    owners = [owner.owner_reference()] if owner is not None else []
    return Pod(metadata=ObjectMeta(name=name, namespace=namespace, labels=labels, owner_references=owners))


def key(name: str = "a", namespace: str = "default") -> ObjectKey:
    return ObjectKey(namespace, name)
