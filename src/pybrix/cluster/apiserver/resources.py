"""What a served resource is, and how a custom resource definition becomes one. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pybrix.cluster.apiserver.conversions import Conversion
from pybrix.cluster.apiserver.schema.access_types import ACCESS_TYPES
from pybrix.cluster.apiserver.schema.admission_types import MUTATION_TYPES
from pybrix.cluster.apiserver.schema.core_types import CORE_TYPES, META_TYPES, OTHER_TYPES
from pybrix.cluster.apiserver.schema.network_types import NETWORK_TYPES
from pybrix.cluster.apiserver.schema.pod_types import APPS_TYPES, POD_TYPES
from pybrix.cluster.apiserver.schema.scaling_types import SCALING_TYPES
from pybrix.cluster.apiserver.schema.shape import ANY, Field, Form, ListType, Shape, parse_types, shape_of_openapi
from pybrix.cluster.apiserver.schema.workload_types import WORKLOAD_TYPES
from pybrix.cluster.apiserver.structural.custom import CustomSchema

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
TYPES: dict[str, Shape] = parse_types(
    (
        META_TYPES,
        CORE_TYPES,
        OTHER_TYPES,
        MUTATION_TYPES,
        POD_TYPES,
        APPS_TYPES,
        WORKLOAD_TYPES,
        ACCESS_TYPES,
        NETWORK_TYPES,
        SCALING_TYPES,
    )
)
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
    """Further ones: log, binding, eviction, finalize, token."""
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
    conversion: Conversion | None = None
    """Of a form that is not the stored one."""
    deprecation: str = ""
    """A warning that every request for this version gets."""

    @property
    def storage(self) -> str:
        """The resource's name in the store, the same for all its versions."""
        if self.conversion is not None:
            return self.conversion.stored_as
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def kind_of_list(self) -> str:
        return self.list_kind or f"{self.kind}List"


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
