"""Reads the files that commands take as `--config`."""

from __future__ import annotations

from pathlib import Path

from pybrix.base.errors import UsageError


def read_config(config_file: Path | None, otherwise: str) -> tuple[str, str]:
    """Return the text of a configuration and what errors call it; no text and `otherwise` where there is no file.

    Raises:
        UsageError: the file cannot be read.
    """
    if config_file is None:
        return "", otherwise
    try:
        return config_file.read_text(encoding="utf-8"), str(config_file)
    except (OSError, UnicodeDecodeError) as err:
        raise UsageError(f"configuration: {err}") from err
