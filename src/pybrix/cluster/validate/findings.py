"""What validation finds, and how it is printed: for people, for programs, for GitHub. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """An error is what a server refuses; a warning is what it takes although it hardly is what was meant."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, and where."""

    file: str
    line: int
    column: int
    severity: Severity
    rule: str
    """A word of `RULES`."""
    message: str
    path: str = ""
    """The field; empty for the object or the file as a whole."""
    subject: str = ""
    """The object, such as `StormService/chat`; empty for the file."""
    remedy: str = ""
    """What to write instead; empty where nothing is likely."""

    def sentence(self) -> str:
        """Return everything but the place."""
        about = ": ".join(printable(part) for part in (self.subject, self.path, self.message) if part)
        return f"{about} ({printable(self.remedy)})" if self.remedy else about


RULES = {
    "syntax": "the text is not YAML or JSON, or a value in it has no JSON form",
    "limit": "the file is too large, too deep, or grows too large by its aliases",
    "duplicate-key": "an object has the same key twice",
    "no-objects": "there is nothing to check",
    "not-an-object": "a document is no object with apiVersion and kind",
    "unknown-kind": "nothing here knows the kind or its version",
    "unknown-field": "the kind has no such field",
    "wrong-type": "a value has another type than its field",
    "missing": "a required field is not there",
    "unsupported-value": "a value is not one of those allowed",
    "duplicate-value": "an item is twice in a list whose items are unique",
    "forbidden": "a field must not be set here",
    "too-long": "a text or a list is longer than allowed",
    "invalid-value": "a value breaks a bound, a pattern or a rule",
    "policy": "an admission policy denies the object",
    "pod-template": "pods that are made of a template would be refused",
    "duplicate-object": "the same object is given twice",
}
"""Every word that a finding's `rule` may be."""


@dataclass(frozen=True, slots=True)
class Report:
    """All findings over some files."""

    files: int
    objects: int
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> int:
        return sum(f.severity is Severity.ERROR for f in self.findings)

    @property
    def warnings(self) -> int:
        return len(self.findings) - self.errors

    @property
    def is_valid(self) -> bool:
        return not self.errors


def render_text(report: Report, *, quiet: bool = False) -> str:
    """Return one line for each finding and a summary; with `quiet` the errors alone."""
    shown = [f for f in report.findings if not quiet or f.severity is Severity.ERROR]
    lines = [f"{printable(f.file)}:{f.line}:{f.column}: {f.severity}: {f.sentence()} [{f.rule}]" for f in shown]
    if not quiet:
        lines.append(
            f"{_count(report.objects, 'object')} in {_count(report.files, 'file')}: "
            f"{_count(report.errors, 'error')}, {_count(report.warnings, 'warning')}"
        )
    return "".join(f"{line}\n" for line in lines)


def render_json(report: Report) -> str:
    """Return the report for programs."""
    body = {
        "valid": report.is_valid,
        "files": report.files,
        "objects": report.objects,
        "errors": report.errors,
        "warnings": report.warnings,
        "findings": [_fields(f) for f in report.findings],
    }
    return json.dumps(body, indent=2) + "\n"


def render_github(report: Report) -> str:
    """Return workflow commands, which GitHub shows beside the lines of a pull request.

    https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands
    """
    lines = [
        f"::{f.severity} file={_property(f.file)},line={f.line},col={f.column},"
        f"title={_property(f'pybrix validate: {f.rule}')}::{_data(f.sentence())}"
        for f in report.findings
    ]
    return "".join(f"{line}\n" for line in lines)


def _fields(finding: Finding) -> dict[str, Any]:
    return {**asdict(finding), "severity": finding.severity.value}


def printable(text: str) -> str:
    """Return a text that does nothing to a terminal: control characters are spelled out."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def ordered(findings: Iterable[Finding], files: Sequence[str]) -> tuple[Finding, ...]:
    """Return findings in the order of files, lines and columns, each of them once."""
    rank = {name: number for number, name in reversed(list(enumerate(files)))}
    unique = dict.fromkeys(findings)
    return tuple(sorted(unique, key=lambda f: (rank.get(f.file, len(rank)), f.line, f.column, f.path, f.message)))
