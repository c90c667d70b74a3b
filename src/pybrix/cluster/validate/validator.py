"""Check files of manifests: every document of every file, against one set of kinds and policies. Pure."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pybrix.cluster.apiserver.policies import Policies
from pybrix.cluster.apiserver.resources import CRD_RESOURCE
from pybrix.cluster.manifests.nodes import Node, Position, Read, locate
from pybrix.cluster.validate.findings import Finding, Report, Severity, ordered
from pybrix.cluster.validate.kinds import FixedPolicies, Kinds
from pybrix.cluster.validate.objects import Fault, check_object

MAX_FINDINGS = 200
"""Findings that one file gets at most."""

_ABOUT_NAMES = ("unknown-field", "forbidden")


@dataclass(frozen=True, slots=True)
class _Object:
    """An object in a file."""

    file: str
    node: Node
    api_version: str
    kind: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What two objects must not have in common."""
        group = self.api_version.rpartition("/")[0]
        return group, self.kind, self._metadata("namespace"), self._metadata("name")

    @property
    def subject(self) -> str:
        name = self._metadata("name") or self._metadata("generateName")
        return f"{self.kind}/{name}" if name else self.kind

    def _metadata(self, name: str) -> str:
        metadata = self.node.get("metadata")
        found = metadata.get(name) if metadata is not None else None
        return found.value if found is not None and isinstance(found.value, str) else ""


@dataclass(slots=True)
class Validator:
    """Checks manifests as the embedded API server would on their creation.

    Args:
        definitions: CustomResourceDefinitions of the kinds that are installed.
        policies: ValidatingAdmissionPolicies and their bindings.
        is_strict: whether a kind that nothing is known about, or nothing to check, is an error.
    """

    definitions: Iterable[Mapping[str, Any]]
    policies: Iterable[Mapping[str, Any]]
    is_strict: bool = False
    _kinds: Kinds = field(init=False)
    _judge: Policies = field(init=False)

    def __post_init__(self) -> None:
        self._kinds = Kinds(self.definitions)
        self._judge = Policies(FixedPolicies(self.policies))

    def check(self, files: Iterable[tuple[str, Read]]) -> Report:
        """Check files, given by name and content, together."""
        findings: list[Finding] = []
        objects: list[_Object] = []
        names: list[str] = []
        for name, read in files:
            names.append(name)
            for problem in read.problems:
                severity = Severity.ERROR if problem.is_error else Severity.WARNING
                findings.append(_finding(name, problem.at, severity, problem.rule, problem.message))
            for document in read.documents:
                for found in _objects(name, document):
                    if isinstance(found, Finding):
                        findings.append(found)
                    else:
                        objects.append(found)
        if names and not objects and not findings:
            severity = Severity.ERROR if self.is_strict else Severity.WARNING
            findings.append(
                _finding(names[0], Position(1, 1, 0), severity, "no-objects", "there is no object to check")
            )
        findings += self._check_objects(objects)
        findings += _given_twice(objects)
        return Report(len(names), len(objects), tuple(_bounded(ordered(findings, names))))

    def _check_objects(self, objects: list[_Object]) -> list[Finding]:
        findings: list[Finding] = []
        counts: Counter[str] = Counter()
        # What the files define comes first, wherever it is: the other objects may be of these kinds.
        for found in sorted(objects, key=lambda o: not self._is_definition(o)):
            # A file of nothing but mistakes is not worth the time.
            if counts[found.file] > MAX_FINDINGS:
                continue
            faults = self._faults(found)
            findings += faults
            counts[found.file] += len(faults)
            if self._is_definition(found) and not any(f.severity is Severity.ERROR for f in faults):
                self._kinds.define(found.node.to_value())
        return findings

    def _is_definition(self, found: _Object) -> bool:
        served = self._kinds.find(found.api_version, found.kind)
        return served is not None and served.storage == CRD_RESOURCE

    def _faults(self, found: _Object) -> list[Finding]:
        served = self._kinds.find(found.api_version, found.kind)
        if served is None:
            message, remedy, is_certain = self._kinds.explain_unknown(found.api_version, found.kind)
            severity = Severity.ERROR if is_certain or self.is_strict else Severity.WARNING
            at = locate(found.node, "kind").at
            return [_finding(found.file, at, severity, "unknown-kind", message, "kind", found.subject, remedy)]
        return [_located(found, fault) for fault in check_object(served, found.node, self._judge)]


def _objects(file: str, document: Node) -> Iterator[_Object | Finding]:
    """Yield the objects of a document, those of lists one by one."""
    pending = deque([document])
    while pending:
        node = pending.popleft()
        if node.entries is None:
            yield _finding(file, node.start, Severity.ERROR, "not-an-object", "a manifest is an object")
            continue
        api_version, kind = (_text(node, name) for name in ("apiVersion", "kind"))
        for name, value in (("apiVersion", api_version), ("kind", kind)):
            if not value:
                at = locate(node, name).at
                text = "Required value: it says what the object is"
                yield _finding(file, at, Severity.ERROR, "not-an-object", text, name)
        if not api_version or not kind:
            continue
        items = node.get("items")
        if kind.endswith("List") and items is not None and items.items is not None:
            pending.extendleft(reversed(items.items))
        else:
            yield _Object(file, node, api_version, kind)


def _text(node: Node, name: str) -> str:
    found = node.get(name)
    return found.value if found is not None and isinstance(found.value, str) else ""


def _given_twice(objects: Iterable[_Object]) -> Iterator[Finding]:
    first: dict[tuple[str, str, str, str], _Object] = {}
    for found in objects:
        if not found.key[3]:
            continue
        earlier = first.setdefault(found.key, found)
        if earlier is not found:
            text = f"given twice, first in {earlier.file} on line {earlier.node.start.line}; the last one wins"
            at = locate(found.node, "metadata.name").at
            yield _finding(found.file, at, Severity.WARNING, "duplicate-object", text, "metadata.name", found.subject)


def _located(found: _Object, fault: Fault) -> Finding:
    place = locate(found.node, fault.path)
    at = place.name_at if fault.rule in _ABOUT_NAMES else place.at
    return _finding(found.file, at, fault.severity, fault.rule, fault.message, fault.path, found.subject, fault.remedy)


def _finding(
    file: str,
    at: Position,
    severity: Severity,
    rule: str,
    message: str,
    path: str = "",
    subject: str = "",
    remedy: str = "",
) -> Finding:
    return Finding(file, at.line, at.column, severity, rule, message, path, subject, remedy)


def _bounded(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Yield the first findings of each file, and where the others begin."""
    counts: Counter[str] = Counter()
    dropped: dict[str, list[Finding]] = {}
    for finding in findings:
        counts[finding.file] += 1
        if counts[finding.file] <= MAX_FINDINGS:
            yield finding
        else:
            dropped.setdefault(finding.file, []).append(finding)
    for file, others in dropped.items():
        is_error = any(f.severity is Severity.ERROR for f in others)
        message = f"more than {MAX_FINDINGS} findings: the others are not listed"
        severity = Severity.ERROR if is_error else Severity.WARNING
        yield Finding(file, others[0].line, others[0].column, severity, "limit", message)
