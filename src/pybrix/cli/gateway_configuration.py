"""Reads the configuration that the commands of `pybrix gateway` share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pybrix.api.config import GatewayConfiguration
from pybrix.cli.configfile import read_config
from pybrix.gateway.configuration import parse_configuration
from pybrix.gateway.scheduling.registry import strategy_names


def load_config(config_file: Path | None, **overrides: Any) -> GatewayConfiguration:
    """Return what a file says, the defaults without one; options of the command line come on top.

    Raises:
        UsageError: the file cannot be read, or a value does not do.
    """
    text, source = read_config(config_file, "defaults")
    return parse_configuration(text, source, strategy_names(), overrides)
