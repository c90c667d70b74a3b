"""StatefulSets and claims of volumes: what is filled in and what is refused. Pure.

https://kubernetes.io/docs/reference/kubernetes-api/
"""

from __future__ import annotations

from typing import Any

from pybrix.base.quantity import parse_int_or_percent, parse_quantity
from pybrix.cluster.apiserver.failures import (
    Cause,
    duplicate,
    forbidden_field,
    invalid_value,
    not_supported,
    required,
)
from pybrix.cluster.apiserver.kinds.names import check_dns_label

Object = dict[str, Any]
DEFAULT_STORAGE_CLASS = "local"
"""The one class of storage there is: directories of this machine."""
_ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
_MANAGEMENT = ("OrderedReady", "Parallel")
_RETENTION = ("Delete", "Retain")
_STRATEGIES = ("OnDelete", "RollingUpdate")
_NOT_NEGATIVE = "must be greater than or equal to 0"
# Everything else of a StatefulSet is fixed: https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/
_MAY_CHANGE = (
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
)


def default_stateful_set(data: Object) -> None:
    """Fill in everything but the pod template's part."""
    spec = data.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    spec.setdefault("podManagementPolicy", "OrderedReady")
    spec.setdefault("revisionHistoryLimit", 10)
    strategy = spec.setdefault("updateStrategy", {})
    strategy.setdefault("type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        strategy.setdefault("rollingUpdate", {}).setdefault("partition", 0)
    retention = spec.setdefault("persistentVolumeClaimRetentionPolicy", {})
    retention.setdefault("whenDeleted", "Retain")
    retention.setdefault("whenScaled", "Retain")
    for claim in spec.get("volumeClaimTemplates", ()):
        claim.setdefault("apiVersion", "v1")
        claim.setdefault("kind", "PersistentVolumeClaim")
        claim.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")
        claim.setdefault("status", {"phase": "Pending"})


def default_claim(data: Object) -> None:
    spec = data.setdefault("spec", {})
    spec.setdefault("volumeMode", "Filesystem")
    spec.setdefault("storageClassName", DEFAULT_STORAGE_CLASS)


def with_claimed_volumes(spec: Object) -> Object:
    """Return a spec whose pod template has the volumes that its pods get by the claim templates, so that mounts fit."""
    template = spec.get("template", {})
    claimed = [c.get("metadata", {}).get("name", "") for c in spec.get("volumeClaimTemplates", ())]
    if not claimed or "spec" not in template:
        return spec
    given = [v for v in template["spec"].get("volumes", ()) if v.get("name") not in claimed]
    volumes = [*given, *({"name": name, "persistentVolumeClaim": {"claimName": name}} for name in claimed if name)]
    return {**spec, "template": {**template, "spec": {**template["spec"], "volumes": volumes}}}


def check_stateful_set(spec: Object) -> list[Cause]:
    """Return what is wrong with a spec, its selector and its pod template apart."""
    causes = [
        invalid_value(f"spec.{name}", spec[name], _NOT_NEGATIVE)
        for name in ("replicas", "minReadySeconds", "revisionHistoryLimit")
        if spec.get(name, 0) < 0
    ]
    if spec["podManagementPolicy"] not in _MANAGEMENT:
        causes.append(not_supported("spec.podManagementPolicy", spec["podManagementPolicy"], _MANAGEMENT))
    if spec.get("serviceName"):
        causes += check_dns_label("spec.serviceName", spec["serviceName"])
    if spec.get("ordinals", {}).get("start", 0) < 0:
        causes.append(invalid_value("spec.ordinals.start", spec["ordinals"]["start"], _NOT_NEGATIVE))
    for name, word in spec["persistentVolumeClaimRetentionPolicy"].items():
        if word not in _RETENTION:
            causes.append(not_supported(f"spec.persistentVolumeClaimRetentionPolicy.{name}", word, _RETENTION))
    causes += _check_strategy(spec["updateStrategy"], "spec.updateStrategy")
    names: set[str] = set()
    for index, claim in enumerate(spec.get("volumeClaimTemplates", ())):
        at = f"spec.volumeClaimTemplates[{index}]"
        name = claim.get("metadata", {}).get("name", "")
        causes += check_dns_label(f"{at}.metadata.name", name) if name else [required(f"{at}.metadata.name")]
        if name in names:
            causes.append(duplicate(f"{at}.metadata.name", name))
        names.add(name)
        causes += _check_claim_spec(claim.get("spec", {}), f"{at}.spec")
    return causes


def _check_strategy(strategy: Object, at: str) -> list[Cause]:
    if strategy["type"] not in _STRATEGIES:
        return [not_supported(f"{at}.type", strategy["type"], _STRATEGIES)]
    if strategy["type"] == "OnDelete":
        if "rollingUpdate" not in strategy:
            return []
        detail = "only allowed for updateStrategy 'RollingUpdate'"
        return [invalid_value(f"{at}.rollingUpdate", strategy["rollingUpdate"], detail)]
    causes: list[Cause] = []
    rolling = strategy["rollingUpdate"]
    if rolling["partition"] < 0:
        causes.append(invalid_value(f"{at}.rollingUpdate.partition", rolling["partition"], _NOT_NEGATIVE))
    given = rolling.get("maxUnavailable")
    if given is not None:
        path = f"{at}.rollingUpdate.maxUnavailable"
        try:
            is_wrong = parse_int_or_percent(given, 100, round_up=True) <= 0
        except ValueError:
            is_wrong = True
        if is_wrong:
            causes.append(invalid_value(path, given, "must be a number or a percentage greater than 0"))
    return causes


def check_stateful_set_update(old: Object, new: Object) -> list[Cause]:
    before, after = old["spec"], new["spec"]
    fixed = sorted({*before, *after} - set(_MAY_CHANGE))
    if all(_claims_settled(before.get(name)) == _claims_settled(after.get(name)) for name in fixed):
        return []
    detail = (
        "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
        "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
    )
    return [forbidden_field("spec", detail)]


def _claims_settled(value: Any) -> Any:
    """Return a field without what a server sets in claim templates."""
    if not isinstance(value, list):
        return value
    return [{k: v for k, v in item.items() if k != "status"} if isinstance(item, dict) else item for item in value]


def check_claim(data: Object) -> list[Cause]:
    return _check_claim_spec(data["spec"], "spec")


def _check_claim_spec(spec: Object, at: str) -> list[Cause]:
    causes: list[Cause] = []
    modes = spec.get("accessModes", [])
    if not modes:
        causes.append(required(f"{at}.accessModes", "at least 1 access mode is required"))
    causes += [not_supported(f"{at}.accessModes", m, _ACCESS_MODES) for m in modes if m not in _ACCESS_MODES]
    if spec.get("volumeMode") not in (None, "Filesystem", "Block"):
        causes.append(not_supported(f"{at}.volumeMode", spec["volumeMode"], ("Block", "Filesystem")))
    storage = spec.get("resources", {}).get("requests", {}).get("storage")
    if storage is None:
        return [*causes, required(f"{at}.resources[storage]")]
    if parse_quantity(storage) <= 0:
        causes.append(invalid_value(f"{at}.resources[storage]", storage, "must be greater than zero"))
    return causes


def check_claim_update(old: Object, new: Object) -> list[Cause]:
    """A bound claim may only ask for more room; which volume it has is filled in once."""
    before, after = dict(old["spec"]), dict(new["spec"])
    asked = [parse_quantity(s.get("resources", {}).get("requests", {}).get("storage", 0)) for s in (before, after)]
    for spec in (before, after):
        spec.pop("resources", None)
    if not before.get("volumeName"):
        after.pop("volumeName", None)
    if before != after:
        detail = (
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
        )
        return [forbidden_field("spec", detail)]
    if asked[1] < asked[0]:
        return [forbidden_field("spec.resources.requests.storage", "field can not be less than previous value")]
    return []
