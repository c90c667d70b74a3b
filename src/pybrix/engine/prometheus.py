"""Take a few series out of a Prometheus text page without parsing the rest of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"')
_LABELS = re.compile(rb'\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\}')
_ESCAPE = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Sample:
    """One line of a page."""

    labels: dict[str, str]
    value: float


def extract_samples(page: bytes, name: str) -> list[Sample]:
    """Return the samples of exactly this name, in the page's order; none when the page has none.

    The cost is one substring search per occurrence of the name, whatever the page's size. Lines that are no samples
    are skipped: a page that another process writes is not worth an exception.
    """
    return [Sample(_parse_labels(labels), value) for labels, value in _scan(page, name.encode())]


def extract_sums(page: bytes, names: Iterable[str]) -> dict[str, float]:
    """Return for each name that occurs the sum over its label sets; names that do not occur are absent.

    Sums are right for counts (running, waiting, tokens); of ratios use `extract_samples` and take the largest.
    """
    sums: dict[str, float] = {}
    for name in names:
        values = [value for _, value in _scan(page, name.encode())]
        if values:
            sums[name] = sum(values)
    return sums


class SeriesReader:
    """Take a fixed set of series out of pages, in one pass for all names that begin alike (`vllm:`).

    Args:
        names: exact names; those that a page lacks cost nothing.
    """

    def __init__(self, names: Iterable[str]) -> None:
        by_start: dict[str, list[str]] = {}
        for name in sorted(names):
            by_start.setdefault(re.split("(?<=[:_])", name, maxsplit=1)[0], []).append(name)
        self._lines = [_compile(start, each) for start, each in by_start.items()]

    def read(self, page: bytes) -> dict[str, list[tuple[bytes, float]]]:
        """Return label text and value of every sample, by name; names that do not occur are absent."""
        found: dict[str, list[tuple[bytes, float]]] = {}
        page = b"\n" + page
        for line in self._lines:
            for name, labels, text in line.findall(page):
                value = _parse_value(text)
                if value is not None:
                    found.setdefault(name.decode(), []).append((labels, value))
        return found


def _compile(start: str, names: Iterable[str]) -> re.Pattern[bytes]:
    # A line break and letters that all names have: the search skips from one such line to the next.
    endings = b"|".join(re.escape(name[len(start) :].encode()) for name in names)
    labels = rb'(?:\{((?:[^"}\n]|"(?:[^"\\\n]|\\[^\n])*")*)\})?'
    return re.compile(rb"\n(" + re.escape(start.encode()) + rb"(?:" + endings + rb"))" + labels + rb"[ \t]+([^\s]+)")


def parse_labels(text: bytes) -> dict[str, str]:
    """Return the labels in what stands between the braces of a sample."""
    return _parse_labels(text)


def _scan(page: bytes, name: bytes) -> Iterable[tuple[bytes, float]]:
    """Yield the raw label text and value of every sample of a name."""
    at = page.find(name)
    while at >= 0:
        end = page.find(b"\n", at)
        if end < 0:
            end = len(page)
        after = at + len(name)
        # A match counts at the start of a line and when the name ends here: `x` is not `x_total`.
        if (at == 0 or page[at - 1] == 0x0A) and page[after : after + 1] in (b"{", b" ", b"\t"):
            match = _LABELS.match(page, after, end)
            fields = page[match.end() if match else after : end].split(None, 1)
            value = _parse_value(fields[0]) if fields else None
            if value is not None:
                yield match[1] if match else b"", value
        at = page.find(name, after)


def _parse_value(text: bytes) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _parse_labels(text: bytes) -> dict[str, str]:
    pairs = _LABEL.findall(text.decode(errors="replace"))
    return {key: _ESCAPE.sub(lambda m: "\n" if m[1] == "n" else m[1], value) for key, value in pairs}
