"""What the log of a part says of why it does not run. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

# What `cli.main` prints before an error made for people.
_FOR_PEOPLE = "pybrix: "
# The last line of a Python traceback; what a library prints of an exception looks the same.
_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(Error|Exception)(:|$)")
_ENVOY_LEVEL = re.compile(r"\[(critical|error|warning)\]")
_LEVELS = {"critical": 2, "error": 2, "warning": 1}
_CAUSES = ("error", "problem", "reason")
_KEPT_LINES = 5


class _Entry(msgspec.Struct):
    event: str
    level: str = ""
    exception: str = ""


def telling_words(lines: Iterable[str]) -> str:
    """Return the last error for people, else the last error, else the last warning, else the last lines."""
    said = [_weigh(line.strip()) for line in lines if line.strip()]
    for wanted in (3, 2, 1):
        found = [text for weight, text in said if weight == wanted]
        if found:
            return found[-1]
    return " | ".join(text for _, text in said[-_KEPT_LINES:]) or "it wrote nothing"


def _weigh(line: str) -> tuple[int, str]:
    """Return how much a line tells, and what it says to a person."""
    if line.startswith(_FOR_PEOPLE):
        return 3, line.removeprefix(_FOR_PEOPLE)
    if line.startswith("{"):
        return _weigh_entry(line)
    if _EXCEPTION.match(line):
        return 2, line
    level = _ENVOY_LEVEL.search(line)
    return (_LEVELS[level[1]], line.rpartition("] ")[2]) if level else (0, line)


def _weigh_entry(line: str) -> tuple[int, str]:
    try:
        entry = msgspec.json.decode(line, type=_Entry)
        fields = msgspec.json.decode(line, type=dict[str, object])
    except msgspec.MsgspecError:
        return 0, line
    causes = [str(fields[name]) for name in _CAUSES if fields.get(name)]
    causes += entry.exception.strip().splitlines()[-1:]
    return _LEVELS.get(entry.level, 0), ": ".join([entry.event, *causes])
