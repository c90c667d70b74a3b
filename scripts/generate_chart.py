"""Generate the Helm chart from `src/pybrix/install`; with --check only say whether it is up to date."""

from __future__ import annotations

import sys
from pathlib import Path

from pybrix.install.chart import render_chart
from pybrix.install.rights import collect_rights

CHART = Path(__file__).resolve().parent.parent / "charts" / "pybrix"


def main() -> int:
    files = {CHART / name: text for name, text in render_chart(collect_rights()).items()}
    stale = {path for path in CHART.rglob("*") if path.is_file() and path not in files}
    if "--check" not in sys.argv:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for path in stale:
            path.unlink()
        return 0
    wrong = stale | {path for path, text in files.items() if not path.exists() or path.read_text() != text}
    if wrong:
        names = ", ".join(sorted(str(path.relative_to(CHART)) for path in wrong))
        print(f"charts/pybrix: {names} out of date: run python scripts/generate_chart.py")
        return 1
    print(f"generated chart: ok ({len(files)} files)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
