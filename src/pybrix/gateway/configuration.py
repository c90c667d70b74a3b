"""Read a `GatewayConfiguration`: one place that decodes, checks and says where in the document a mistake is. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec
import yaml

from pybrix.api.config import API_VERSION, GatewayConfiguration
from pybrix.gateway.errors import ConfigurationError

KIND = "GatewayConfiguration"


def parse_configuration(
    text: str, source: str, strategies: Collection[str], overrides: Mapping[str, Any] | None = None
) -> GatewayConfiguration:
    """Decode YAML (or JSON) text; an empty text means all defaults.

    Args:
        source: what errors call the document.
        strategies: names that `routingStrategy` may have.
        overrides: fields by their wire name, from flags; None values are left out.

    Raises:
        ConfigurationError: with the path of the field.
    """
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as err:
        raise ConfigurationError(source, f"not YAML: {err}".replace("\n", " ")) from err
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigurationError(source, f"a {type(data).__name__}, where an object is expected")
    data = {"apiVersion": API_VERSION, "kind": KIND, **data}
    if (data["apiVersion"], data["kind"]) != (API_VERSION, KIND):
        found = f"{data['apiVersion']} {data['kind']}"
        raise ConfigurationError(source, f"$.kind: {found} is not {API_VERSION} {KIND}")
    data |= {name: value for name, value in (overrides or {}).items() if value is not None}
    known = {field.encode_name for field in msgspec.structs.fields(GatewayConfiguration)}
    if unknown := sorted(str(name) for name in data if name not in known):
        raise ConfigurationError(source, f"$.{unknown[0]}: no such field (fields: {', '.join(sorted(known))})")
    try:
        config = msgspec.convert(data, GatewayConfiguration)
    except msgspec.ValidationError as err:
        raise ConfigurationError(source, str(err)) from err
    if config.routing_strategy not in strategies:
        valid = ", ".join(sorted(strategies))
        raise ConfigurationError(source, f"$.routingStrategy: {config.routing_strategy!r} is not one of {valid}")
    return config
