"""Check that every relative link and anchor in the Markdown files leads somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+\s+(.+?)\s*$", re.MULTILINE)
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")


def anchor(heading: str) -> str:
    """Return the anchor that GitHub makes of a heading."""
    kept = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower())
    return kept.replace(" ", "-")


def broken_links(page: Path) -> list[str]:
    """Return a sentence for every link of a page that leads nowhere."""
    problems = []
    text = _CODE.sub("", _FENCE.sub("", page.read_text()))
    for target in _LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, fragment = target.partition("#")
        destination = (page.parent / path).resolve() if path else page
        if not destination.exists():
            problems.append(f"{page.relative_to(ROOT)}: {target} does not exist")
        elif fragment and destination.suffix == ".md":
            anchors = {anchor(h) for h in _HEADING.findall(_FENCE.sub("", destination.read_text()))}
            if fragment not in anchors:
                problems.append(f"{page.relative_to(ROOT)}: {target} names a heading that is not there")
    return problems


def main() -> int:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    pages = [ROOT / name for name in listed.stdout.split()]
    problems = [problem for page in pages for problem in broken_links(page)]
    print("\n".join(problems) if problems else f"docs links: ok ({len(pages)} pages)")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
