"""Print templates in Helm's language. Pure.

What `template.fill` does with the values here, Helm does with the same values there; a test holds them to each other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from pybrix.install.template import (
    OMITTED,
    All,
    Condition,
    Each,
    Either,
    If,
    Item,
    Lines,
    MoreThan,
    Not,
    PortOf,
    Release,
    Sha256,
    Spread,
    Sum,
    Template,
    Text,
    Value,
    to_json,
)

_PLAIN = re.compile(r"[A-Za-z/](?:[A-Za-z0-9_./-]*[A-Za-z0-9_/-])?")
# YAML 1.1 reads these as something else than text.
_WORDS = frozenset(["y", "n", "yes", "no", "on", "off", "true", "false", "null"])
_STEP = "  "


def print_documents(documents: Sequence[Template]) -> str:
    """Return the text of a file of templates."""
    return "\n".join(_documents(documents)).removeprefix("\n") + "\n"


def print_helpers(texts: Sequence[Lines]) -> str:
    """Return `_helpers.tpl`: the configuration files, each under its name."""
    parts = []
    for text in texts:
        lines = []
        for line in text.lines:
            is_plain = isinstance(line.value, str | int)
            value = _escaped(to_json(line.value)) if is_plain else f"{{{{ {_json(line.value)} }}}}"
            shown = f"{line.key}{text.separator}{value}"
            if line.condition is not None:
                shown = f"{{{{- if {_condition(line.condition)} }}}}\n{shown}\n{{{{- end }}}}"
            lines.append(shown)
        body = "\n".join(lines)
        parts.append(f'{{{{- define "{text.name}" -}}}}\n{body}\n{{{{- end }}}}\n')
    return "\n".join(parts)


def find_lines(template: Template) -> Iterator[Lines]:
    """Yield the configuration files that a template includes, each as often as it does."""
    match template:
        case Lines():
            yield template
        case If():
            yield from find_lines(template.then)
            yield from find_lines(template.otherwise)
        case Each():
            yield from find_lines(template.body)
        case dict():
            for inner in template.values():
                yield from find_lines(inner)
        case list() | tuple():
            for inner in template:
                yield from find_lines(inner)


def _documents(documents: Sequence[Template]) -> Iterator[str]:
    for document in documents:
        match document:
            case If(condition, then, otherwise):
                yield f"{{{{- if {_condition(condition)} }}}}"
                yield from _documents(then if isinstance(then, list) else [then])
                if otherwise is not OMITTED:
                    yield "{{- else }}"
                    yield from _documents(otherwise if isinstance(otherwise, list) else [otherwise])
                yield "{{- end }}"
            case Each(values, variable, body):
                yield f"{{{{- range ${variable} := {_expression(values)} }}}}"
                yield from _documents(list(body))
                yield "{{- end }}"
            case _:
                yield "---"
                yield from _map(document, "")


def _map(template: Mapping[Template, Template], indent: str) -> Iterator[str]:
    for key, value in template.items():
        if isinstance(key, Spread):
            yield f"{indent}{{{{- range $key, $value := {_expression(key.values)} }}}}"
            yield f"{indent}{{{{ $key | toRawJson }}}}: {{{{ $value | toRawJson }}}}"
            yield f"{indent}{{{{- end }}}}"
        else:
            yield from _entry(f"{_scalar(key)}:", value, indent)


def _entry(prefix: str, value: Template, indent: str) -> Iterator[str]:
    """Yield a value after `key:`, within the conditions that it has."""
    match value:
        case If(condition, then, otherwise):
            yield f"{indent}{{{{- if {_condition(condition)} }}}}"
            yield from _entry(prefix, then, indent)
            if otherwise is not OMITTED:
                yield f"{indent}{{{{- else }}}}"
                yield from _entry(prefix, otherwise, indent)
            yield f"{indent}{{{{- end }}}}"
        case dict() if value:
            yield f"{indent}{prefix}"
            yield from _map(value, indent + _STEP)
        case list() if value:
            yield f"{indent}{prefix}"
            yield from _list(value, indent + _STEP)
        case Lines():
            yield f"{indent}{prefix} |"
            yield f'{indent}{_STEP}{{{{- include "{value.name}" $ | nindent {len(indent) + len(_STEP)} }}}}'
        case _:
            yield f"{indent}{prefix} {_inline(value)}"


def _list(template: Sequence[Template], indent: str) -> Iterator[str]:
    for value in template:
        match value:
            case If(condition, then, otherwise):
                yield f"{indent}{{{{- if {_condition(condition)} }}}}"
                yield from _list(then if isinstance(then, list) else [then], indent)
                if otherwise is not OMITTED:
                    yield f"{indent}{{{{- else }}}}"
                    yield from _list(otherwise if isinstance(otherwise, list) else [otherwise], indent)
                yield f"{indent}{{{{- end }}}}"
            case Each(values, variable, body):
                yield f"{indent}{{{{- range ${variable} := {_expression(values)} }}}}"
                yield from _list(body, indent)
                yield f"{indent}{{{{- end }}}}"
            case dict() if value:
                lines = list(_map(value, indent + _STEP))
                if lines[0].lstrip().startswith("{{-"):
                    yield f"{indent}-"
                else:
                    lines[0] = f"{indent}- {lines[0].lstrip()}"
                yield from lines
            case _:
                yield f"{indent}- {_inline(value)}"


def _inline(value: Template) -> str:
    """Return what fits behind a key: plain data, or an expression."""
    if value in ({}, []) or isinstance(value, str | int | float | bool):
        return _scalar(value)
    return f"{{{{ {_json(value)} }}}}"


def _scalar(value: str | int | float | bool | dict[str, object] | list[object]) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return _escaped(json.dumps(value, ensure_ascii=False))


def _escaped(text: str) -> str:
    return text.replace("{{", '{{ "{{" }}')


def _json(value: Template) -> str:
    """Return an expression for the JSON of a value; maps may hold expressions."""
    match value:
        case dict():
            entries = " ".join(f"{_quoted(key)} {_operand(inner)}" for key, inner in value.items())
            return f"dict {entries} | toRawJson"
        case str() | int() | float() | bool():
            return f"{_operand(value)} | toRawJson"
        case _:
            return f"{_expression(value)} | toRawJson"


def _expression(value: Template) -> str:
    match value:
        case Value(path):
            return f"$.Values.{path}"
        case Release(name):
            return f"$.Release.{name.capitalize()}"
        case Item(variable):
            return f"${variable}"
        case Text(parts):
            # A part that is a number is a whole one below a million here, which prints without an exponent.
            return f'printf "{"%v" * len(parts)}" {" ".join(map(_operand, parts))}'
        case Sum(numbers, constant):
            return f"add {' '.join(f'(ceil {_expression(number)})' for number in numbers)} {constant}"
        case PortOf(address):
            return f'splitList ":" {_expression(address)} | last | atoi'
        case If(condition, then, otherwise) if otherwise is not OMITTED:
            # `ternary` wants a boolean, and `and` and `or` return one of their operands.
            return f"ternary {_operand(then)} {_operand(otherwise)} (not (not {_nested(condition)}))"
        case Sha256(text):
            return f'include "{text.name}" $ | sha256sum'
        case _:
            raise TypeError(f"no expression of Helm for {value!r}")


def _operand(value: Template) -> str:
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    shown = _expression(value)
    return f"({shown})" if " " in shown else shown


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _condition(condition: Condition) -> str:
    match condition:
        case Value():
            return _expression(condition)
        case Not(inner):
            return f"not {_nested(inner)}"
        case All(conditions):
            return f"and {' '.join(map(_nested, conditions))}"
        case Either(conditions):
            return f"or {' '.join(map(_nested, conditions))}"
        case MoreThan(number, constant):
            return f"gt (int {_expression(number)}) {constant}"


def _nested(condition: Condition) -> str:
    shown = _condition(condition)
    return f"({shown})" if " " in shown else shown
