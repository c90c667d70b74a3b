"""Generate docs/reference/cli.md from the commands themselves; with --check only say whether it is up to date."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click

from pybrix.cli.main import cli

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "cli.md"
HEADER = """# Command line

Generated from the commands' own help. Every command takes `--help`. Exit codes: 0 success, 1 an error that is said in
one line on standard error, 2 a wrong command line.
"""


def sections(command: click.Command, path: str) -> list[str]:
    """Return the help of a command and of its sub-commands, one Markdown section each."""
    context = click.Context(command, info_name=path, terminal_width=100, max_content_width=100)
    text = command.get_help(context)
    # Defaults below the home directory differ from machine to machine.
    text = re.sub(re.escape(str(Path.home())), "~", text)
    found = [f"## {path}\n\n```text\n{text}\n```\n"]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None and not child.hidden:
                found += sections(child, f"{path} {name}")
    return found


def main() -> int:
    page = "\n".join([HEADER, *sections(cli, "pybrix")])
    if "--check" not in sys.argv:
        PAGE.write_text(page)
        return 0
    if not PAGE.exists() or PAGE.read_text() != page:
        print(f"{PAGE.name} is out of date: run python scripts/generate_reference.py")
        return 1
    print("generated reference: ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
