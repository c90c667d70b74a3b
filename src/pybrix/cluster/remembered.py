"""Choices that a cluster keeps over restarts: what was given last counts until something else is given."""

from __future__ import annotations

import os
from pathlib import Path


def remembered_choice(file: Path, given: str | None, default: str) -> str:
    """Return the choice that counts: what is given, else that of the last run, else the default. It is remembered."""
    last = file.read_text().strip() if file.exists() else None
    text = given if given is not None else default if last is None else last
    if text != last:
        # In one step: a file that a kill left empty would be another choice.
        temporary = file.with_name(f".{file.name}.tmp")
        temporary.write_text(f"{text}\n")
        os.replace(temporary, file)
    return text
