"""CustomResourceDefinitions: what is refused, and the status that says whether the kind is served. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from pybrix.api.meta import Condition, set_condition
from pybrix.cluster.apiserver.failures import Cause, duplicate, invalid_value, not_supported, required
from pybrix.cluster.apiserver.kinds.names import check_dns_1035, check_dns_label, check_dns_subdomain
from pybrix.cluster.apiserver.structural.definition import check_schema, unknown_keywords

Object = dict[str, Any]
CLEANUP_FINALIZER = "customresourcecleanup.apiextensions.k8s.io"


def check_definition(data: Object, old: Object | None = None) -> list[Cause]:
    """Return what is wrong with a definition; schemas that `old` has already are not looked at again."""
    spec = data["spec"]
    names = spec.get("names", {})
    causes: list[Cause] = []
    group, plural = spec.get("group", ""), names.get("plural", "")
    if not group:
        causes.append(required("spec.group"))
    else:
        causes += check_dns_subdomain("spec.group", group)
        if "." not in group:
            causes.append(invalid_value("spec.group", group, "should be a domain with at least one dot"))
    if not plural:
        causes.append(required("spec.names.plural"))
    else:
        causes += check_dns_1035("spec.names.plural", plural)
    if data["metadata"].get("name") != f"{plural}.{group}":
        detail = 'must be spec.names.plural+"."+spec.group'
        causes.append(invalid_value("metadata.name", data["metadata"].get("name", ""), detail))
    if not names.get("kind"):
        causes.append(required("spec.names.kind"))
    else:
        causes += check_dns_1035("spec.names.kind", names["kind"].lower())
    for index, short in enumerate(names.get("shortNames", ())):
        causes += check_dns_1035(f"spec.names.shortNames[{index}]", short)
    if spec.get("scope") not in ("Cluster", "Namespaced"):
        causes.append(not_supported("spec.scope", spec.get("scope", ""), ("Cluster", "Namespaced")))
    if spec.get("preserveUnknownFields"):
        detail = "cannot be true: set x-kubernetes-preserve-unknown-fields in the schema instead"
        causes.append(invalid_value("spec.preserveUnknownFields", True, detail))
    if (spec.get("conversion") or {}).get("strategy", "None") != "None":
        detail = "this server has no conversion webhooks; only None"
        causes.append(invalid_value("spec.conversion.strategy", spec["conversion"]["strategy"], detail))
    return causes + _check_versions(spec.get("versions", []), [] if old is None else _schemas(old))


def unknown_in_schemas(data: Object) -> list[str]:
    """Return the paths of what is no keyword of a schema."""
    found: list[str] = []
    for index, version in enumerate((data.get("spec") or {}).get("versions") or ()):
        schema = version.get("schema")
        if isinstance(schema, dict):
            found += unknown_keywords(schema.get("openAPIV3Schema"), f"spec.versions[{index}].schema.openAPIV3Schema")
    return found


def _schemas(data: Object) -> list[Any]:
    versions = data["spec"].get("versions", [])
    return [v["schema"].get("openAPIV3Schema") for v in versions if isinstance(v.get("schema"), dict)]


def _check_versions(versions: list[Object], known_schemas: list[Any]) -> list[Cause]:
    if not versions:
        return [required("spec.versions", "must have at least one version")]
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, version in enumerate(versions):
        path = f"spec.versions[{index}]"
        name = version.get("name", "")
        causes += check_dns_label(f"{path}.name", name) if name else [required(f"{path}.name")]
        if name in seen:
            causes.append(duplicate(f"{path}.name", name))
        seen.add(name)
        schema = version.get("schema")
        root = schema.get("openAPIV3Schema") if isinstance(schema, Mapping) else None
        if not isinstance(root, Mapping):
            causes.append(required(f"{path}.schema.openAPIV3Schema", "schemas are required"))
        elif root.get("type") != "object":
            detail = "must be object at the root"
            causes.append(invalid_value(f"{path}.schema.openAPIV3Schema.type", root.get("type", ""), detail))
        elif root not in known_schemas:
            causes += check_schema(root, f"{path}.schema.openAPIV3Schema")
        for number, column in enumerate(version.get("additionalPrinterColumns", ())):
            at = f"{path}.additionalPrinterColumns[{number}]"
            for part in ("name", "type", "jsonPath"):
                if not column.get(part):
                    causes.append(required(f"{at}.{part}"))
            kinds = ("integer", "number", "string", "boolean", "date")
            if column.get("type") and column["type"] not in kinds:
                causes.append(not_supported(f"{at}.type", column["type"], kinds))
        scale = version.get("subresources", {}).get("scale")
        for name in ("specReplicasPath", "statusReplicasPath") if scale is not None else ():
            root_name = ".spec." if name.startswith("spec") else ".status."
            if not str(scale.get(name, "")).startswith(root_name):
                detail = f"should be a json path under {root_name.rstrip('.')}"
                causes.append(invalid_value(f"{path}.subresources.scale.{name}", scale.get(name, ""), detail))
    stored = [version for version in versions if version.get("storage")]
    if len(stored) != 1:
        causes.append(invalid_value("spec.versions", len(stored), "must have exactly one version marked as storage"))
    return causes


def check_definition_update(old: Object, new: Object) -> list[Cause]:
    causes = check_definition(new, old)
    causes += [
        invalid_value(f"spec.{name}", new["spec"].get(name), "field is immutable")
        for name in ("group", "scope")
        if old["spec"].get(name) != new["spec"].get(name)
    ]
    before, after = old["spec"]["names"], new["spec"]["names"]
    causes += [
        invalid_value(f"spec.names.{name}", after.get(name), "field is immutable")
        for name in ("plural", "kind")
        if before.get(name) != after.get(name)
    ]
    left = set(old.get("status", {}).get("storedVersions", ())) - {v.get("name") for v in new["spec"]["versions"]}
    if left:
        detail = "must appear in spec.versions"
        causes.append(invalid_value("status.storedVersions[0]", sorted(left)[0], detail))
    return causes


def definition_status(crd: Mapping[str, Any], taken: Mapping[str, str], now: str) -> Object:
    """Return the status of a definition: its names are accepted unless another resource of the group has them.

    Args:
        crd: the definition, with its status so far.
        taken: name (or `kind:Name`) -> resource that has it, other than this one.
        now: time for conditions that change.
    """
    names, status = crd["spec"]["names"], crd.get("status", {})
    asked = [names["plural"], names.get("singular", ""), *names.get("shortNames", ()), f"kind:{names['kind']}"]
    clash = next((name for name in asked if name in taken), None)
    conditions = [msgspec.convert(c, Condition) for c in status.get("conditions", ())]
    if clash is None:
        news = [
            Condition(type="NamesAccepted", status="True", reason="NoConflicts", message="no conflicts found"),
            Condition(
                type="Established",
                status="True",
                reason="InitialNamesAccepted",
                message="the initial names have been accepted",
            ),
        ]
    else:
        text = f'"{clash.removeprefix("kind:")}" is already in use by {taken[clash]}'
        news = [Condition(type="NamesAccepted", status="False", reason="NameConflict", message=text)]
        if not any(c.type == "Established" for c in conditions):
            news.append(
                Condition(
                    type="Established", status="False", reason="NotAccepted", message="not all names are accepted"
                )
            )
    for condition in news:
        conditions = set_condition(conditions, condition, now)
    stored = list(status.get("storedVersions", ()))
    for version in crd["spec"]["versions"]:
        if version.get("storage") and version["name"] not in stored:
            stored.append(version["name"])
    accepted = names if clash is None else status.get("acceptedNames", {"plural": "", "kind": ""})
    return {
        "conditions": msgspec.to_builtins(conditions),
        "acceptedNames": accepted,
        "storedVersions": stored,
        "observedGeneration": crd["metadata"].get("generation", 1),
    }


def is_established(crd: Mapping[str, Any]) -> bool:
    conditions = crd.get("status", {}).get("conditions", ())
    return any(c.get("type") == "Established" and c.get("status") == "True" for c in conditions)
