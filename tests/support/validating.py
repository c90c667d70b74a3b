"""Manifests as text for tests of validation; a mark says on which line something should be found."""

from __future__ import annotations

import functools
import textwrap
from dataclasses import dataclass

from pybrix.api.crds import render_crds
from pybrix.api.policies import render_policies
from pybrix.cluster.manifests.files import Source, parse_source
from pybrix.cluster.validate.findings import Finding, Report
from pybrix.cluster.validate.validator import Validator

MARK = "#!"


@dataclass(frozen=True, slots=True)
class Marked:
    """A text and the lines that have a mark."""

    text: str
    lines: tuple[int, ...]


def marked(text: str) -> Marked:
    """Return a text without its indentation, and where its marks are; marks are comments."""
    plain = textwrap.dedent(text).lstrip("\n")
    return Marked(plain, tuple(n for n, line in enumerate(plain.splitlines(), 1) if MARK in line))


@functools.cache
def shared_validator(is_strict: bool) -> Validator:
    return Validator(render_crds(), render_policies(), is_strict)


def validate(*texts: str, is_strict: bool = False, name: str = "m.yaml") -> Report:
    """Validate texts as files m.yaml, m.yaml1, ... with the kinds and policies of pybrix."""
    # Definitions in files change what a validator knows.
    is_shared = not any("CustomResourceDefinition" in text for text in texts)
    validator = shared_validator(is_strict) if is_shared else Validator(render_crds(), render_policies(), is_strict)
    files = [(f"{name}{number or ''}", text) for number, text in enumerate(texts)]
    return validator.check((n, parse_source(Source(n, t.encode()))) for n, t in files)


def findings(text: str, *, is_strict: bool = False) -> tuple[Finding, ...]:
    return validate(text, is_strict=is_strict).findings
