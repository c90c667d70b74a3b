"""Rules for names, labels and annotations. Pure.

https://kubernetes.io/docs/concepts/overview/working-with-objects/names/
"""

from __future__ import annotations

import re
from typing import Any

from pybrix.cluster.apiserver.failures import Cause, invalid_value, required

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
DNS_LABEL = re.compile(_LABEL)
DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
DNS_SUBDOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
ANNOTATIONS_LIMIT_BYTES = 256 * 1024

_DNS_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_DNS_1035_TEXT = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    "'[a-z]([-a-z0-9]*[a-z0-9])?')"
)
_DNS_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_QUALIFIED_TEXT = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_LABEL_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)


def check_dns_label(path: str, value: str) -> list[Cause]:
    if len(value) > 63:
        return [invalid_value(path, value, "must be no more than 63 characters")]
    return [] if DNS_LABEL.fullmatch(value) else [invalid_value(path, value, _DNS_LABEL_TEXT)]


def check_dns_1035(path: str, value: str) -> list[Cause]:
    if len(value) > 63:
        return [invalid_value(path, value, "must be no more than 63 characters")]
    return [] if DNS_1035.fullmatch(value) else [invalid_value(path, value, _DNS_1035_TEXT)]


def check_dns_subdomain(path: str, value: str) -> list[Cause]:
    if len(value) > 253:
        return [invalid_value(path, value, "must be no more than 253 characters")]
    return [] if DNS_SUBDOMAIN.fullmatch(value) else [invalid_value(path, value, _DNS_SUBDOMAIN_TEXT)]


def check_qualified_name(path: str, value: str) -> list[Cause]:
    """Check a label or annotation key: an optional DNS prefix, a slash, and a name of at most 63 characters."""
    prefix, slash, name = value.rpartition("/")
    causes: list[Cause] = []
    if slash and not prefix:
        causes.append(invalid_value(path, value, "prefix part must be non-empty"))
    elif slash and (len(prefix) > 253 or not DNS_SUBDOMAIN.fullmatch(prefix)):
        causes.append(invalid_value(path, value, f"prefix part {_DNS_SUBDOMAIN_TEXT}"))
    if len(name) > 63:
        causes.append(invalid_value(path, value, "name part must be no more than 63 characters"))
    elif not _QUALIFIED.fullmatch(name):
        causes.append(invalid_value(path, value, _QUALIFIED_TEXT))
    return causes


def check_label_value(path: str, value: str) -> list[Cause]:
    if len(value) > 63:
        return [invalid_value(path, value, "must be no more than 63 characters")]
    return [] if not value or _QUALIFIED.fullmatch(value) else [invalid_value(path, value, _LABEL_VALUE_TEXT)]


def check_labels(path: str, labels: dict[str, str]) -> list[Cause]:
    causes: list[Cause] = []
    for key, value in labels.items():
        causes += check_qualified_name(path, key)
        causes += check_label_value(path, value)
    return causes


def check_metadata(metadata: dict[str, Any], path: str = "metadata") -> list[Cause]:
    """Check everything in metadata but the name, whose rule depends on the kind."""
    causes = check_labels(f"{path}.labels", metadata.get("labels", {}))
    annotations = metadata.get("annotations", {})
    for key in annotations:
        causes += check_qualified_name(f"{path}.annotations", key.lower())
    if sum(len(k) + len(v) for k, v in annotations.items()) > ANNOTATIONS_LIMIT_BYTES:
        causes.append(
            Cause(
                f"{path}.annotations",
                f"Too long: may not be more than {ANNOTATIONS_LIMIT_BYTES} bytes",
                "FieldValueTooLong",
            )
        )
    for finalizer in metadata.get("finalizers", ()):
        causes += check_qualified_name(f"{path}.finalizers", finalizer)
    controllers = 0
    for index, owner in enumerate(metadata.get("ownerReferences", ())):
        for name in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(name):
                causes.append(required(f"{path}.ownerReferences[{index}].{name}", "must not be empty"))
        controllers += owner.get("controller") is True
    if controllers > 1:
        detail = "Only one reference can have Controller set to true"
        causes.append(invalid_value(f"{path}.ownerReferences", controllers, detail))
    return causes
