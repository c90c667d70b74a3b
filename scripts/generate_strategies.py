"""Put formulas into docs/reference/strategies.md: the docstrings of the modules that compute by them.

With --check only say whether the page is up to date. What is not between the marks of a formula is written by hand.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from pybrix.gateway.indexes import backlog, forecast, prefix
from pybrix.gateway.scheduling import combination
from pybrix.gateway.scheduling.registry import build_strategies

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "strategies.md"
SHARED = {"prefix": prefix, "backlog": backlog, "forecast": forecast, "combination": combination}
"""Modules by what their block on the page is called, besides those of strategies."""
_HEADINGS = {
    "indexes/prefix.py": ("The prefix index", "the-prefix-index"),
    "indexes/backlog.py": ("Backlogs", "backlogs"),
    "indexes/forecast.py": ("Forecasts", "forecasts"),
}
_FORMULA = re.compile(r"    |[\w.]+\([\w, ]*\)\s+= |[\w]+\s+= ")


class _NoChance:
    def random(self) -> float:
        return 0.0


def docstrings() -> dict[str, str]:
    """Return docstrings by the name of their block."""
    strategies = build_strategies(_NoChance())
    found = {name: sys.modules[type(each).__module__].__doc__ or "" for name, each in strategies.items()}
    return {**found, **{name: module.__doc__ or "" for name, module in SHARED.items()}}


def block(docstring: str) -> str:
    """Return Markdown of a docstring: formulas become code blocks, other modules links to their headings."""
    text = re.sub(r"^Strategy `[^`]+`: (.)", lambda m: m[1].upper(), docstring.strip())
    text = re.sub(r"( Pure(; time is an argument)?\.)(?=\n|$)", "", text, count=1)
    parts = []
    for paragraph in text.split("\n\n"):
        if _FORMULA.match(paragraph):
            lines = paragraph.split("\n")
            indent = min(len(line) - len(line.lstrip()) for line in lines)
            code = "\n".join(line[indent:].rstrip() for line in lines)
            for path, (heading, _) in _HEADINGS.items():
                code = code.replace(f"`{path}`", heading)
            parts.append(f"```text\n{code}\n```")
        else:
            for path, (heading, anchor) in _HEADINGS.items():
                paragraph = paragraph.replace(f"`{path}`", f"[{heading}](#{anchor})")
            parts.append(paragraph)
    return "\n\n".join(parts)


def fill(page: str) -> str:
    """Return the page with every block as the code has it.

    Raises:
        SystemExit: a strategy has no place on the page, or a place is of no strategy.
    """
    known = docstrings()
    places = set(re.findall(r"<!-- formula: (\S+) -->", page))
    if places != set(known):
        raise SystemExit(
            f"strategies.md: no place for {sorted(set(known) - places)}, unknown {sorted(places - set(known))}"
        )
    return re.sub(
        r"(<!-- formula: (\S+) -->\n).*?(<!-- end -->)",
        lambda m: f"{m[1]}\n{block(known[m[2]])}\n\n{m[3]}",
        page,
        flags=re.DOTALL,
    )


def main() -> int:
    page = PAGE.read_text()
    filled = fill(page)
    if "--check" not in sys.argv:
        PAGE.write_text(filled)
        return 0
    if page != filled:
        print(f"{PAGE.name} out of date: run python scripts/generate_strategies.py")
        return 1
    print(f"strategies: ok ({len(docstrings())} formulas)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
