"""What a request asks for beside its object: options of writes, deletions, lists and watches, read from the query."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any

from pybrix.api.selectors import FieldSelector, Selector, parse_field_selector, parse_label_selector
from pybrix.cluster.apiserver.conversions import Conversion
from pybrix.cluster.apiserver.failures import Cause, bad_request, invalid, not_supported
from pybrix.cluster.apiserver.users import SYSTEM, User

VALIDATIONS = ("Ignore", "Strict", "Warn")
_BOOLEANS = ("spec.unschedulable", "spec.hostNetwork")
PROPAGATIONS = ("Background", "Foreground", "Orphan")


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """Options of create, update and patch. `warnings` collects what the client is told beside the answer."""

    field_manager: str = "pybrix"
    is_dry_run: bool = False
    field_validation: str = "Warn"
    force: bool = False
    warnings: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    """Complaints about fields that the body has twice."""
    user: User = SYSTEM


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """Options of a deletion. None means the default of the kind."""

    uid: str | None = None
    resource_version: str | None = None
    propagation: str | None = None
    grace_period_s: int | None = None
    is_dry_run: bool = False
    user: User = SYSTEM


@dataclass(frozen=True, slots=True)
class ListOptions:
    """Options of lists, deletions of collections and watches."""

    labels: Selector = field(default_factory=Selector)
    fields: FieldSelector = field(default_factory=FieldSelector)
    limit: int = 0
    continue_: str = ""
    resource_version: str = ""
    match: str = ""
    sends_initial_events: bool = False
    allows_bookmarks: bool = False
    timeout_s: int | None = None

    def selects(self, data: Mapping[str, Any]) -> bool:
        """Say whether an object is selected."""
        return (not self.labels.requirements or self.labels.matches(data["metadata"].get("labels") or {})) and (
            not self.fields.terms or self.fields.matches(data)
        )


def parse_bool(query: Mapping[str, str], name: str) -> bool:
    """Read a boolean as Go's `strconv.ParseBool` does; present without a value means true."""
    text = query.get(name)
    if text is None or text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    if text in ("", "1", "t", "T", "true", "TRUE", "True"):
        return True
    raise bad_request(f"{name}: {text!r} is not a boolean")


def parse_int(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name)
    if not text:
        return None
    if not text.isascii() or not text.removeprefix("-").isdigit() or len(text) > 18:
        raise bad_request(f"{name}: {text!r} is not a number")
    return int(text)


def _dry_run(values: list[str]) -> bool:
    if any(value != "All" for value in values):
        cause = not_supported("dryRun", values[0], ("All",))
        raise invalid("DeleteOptions", "", "", [cause])
    return bool(values)


def write_options(query: Mapping[str, str], user_agent: str, user: User = SYSTEM) -> WriteOptions:
    """Read the options of a write; the manager defaults to the first word of the user agent."""
    validation = query.get("fieldValidation", "Warn")
    if validation not in VALIDATIONS:
        cause = not_supported("fieldValidation", validation, VALIDATIONS)
        raise invalid("CreateOptions", "meta.k8s.io", "", [cause])
    manager = query.get("fieldManager", "")
    if len(manager) > 128 or not manager.isprintable():
        cause = Cause("fieldManager", "Invalid value: must be at most 128 printable characters")
        raise invalid("CreateOptions", "meta.k8s.io", "", [cause])
    return WriteOptions(
        field_manager=manager or user_agent.partition("/")[0][:128] or "unknown",
        is_dry_run=_dry_run([query["dryRun"]] if query.get("dryRun") else []),
        field_validation=validation,
        force=parse_bool(query, "force"),
        user=user,
    )


def delete_options(query: Mapping[str, str], body: Any, user: User = SYSTEM) -> DeleteOptions:
    """Read the options of a deletion from its body, else from the query."""
    if body is not None and not isinstance(body, dict):
        raise bad_request("the body of a deletion is a DeleteOptions object")
    given: dict[str, Any] = dict(body or {})
    grace = given.get("gracePeriodSeconds")
    if grace is None:
        grace = parse_int(query, "gracePeriodSeconds")
    propagation = given.get("propagationPolicy") or query.get("propagationPolicy") or None
    orphan = given.get("orphanDependents")
    if orphan is None and "orphanDependents" in query:
        orphan = parse_bool(query, "orphanDependents")
    if propagation is None and orphan is not None:
        propagation = "Orphan" if orphan else "Background"
    conditions = given.get("preconditions") or {}
    dry_run = given.get("dryRun") or ([query["dryRun"]] if query.get("dryRun") else [])
    if isinstance(grace, bool) or not (grace is None or isinstance(grace, int)):
        raise bad_request("gracePeriodSeconds is a number")
    if not isinstance(conditions, dict) or not isinstance(dry_run, list):
        raise bad_request("preconditions is an object, dryRun a list")
    if propagation is not None and propagation not in PROPAGATIONS:
        cause = not_supported("propagationPolicy", propagation, PROPAGATIONS)
        raise invalid("DeleteOptions", "meta.k8s.io", "", [cause])
    for name in ("uid", "resourceVersion"):
        if not isinstance(conditions.get(name), str | None):
            raise bad_request(f"preconditions.{name} is a string")
    return DeleteOptions(
        uid=conditions.get("uid"),
        resource_version=conditions.get("resourceVersion"),
        propagation=propagation,
        # Any negative period means the shortest one.
        grace_period_s=None if grace is None else (1 if grace < 0 else min(grace, 2**31)),
        is_dry_run=_dry_run([str(v) for v in dry_run]),
        user=user,
    )


def _term(path: str, is_equal: bool, value: str) -> tuple[str, bool, str]:
    """Return a term that reads the stored form: an absent boolean is false, a source is its component."""
    if path in _BOOLEANS and value == "false":
        return path, not is_equal, "true"
    return "source.component" if path == "source" else path, is_equal, value


def list_options(
    query: Mapping[str, str], selectable: Container[str], conversion: Conversion | None = None
) -> ListOptions:
    """Read the options of a list or watch; fields other than name and namespace must be `selectable`.

    Args:
        conversion: of a form that is not the stored one; fields are selected in the store.
    """
    try:
        labels = parse_label_selector(query.get("labelSelector", ""))
        fields = parse_field_selector(query.get("fieldSelector", ""))
    except ValueError as err:
        raise bad_request(str(err)) from err
    for path, _, _ in fields.terms:
        if path not in ("metadata.name", "metadata.namespace") and path not in selectable:
            raise bad_request(f"field label not supported: {path}")
    version = query.get("resourceVersion", "")
    if version and not (version.isascii() and version.isdigit() and int(version[:21]) < 2**64):
        raise bad_request(f"Invalid value: {version!r}: resourceVersion must be a number")
    match = query.get("resourceVersionMatch", "")
    if match and match not in ("Exact", "NotOlderThan"):
        cause = not_supported("resourceVersionMatch", match, ("Exact", "NotOlderThan", ""))
        raise invalid("ListOptions", "meta.k8s.io", "", [cause])
    return ListOptions(
        labels=labels,
        fields=FieldSelector(
            tuple(
                _term(conversion.stored_path(path) if conversion else path, is_equal, value)
                for path, is_equal, value in fields.terms
            )
        ),
        limit=max(parse_int(query, "limit") or 0, 0),
        continue_=query.get("continue", ""),
        resource_version=version,
        match=match,
        sends_initial_events=parse_bool(query, "sendInitialEvents"),
        allows_bookmarks=parse_bool(query, "allowWatchBookmarks"),
        timeout_s=parse_int(query, "timeoutSeconds"),
    )
