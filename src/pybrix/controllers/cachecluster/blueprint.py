"""What a cache shall be made of, as the rooms of its kinds say it and `reconciler` makes it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pybrix.api.core import Pod
from pybrix.api.identity import Uid
from pybrix.api.meta import Object
from pybrix.controllers.credentials import Credentials
from pybrix.controllers.membership.keys import Keys
from pybrix.controllers.membership.records import Record
from pybrix.controllers.membership.ring import DEFAULT_SLOTS, DEFAULT_VIRTUAL_NODES
from pybrix.controllers.membership.store import Server

KIND_LABEL = "pybrix.ai/cache-kind"
"""Label of everything that is made for a cache: the plural of its kind."""
NAME_LABEL = "pybrix.ai/cache-name"
ROLE_CACHE = "cache"
ROLE_METADATA = "metadata"

ChildKey = tuple[str, str]
"""Kind and name of a child."""
Destinations = Mapping[str, Any]
"""Parts of specs that say where the membership goes, by place: server and key of the record."""


@dataclass(frozen=True, slots=True)
class SecretUse:
    """A Secret that a cache names, and where, for people."""

    name: str
    field: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is of a cache."""

    pods: tuple[Pod, ...] = ()
    """All of it: of the cache and of the metadata server."""
    children: Mapping[ChildKey, Object] = field(default_factory=dict)
    secrets: Mapping[str, Credentials] = field(default_factory=dict)
    record: Record | None = None
    """What was published last, as the ConfigMap has it."""
    destinations: Destinations = field(default_factory=dict)
    """Where it may be published, as the ConfigMap has it."""
    password: str = ""
    """A fresh password, for a Secret that has to be made."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something cannot be done, for a condition."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class MemberSource:
    """Which pods are members, and where they answer."""

    labels: Mapping[str, str]
    port: int
    address_annotation: str = ""
    """Annotation of pods that lists their network interfaces; empty, or absent in a pod: the pod's own address."""
    interface: str = ""


@dataclass(frozen=True, slots=True)
class ManagedServer:
    """A metadata server that is made with the cache."""

    kind: str
    labels: Mapping[str, str]
    replicas: int
    password: str = ""
    """What it shall ask for; empty: nothing."""


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What a cache shall be."""

    replicas: int
    members: MemberSource
    workload: ChildKey
    """The child whose pods are the cache servers."""
    children: tuple[Mapping[str, Any], ...] = ()
    server: Server | None = None
    """Where the membership goes; None: nowhere, or nowhere yet and `problem` says why."""
    keys: Keys | None = None
    managed: ManagedServer | None = None
    problem: Problem | None = None
    """Why the metadata server cannot be used."""
    invalid: str = ""
    """What is wrong with the spec: then nothing is changed."""
    slots: int = DEFAULT_SLOTS
    virtual_nodes: int = DEFAULT_VIRTUAL_NODES
    fixed: Mapping[ChildKey, tuple[str, ...]] = field(default_factory=dict)
    """Fields of a child's spec that cannot change in place, beyond those that the API server holds fast."""
    unwanted_secrets: tuple[str, ...] = ()
    """Secrets that may have been made for this cache and that it needs no more."""
    legacy_pods: tuple[Uid, ...] = ()
    """Pods that another controller made for this cache and that this one does without."""
    kind: str = ""
    """etcd or redis; empty when the cache has no metadata server."""
    address: str = ""
    """Where the metadata server is, for people."""
