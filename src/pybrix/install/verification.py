"""Check rendered configurations by the functions that the components read them with, before they reach a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pybrix.controllers.configuration import parse_configuration as parse_controllers
from pybrix.gateway.configuration import parse_configuration as parse_gateway
from pybrix.gateway.scheduling.registry import strategy_names


def check_configurations(documents: Iterable[Mapping[str, Any]]) -> None:
    """Check the configuration files in the ConfigMaps.

    Raises:
        ConfigurationError: a component would not start with its file; the message names the values it comes from.
    """
    for document in documents:
        for name, text in document.get("data", {}).items() if document["kind"] == "ConfigMap" else ():
            if name == "gateway.yaml":
                parse_gateway(text, "gateway.configuration", strategy_names())
            elif name == "controllers.yaml":
                parse_controllers(text, "controllers.configuration")
