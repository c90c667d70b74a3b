"""Expressions in CEL: compiled once, evaluated often. Pure.

The language is that of Kubernetes (https://kubernetes.io/docs/reference/using-api/cel/), evaluated by the C++
implementation of the CEL project. Types of `self` are not known to it: a rule that confuses them fails when it is
evaluated.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cel_expr_python import cel
from cel_expr_python.ext import ext_bindings, ext_optional, ext_strings

from pybrix.cluster.apiserver.structural.functions import declarations

MAX_EXPRESSION = 16 * 1024
"""Characters that an expression may have."""
_INT64 = range(-(2**63), 2**63)
_OLD = "oldSelf_"
_EXPECTED = {"bool": ("BOOL", "DYN"), "string": ("STRING", "DYN")}


class CelError(ValueError):
    """An expression does not compile, or its evaluation fails."""


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled expression."""

    text: str
    variables: tuple[str, ...]
    compiled: Any
    has_optional_old: bool = False

    def evaluate(self, values: Mapping[str, Any]) -> Any:
        """Return the plain value.

        Raises:
            CelError: the evaluation fails.
        """
        if self.has_optional_old:
            old = values.get("oldSelf")
            values = {"self": values["self"], _OLD: {} if "oldSelf" not in values else {"value": old}}
        try:
            value = self.compiled.eval(data=values)
            if value.type() == cel.Type.ERROR:
                raise CelError(_first_line(str(value.value())))
            return value.plain_value()
        except (RuntimeError, TypeError, OverflowError, UnicodeError) as err:
            raise CelError(_first_line(str(err))) from err


@functools.cache
def _environment(variables: tuple[str, ...]) -> Any:
    return cel.NewEnv(
        variables=dict.fromkeys(variables, cel.Type.DYN),
        extensions=[ext_strings.ExtStrings(2), ext_optional.ExtOptional(), ext_bindings.ExtBindings()],
        functions=declarations(),
    )


@functools.lru_cache(maxsize=4096)
def compile_expression(
    text: str, variables: tuple[str, ...], expected: str = "", *, has_optional_old: bool = False
) -> Program:
    """Compile an expression.

    Args:
        text: the expression.
        variables: names that it may use.
        expected: "bool", "string", or "" for anything.
        has_optional_old: whether `oldSelf` is an optional value, empty when an object is created.

    Raises:
        CelError: it is no expression, or uses a name or function that is not there.
    """
    if not text.strip():
        raise CelError("rule is not specified")
    if len(text) > MAX_EXPRESSION:
        raise CelError(f"is longer than {MAX_EXPRESSION} characters")
    source, names = text, variables
    if has_optional_old:
        source, names = f"cel.bind(oldSelf, {_OLD}[?'value'], {text}\n)", ("self", _OLD)
    try:
        compiled = _environment(names).compile(source)
        result = compiled.return_type().name()
    except (RuntimeError, UnicodeError) as err:
        raise CelError(f"compilation failed: {_message(str(err))}") from err
    if expected and result not in _EXPECTED[expected]:
        raise CelError(f"must evaluate to {expected}, not {result.lower()}")
    return Program(text, variables, compiled, has_optional_old)


def uses_old(text: str) -> bool:
    """Say whether a rule refers to `oldSelf`, which makes it a transition rule. Raises `CelError`."""
    try:
        compile_expression(text, ("self",))
    except CelError:
        compile_expression(text, ("self", "oldSelf"))
        return True
    return False


@functools.cache
def _matcher() -> Program:
    return compile_expression("text.matches(pattern)", ("text", "pattern"))


def matches(pattern: str, text: str) -> bool:
    """Say whether a text matches a regular expression anywhere, in RE2's syntax and linear time.

    Raises:
        CelError: it is no regular expression.
    """
    return _remembered_match(pattern, text) if len(text) <= 256 else _match(pattern, text)


def _match(pattern: str, text: str) -> bool:
    return bool(_matcher().evaluate({"text": text, "pattern": pattern}))


_remembered_match = functools.lru_cache(maxsize=8192)(_match)


def number(value: int | float) -> int | float:
    """Return a number that CEL can hold: integers beyond 64 bits become floating."""
    return float(value) if isinstance(value, int) and value not in _INT64 else value


def plain(value: Any) -> Any:
    """Return a JSON value in the form that expressions take."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    return number(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _first_line(text: str) -> str:
    line = text.strip().splitlines()[0] if text.strip() else "evaluation failed"
    for status in ("NOT_FOUND: ", "INVALID_ARGUMENT: ", "UNKNOWN: ", "OUT_OF_RANGE: ", "INTERNAL: ", "CANCELLED: "):
        line = line.removeprefix(status)
    if line.startswith("Key not found in map : "):
        return "no such key: " + line.removeprefix("Key not found in map : ").strip('"')
    line = line.replace("No matching overloads found : ", "no such overload: ")
    return line.split(" [", 1)[0] if line.endswith("]") else line


def _message(text: str) -> str:
    """Return a compiler's complaints in one line each, without the excerpts."""
    lines = [line.strip() for line in text.splitlines()]
    kept = [line.removeprefix("INVALID_ARGUMENT: ") for line in lines if not line.startswith("|")]
    shown = "; ".join(line.removeprefix("ERROR: ") for line in kept[:3] if line)
    return shown.replace("<input>:", "").replace(" (in container '')", "")[:500]
