"""Make an object fit to be stored: decode, default, complete, validate. Pure but for time, passed in as text."""

from __future__ import annotations

from collections.abc import Container, Mapping
from ipaddress import IPv4Network
from typing import Any

from pybrix.api.names import CLAIM_PROTECTION
from pybrix.cluster.apiserver.equality import is_same_json
from pybrix.cluster.apiserver.failures import Cause, bad_request, forbidden_field, invalid, invalid_value
from pybrix.cluster.apiserver.kinds.addresses import NetworkFull, choose_address, is_address_of
from pybrix.cluster.apiserver.kinds.defaults import default_object, qos_class
from pybrix.cluster.apiserver.kinds.definitions import CLEANUP_FINALIZER, unknown_in_schemas
from pybrix.cluster.apiserver.kinds.jobs import select_own_pods
from pybrix.cluster.apiserver.kinds.validation import validate_create, validate_update
from pybrix.cluster.apiserver.options import WriteOptions
from pybrix.cluster.apiserver.resources import CRD_RESOURCE, CUSTOM_ENVELOPE, ResourceType
from pybrix.cluster.apiserver.schema.decode import Decoded, WrongType, decode_struct
from pybrix.cluster.apiserver.structural.pruning import TooDeep, fresh
from pybrix.kube.errors import StatusError

Data = dict[str, Any]
_MAX_REPORTED = 50
# What only the server writes.
_SERVER_OWNED = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "selfLink",
)


def decode(served: ResourceType, data: Any, options: WriteOptions, *, trusted: Data | None = None) -> Data:
    """Return a fresh copy of what a client sent in the kind's form.

    Args:
        trusted: an object of the kind. Its own parts in `data` (the same, not equal ones) are taken as they are and not
            copied: for callers that keep them.

    Raises:
        BadRequest: it is another kind, a value has the wrong type, or a field is unknown and validation is strict.
    """
    if not isinstance(data, dict):
        raise bad_request("the body is not an object")
    # Who sends neither means what the path says.
    named = {"apiVersion": served.api_version, "kind": served.kind}
    data = {**named, **{k: v for k, v in data.items() if v != "" or k not in named}}
    if data["apiVersion"] != served.api_version:
        raise bad_request(
            f"the API version in the data ({data['apiVersion']}) does not match the expected API version "
            f"({served.api_version})"
        )
    if data["kind"] != served.kind:
        raise bad_request(f"the kind in the data ({data['kind']}) does not match the expected kind ({served.kind})")
    try:
        decoded = decode_fields(served, data, trusted=trusted)
    except (WrongType, TooDeep) as err:
        raise bad_request(
            f'{served.kind} in version "{served.version}" cannot be handled as a {served.kind}: {err}'
        ) from err
    _report_unknown(decoded.unknown, options)
    return decoded.value


def decode_fields(served: ResourceType, data: Data, *, trusted: Data | None = None) -> Decoded:
    """Return a fresh copy of an object in its kind's form, and the fields that the kind does not have.

    Args:
        trusted: see `decode`.

    Raises:
        WrongType: a value has the wrong type; the message begins with the path.
        TooDeep: it is nested too deep.
    """
    if served.custom is not None:
        decoded = decode_struct(fresh(data), CUSTOM_ENVELOPE)
        decoded.unknown += served.custom.prune(decoded.value)
    else:
        decoded = decode_struct(data, served.shape, trusted=trusted)
    if served.storage == CRD_RESOURCE:
        decoded.unknown += unknown_in_schemas(decoded.value)
    metadata = decoded.value.setdefault("metadata", {})
    for name in ("labels", "annotations", "ownerReferences", "finalizers"):
        if name in metadata and not metadata[name]:
            del metadata[name]
    # Creations from templates carry an empty status and time; both are the server's.
    if decoded.value.get("status") == {}:
        del decoded.value["status"]
    return decoded


def _report_unknown(paths: list[str], options: WriteOptions) -> None:
    listed = [*options.duplicates, *(f'unknown field "{path}"' for path in sorted(paths))]
    if not listed or options.field_validation == "Ignore":
        return
    more = [f"and {len(listed) - _MAX_REPORTED} more"] if len(listed) > _MAX_REPORTED else []
    shown = [*listed[:_MAX_REPORTED], *more]
    if options.field_validation == "Strict":
        raise bad_request(f"strict decoding error: {', '.join(shown)}")
    options.warnings.extend(text for text in shown if text not in options.warnings)


def refuse(served: ResourceType, name: str, causes: list[Cause]) -> StatusError:
    return invalid(served.kind, served.group, name, causes)


def complete_new(served: ResourceType, data: Data, *, uid: str, now: str) -> None:
    """Set what the server owns in a new object."""
    metadata = data["metadata"]
    for name in (*_SERVER_OWNED, "resourceVersion", "managedFields"):
        metadata.pop(name, None)
    metadata["uid"] = uid
    metadata["creationTimestamp"] = now
    if served.has_generation:
        metadata["generation"] = 1
    if not served.is_namespaced:
        metadata.pop("namespace", None)
    if served.custom is None:
        default_object(served.kind, data)
    # A node registers itself with its status; of every other kind the status comes later, through its own door.
    if served.has_status and served.kind != "Node":
        data.pop("status", None)
    if served.custom is not None:
        # Whoever holds the metadata goes on with it.
        defaulted = {**served.custom.defaulted(data), "metadata": metadata}
        data.clear()
        data.update(defaulted)
    match () if served.is_custom else served.kind:
        case "Pod":
            data["status"] = {"phase": "Pending", "qosClass": qos_class(data["spec"])}
        case "Namespace":
            data["spec"] = {"finalizers": data.get("spec", {}).get("finalizers", ["kubernetes"])}
            data["status"] = {"phase": "Active"}
        case "Service":
            data["status"] = {"loadBalancer": {}}
        case "ReplicaSet" | "StatefulSet":
            data["status"] = {"replicas": 0}
        case "PersistentVolumeClaim":
            data["status"] = {"phase": "Pending"}
            metadata["finalizers"] = sorted({*metadata.get("finalizers", ()), CLAIM_PROTECTION})
        case "Deployment":
            data["status"] = {}
        case "Job":
            select_own_pods(data)
            data["status"] = {}
        case "CustomResourceDefinition":
            finalizers = metadata.setdefault("finalizers", [])
            if CLEANUP_FINALIZER not in finalizers:
                finalizers.append(CLEANUP_FINALIZER)


def assign_address(
    served: ResourceType, data: Data, old: Mapping[str, Any] | None, taken: Container[str], network: IPv4Network
) -> None:
    """Give a Service the cluster address that it asks for, keeps or needs.

    Raises:
        Invalid: the address is taken or of another network, or none is left.
    """
    spec = data["spec"]
    if spec["type"] == "ExternalName":
        for name in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            spec.pop(name, None)
        return
    kept = (old or {}).get("spec", {}).get("clusterIP", "")
    asked = spec.get("clusterIP") or (spec.get("clusterIPs") or [""])[0] or kept
    if not asked:
        try:
            asked = choose_address(data["metadata"]["uid"], taken, network)
        except NetworkFull as err:
            raise refuse(served, data["metadata"].get("name", ""), [_address_cause("", str(err))]) from err
    elif asked not in ("None", kept) and asked in taken:
        cause = _address_cause(asked, "provided IP is already allocated")
        raise refuse(served, data["metadata"].get("name", ""), [cause])
    elif asked not in ("None", kept) and not is_address_of(network, asked):
        detail = f"the provided IP ({asked}) is not in the valid range. The range of valid IPs is {network}"
        raise refuse(served, data["metadata"].get("name", ""), [_address_cause(asked, detail)])
    spec["clusterIP"] = asked
    spec["clusterIPs"] = [asked]


def settle(served: ResourceType, subresource: str, before: Data, after: Data) -> Data:
    """Return what a policy made of an object as the kind has it: decoded, defaulted, and what is the server's kept.

    A door changes its own part: the status through its own, everything else through the main one.

    Raises:
        WrongType, TooDeep: the kind cannot hold it.
    """
    metadata = dict(after["metadata"]) if isinstance(after.get("metadata"), dict) else {}
    for name in (*_SERVER_OWNED, "name", "namespace", "generateName", "resourceVersion", "managedFields"):
        metadata.pop(name, None)
        if name in before["metadata"]:
            metadata[name] = before["metadata"][name]
    known = {"apiVersion": before["apiVersion"], "kind": before["kind"], "metadata": metadata}
    settled = decode_fields(served, {**after, **known}).value
    if subresource == "status":
        settled = {**before, "status": settled.get("status", {})}
    elif served.has_status:
        settled.pop("status", None)
        if "status" in before:
            settled["status"] = before["status"]
    if served.custom is not None:
        return served.custom.defaulted(settled)
    default_object(served.kind, settled)
    return settled


def faults_of_new(served: ResourceType, data: Data) -> list[Cause]:
    """Return what is wrong with a new object, which is decoded and completed."""
    kind = "" if served.is_custom else served.kind
    causes = validate_create(kind, data)
    if served.custom is not None:
        causes += served.custom.check(data)
    return causes


def check_new(served: ResourceType, data: Data) -> None:
    """Raise `Invalid` with every cause when a new object is wrong."""
    causes = faults_of_new(served, data)
    if causes:
        raise refuse(served, data["metadata"].get("name", ""), causes)


def complete_update(served: ResourceType, old: Data, new: Data, subresource: str) -> Data:
    """Return the object that an update stores: each door changes its own part only.

    Args:
        served: the resource.
        old: the object as it is stored.
        new: what the client wants, decoded.
        subresource: "" for everything but the status, "status" for nothing else.
    """
    if subresource == "status":
        if served.kind == "Node" and not served.is_custom:
            # A kubelet also labels and annotates its node through this door.
            merged = {**old, "metadata": {**old["metadata"]}}
            for name in ("labels", "annotations"):
                if name in new["metadata"]:
                    merged["metadata"][name] = new["metadata"][name]
        else:
            merged = dict(old)
        if "status" in new:
            merged["status"] = new["status"]
        else:
            merged.pop("status", None)
        return merged if served.custom is None else served.custom.defaulted(merged)
    merged = new
    metadata = {k: v for k, v in new["metadata"].items() if k not in (*_SERVER_OWNED, "managedFields")}
    for name in (*_SERVER_OWNED, "managedFields", "name", "namespace", "generateName", "resourceVersion"):
        if name in old["metadata"]:
            metadata[name] = old["metadata"][name]
    merged["metadata"] = metadata
    if served.has_status:
        merged.pop("status", None)
        if "status" in old:
            merged["status"] = old["status"]
    if served.custom is not None:
        merged = served.custom.defaulted(merged)
        metadata = merged["metadata"]
    else:
        if served.kind == "Namespace":
            merged["spec"] = old["spec"]
        if served.kind == "Pod":
            _keep_pod_fields(old, merged)
        default_object(served.kind, merged)
    if old["metadata"].get("deletionTimestamp"):
        before, after = old["metadata"].get("finalizers", []), metadata.get("finalizers", [])
        added = [f for f in after if f not in before]
        if added:
            detail = f"no new finalizers can be added if the object is being deleted, found new finalizers {added}"
            raise refuse(served, metadata["name"], [forbidden_field("metadata.finalizers", detail)])
    return merged


def _keep_pod_fields(old: Data, new: Data) -> None:
    # A manifest that is applied again is silent about what the cluster decided.
    spec = new.setdefault("spec", {})
    for name in ("nodeName", "serviceAccountName", "tolerations", "priority", "priorityClassName"):
        if name not in spec and name in old["spec"]:
            spec[name] = old["spec"][name]


def check_update(served: ResourceType, old: Data, new: Data, subresource: str) -> None:
    """Raise `Invalid` with every cause when an update is wrong; of status, built-in kinds accept what has its type."""
    if subresource == "status" and served.custom is None:
        return
    causes = validate_update("" if served.is_custom else served.kind, old, new)
    if served.custom is not None:
        causes += served.custom.check(new, old)
    if causes:
        raise refuse(served, new["metadata"].get("name", ""), causes)


def bump_generation(served: ResourceType, old: Data, new: Data) -> None:
    """Count changes of what is desired: everything but metadata and status."""
    if not served.has_generation:
        return
    apart = ("metadata", "status", "apiVersion") if served.has_status else ("metadata", "apiVersion")
    before = {k: v for k, v in old.items() if k not in apart}
    after = {k: v for k, v in new.items() if k not in apart}
    generation = old["metadata"].get("generation", 1)
    new["metadata"] = {**new["metadata"], "generation": generation + (not is_same_json(before, after))}


def _address_cause(address: str, detail: str) -> Cause:
    return invalid_value("spec.clusterIPs", [address], detail)
