"""The part of Helm's template language that the chart uses, so that the chart is tested where Helm is not at hand.

Actions: if/else/end, range, define, include; functions: printf %v, toRawJson, sha256sum, nindent, add, ceil, int, gt,
and, or, not, ternary, splitList, last, atoi, dict. Anything else is an error.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

_ACTION = re.compile(r"\{\{(-?)\s*(.*?)\s*(-?)\}\}", re.DOTALL)
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[()|]|[^\s()|]+')


class GoTemplate:
    """Templates that may include each other, and the values."""

    def __init__(self, values: Mapping[str, Any], release: Mapping[str, str]) -> None:
        self._root = {"Values": values, "Release": release}
        self._defined: dict[str, list[tuple[str, str]]] = {}

    def define(self, text: str) -> None:
        """Take up the `define`d templates of a file."""
        pieces = _pieces(text)
        position = 0
        while position < len(pieces):
            kind, content = pieces[position]
            if kind == "action" and content.startswith("define "):
                end = _end(pieces, position)
                self._defined[json.loads(content.removeprefix("define "))] = pieces[position + 1 : end]
                position = end
            position += 1

    def render(self, text: str) -> str:
        return self._run(_pieces(text), {})

    def _run(self, pieces: Sequence[tuple[str, str]], variables: Mapping[str, Any]) -> str:
        out, position = "", 0
        while position < len(pieces):
            kind, content = pieces[position]
            if kind == "text":
                out += content
            elif content.startswith(("if ", "range ")):
                end = _end(pieces, position)
                out += self._block(content, pieces[position + 1 : end], variables)
                position = end
            else:
                out += _print(self._pipeline(content, variables))
            position += 1
        return out

    def _block(self, head: str, body: Sequence[tuple[str, str]], variables: Mapping[str, Any]) -> str:
        word, _, rest = head.partition(" ")
        if word == "if":
            split = _else(body)
            chosen = body[:split] if self._pipeline(rest, variables) else body[split + 1 :]
            return self._run(chosen, variables)
        names, _, source = rest.partition(":=")
        items = self._pipeline(source.strip(), variables)
        keys = [name.strip() for name in names.split(",")]
        if isinstance(items, Mapping):
            rounds = [dict(zip(keys, pair, strict=True)) for pair in sorted(items.items())]
        else:
            rounds = [{keys[0]: item} for item in items]
        return "".join(self._run(body, {**variables, **each}) for each in rounds)

    def _pipeline(self, text: str, variables: Mapping[str, Any]) -> Any:
        tokens = _TOKEN.findall(text)
        value = self._expression(tokens, variables)
        assert not tokens, f"left over in {text!r}: {tokens}"
        return value

    def _expression(self, tokens: list[str], variables: Mapping[str, Any]) -> Any:
        """Evaluate calls joined by `|` up to a closing parenthesis or the end."""
        piped: list[Any] = []
        while True:
            name, arguments = "", []
            first = tokens.pop(0)
            if first == "(" or first[0] in '$"' or first[0].isdigit():
                value = self._operand(first, tokens, variables)
            else:
                name = first
                while tokens and tokens[0] not in (")", "|"):
                    arguments.append(self._operand(tokens.pop(0), tokens, variables))
                value = self._call(name, [*arguments, *piped])
            if not tokens or tokens[0] == ")":
                return value
            assert tokens.pop(0) == "|"
            piped = [value]

    def _operand(self, token: str, tokens: list[str], variables: Mapping[str, Any]) -> Any:
        if token == "(":
            value = self._expression(tokens, variables)
            assert tokens.pop(0) == ")"
            return value
        if token[0] == '"':
            return json.loads(token)
        if token[0].isdigit():
            return int(token)
        if token == "$":
            return self._root
        if token in ("true", "false"):
            return token == "true"
        if token in variables:
            return variables[token]
        assert token.startswith("$."), token
        found: Any = self._root
        for part in token[2:].split("."):
            found = found[part]
        return found

    def _call(self, name: str, arguments: list[Any]) -> Any:
        match name, arguments:
            case "include", [which, _]:
                return self._run(self._defined[which], {})
            case "toRawJson", [value]:
                return _to_json(value)
            case "sha256sum", [text]:
                return hashlib.sha256(text.encode()).hexdigest()
            case "nindent", [width, text]:
                return "\n" + "\n".join(" " * width + line for line in text.split("\n"))
            case "printf", [form, *values]:
                assert form == "%v" * len(values)
                return "".join(map(_print, values))
            case "ceil", [number]:
                return math.ceil(number)
            case "int", [number]:
                return int(number)
            case "add", numbers:
                return sum(numbers)
            case "gt", [left, right]:
                return left > right
            case "not", [value]:
                return not value
            case "and", values:
                return next((value for value in values if not value), values[-1])
            case "or", values:
                return next((value for value in values if value), values[-1])
            case "ternary", [then, otherwise, bool() as condition]:
                return then if condition else otherwise
            case "splitList", [separator, text]:
                return text.split(separator)
            case "last", [values]:
                return values[-1]
            case "atoi", [text]:
                return int(text)
            case "dict", pairs:
                return dict(zip(pairs[::2], pairs[1::2], strict=True))
        raise AssertionError(f"no function {name} of {arguments}")


def _to_json(value: Any) -> str:
    """Write JSON as Go does after Helm has read all numbers as floats."""
    as_go = json.loads(
        json.dumps(value), parse_float=lambda text: int(float(text)) if float(text) % 1 == 0 else float(text)
    )
    return json.dumps(as_go, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _print(value: Any) -> str:
    return value if isinstance(value, str) else _to_json(value)


def _pieces(text: str) -> list[tuple[str, str]]:
    """Cut a template into text and actions; `{{-` and `-}}` take the white space beside them away."""
    found, position, is_trimmed = [], 0, ""
    for match in _ACTION.finditer(text):
        trim_left, action, trim_right = match.groups()
        between = text[position : match.start()]
        between = between.lstrip() if is_trimmed else between
        found.append(("text", between.rstrip() if trim_left else between))
        found.append(("action", action))
        position, is_trimmed = match.end(), trim_right
    found.append(("text", text[position:].lstrip() if is_trimmed else text[position:]))
    return found


def _end(pieces: Sequence[tuple[str, str]], start: int) -> int:
    depth = 0
    for position in range(start, len(pieces)):
        kind, content = pieces[position]
        if kind == "action":
            depth += content.startswith(("if ", "range ", "define ")) - (content == "end")
            if not depth:
                return position
    raise AssertionError(f"no end of {pieces[start]}")


def _else(body: Sequence[tuple[str, str]]) -> int:
    depth = 0
    for position, (kind, content) in enumerate(body):
        if kind == "action":
            if content == "else" and not depth:
                return position
            depth += content.startswith(("if ", "range ")) - (content == "end")
    return len(body)
