"""Which resources are served: the built-in ones, as one table, and what custom resource definitions add. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pybrix.cluster.apiserver.schema.core_types import CORE_TYPES, META_TYPES, OTHER_TYPES
from pybrix.cluster.apiserver.schema.pod_types import APPS_TYPES, POD_TYPES
from pybrix.cluster.apiserver.schema.shape import ANY, Field, Form, ListType, Shape, parse_types, shape_of_openapi
from pybrix.cluster.apiserver.structural.custom import CustomSchema

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
TYPES: dict[str, Shape] = parse_types((META_TYPES, CORE_TYPES, OTHER_TYPES, POD_TYPES, APPS_TYPES))
NEVER_SETTLED = 2**63
CRD_RESOURCE = "customresourcedefinitions.apiextensions.k8s.io"


@dataclass(frozen=True, slots=True)
class ScalePaths:
    """Where a kind keeps what `scale` shows; dotted paths without a leading dot."""

    spec: str = "spec.replicas"
    status: str = "status.replicas"
    selector: str = ""
    """Of a custom resource: the path of a serialised selector. Empty for built-ins, which have a LabelSelector."""


@dataclass(frozen=True, slots=True, eq=False)
class ResourceType:
    """One resource in one version."""

    group: str
    version: str
    plural: str
    kind: str
    shape: Shape
    singular: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    is_namespaced: bool = True
    is_custom: bool = False
    has_status: bool = False
    has_generation: bool = False
    scale: ScalePaths | None = None
    list_kind: str = ""
    verbs: tuple[str, ...] = VERBS
    subresources: tuple[str, ...] = ()
    """Further ones: log, binding, eviction, finalize."""
    selectable: tuple[str, ...] = ()
    """Paths that field selectors may name, besides metadata.name and metadata.namespace."""
    may_update_blindly: bool = True
    """Whether an update without a resourceVersion overwrites what is there."""
    printer_columns: tuple[Mapping[str, Any], ...] = ()
    schema: Mapping[str, Any] | None = None
    """The `openAPIV3Schema` of a custom resource."""
    custom: CustomSchema | None = None
    """What the schema of a custom resource does to its objects."""
    settled_revision: int = 0
    """Of a custom resource: objects that are not newer were written under another schema, perhaps."""
    deprecation: str = ""
    """A warning that every request for this version gets."""

    @property
    def storage(self) -> str:
        """The resource's name in the store, the same for all its versions."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def kind_of_list(self) -> str:
        return self.list_kind or f"{self.kind}List"


def _builtin(group: str, version: str, plural: str, kind: str, **options: Any) -> ResourceType:
    return ResourceType(group, version, plural, kind, TYPES[kind], singular=kind.lower(), **options)


_EVENT_FIELDS = (
    *(f"involvedObject.{name}" for name in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion")),
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
)
_POD_FIELDS = (
    *(f"spec.{name}" for name in ("nodeName", "restartPolicy", "schedulerName", "serviceAccountName", "hostNetwork")),
    *(f"status.{name}" for name in ("phase", "podIP", "nominatedNodeName")),
)
BUILTINS: tuple[ResourceType, ...] = (
    _builtin("", "v1", "bindings", "Binding", verbs=("create",)),
    _builtin("", "v1", "configmaps", "ConfigMap", short_names=("cm",)),
    _builtin("", "v1", "events", "Event", short_names=("ev",), selectable=_EVENT_FIELDS),
    _builtin(
        "",
        "v1",
        "namespaces",
        "Namespace",
        short_names=("ns",),
        is_namespaced=False,
        has_status=True,
        subresources=("finalize",),
        selectable=("status.phase",),
        verbs=tuple(v for v in VERBS if v != "deletecollection"),
    ),
    _builtin(
        "",
        "v1",
        "nodes",
        "Node",
        short_names=("no",),
        is_namespaced=False,
        has_status=True,
        selectable=("spec.unschedulable",),
    ),
    _builtin(
        "",
        "v1",
        "pods",
        "Pod",
        short_names=("po",),
        categories=("all",),
        has_status=True,
        has_generation=True,
        subresources=("log", "binding", "eviction"),
        selectable=_POD_FIELDS,
    ),
    _builtin("", "v1", "secrets", "Secret", selectable=("type",)),
    _builtin("", "v1", "serviceaccounts", "ServiceAccount", short_names=("sa",)),
    _builtin(
        "",
        "v1",
        "services",
        "Service",
        short_names=("svc",),
        categories=("all",),
        has_status=True,
        selectable=("spec.clusterIP", "spec.type"),
    ),
    _builtin(
        "apps",
        "v1",
        "deployments",
        "Deployment",
        short_names=("deploy",),
        categories=("all",),
        has_status=True,
        has_generation=True,
        scale=ScalePaths(),
    ),
    _builtin(
        "apps",
        "v1",
        "replicasets",
        "ReplicaSet",
        short_names=("rs",),
        categories=("all",),
        selectable=("status.replicas",),
        has_status=True,
        has_generation=True,
        scale=ScalePaths(),
    ),
    _builtin("coordination.k8s.io", "v1", "leases", "Lease", may_update_blindly=False),
    _builtin("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", has_generation=True),
    _builtin(
        "admissionregistration.k8s.io",
        "v1",
        "validatingadmissionpolicies",
        "ValidatingAdmissionPolicy",
        categories=("api-extensions",),
        is_namespaced=False,
        has_status=True,
        has_generation=True,
    ),
    _builtin(
        "admissionregistration.k8s.io",
        "v1",
        "validatingadmissionpolicybindings",
        "ValidatingAdmissionPolicyBinding",
        categories=("api-extensions",),
        is_namespaced=False,
        has_generation=True,
    ),
    _builtin(
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        short_names=("crd", "crds"),
        categories=("api-extensions",),
        is_namespaced=False,
        has_status=True,
        has_generation=True,
        may_update_blindly=False,
    ),
)


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


def custom_types(crd: Mapping[str, Any]) -> list[ResourceType]:
    """Return the served versions of a definition."""
    return [_custom_type(crd, version) for version in crd["spec"]["versions"] if version.get("served")]


def storage_type(crd: Mapping[str, Any]) -> ResourceType | None:
    found = [_custom_type(crd, version) for version in crd["spec"]["versions"] if version.get("storage")]
    return found[0] if found else None


def _custom_type(crd: Mapping[str, Any], version: Mapping[str, Any]) -> ResourceType:
    spec = crd["spec"]
    names = spec["names"]
    subresources = version.get("subresources") or {}
    scale = subresources.get("scale")
    schema = (version.get("schema") or {}).get("openAPIV3Schema")
    warning = version.get("deprecationWarning") or f"{spec['group']}/{version['name']} {names['kind']} is deprecated"
    return ResourceType(
        spec["group"],
        version["name"],
        names["plural"],
        names["kind"],
        custom_shape(schema),
        singular=names.get("singular") or names["kind"].lower(),
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        is_namespaced=spec.get("scope") == "Namespaced",
        is_custom=True,
        has_status="status" in subresources,
        has_generation=True,
        scale=None
        if not scale
        else ScalePaths(
            scale["specReplicasPath"].lstrip("."),
            scale["statusReplicasPath"].lstrip("."),
            (scale.get("labelSelectorPath") or "").lstrip("."),
        ),
        list_kind=names.get("listKind") or f"{names['kind']}List",
        selectable=tuple(str(f.get("jsonPath", "")).lstrip(".") for f in version.get("selectableFields") or ()),
        may_update_blindly=False,
        printer_columns=tuple(version.get("additionalPrinterColumns") or ()),
        schema=schema,
        custom=CustomSchema(schema),
        settled_revision=_settled_revision(crd),
        deprecation=warning if version.get("deprecated") else "",
    )


def _settled_revision(crd: Mapping[str, Any]) -> int:
    """Return the revision after which every object was written under the schema that serves it."""
    schemas = [version.get("schema") for version in crd["spec"]["versions"]]
    if any(schema != schemas[0] for schema in schemas):
        return NEVER_SETTLED
    version = str(crd["metadata"].get("resourceVersion", ""))
    return int(version) if version.isdigit() else NEVER_SETTLED


def custom_shape(schema: Mapping[str, Any] | None) -> Shape:
    """Return the shape of a custom resource: metadata is always typed, the rest as far as the schema says."""
    described = shape_of_openapi(dict(schema)) if schema else ANY
    shape = Shape(Form.STRUCT, is_open=True, description=described.description)
    shape.fields.update(described.fields)
    shape.fields.update(CUSTOM_ENVELOPE.fields)
    return shape


def _envelope() -> Shape:
    shape = Shape(Form.STRUCT, is_open=True)
    string = Shape(Form.SCALAR, "string")
    shape.fields["apiVersion"] = Field("apiVersion", string)
    shape.fields["kind"] = Field("kind", string)
    shape.fields["metadata"] = Field("metadata", TYPES["ObjectMeta"], list_type=ListType.ATOMIC)
    return shape


CUSTOM_ENVELOPE = _envelope()
"""What every custom resource is decoded as; the rest is its schema's."""
