"""Read a `GatewayConfiguration` and check what its types cannot say. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any

from pybrix.api.config import GatewayConfiguration
from pybrix.api.configuration import ConfigurationError, parse_document
from pybrix.gateway.scheduling.combination import parse_members


def parse_configuration(
    text: str, source: str, strategies: Collection[str], overrides: Mapping[str, Any] | None = None
) -> GatewayConfiguration:
    """Decode YAML (or JSON) text; an empty text means all defaults.

    Args:
        source: what errors call the document.
        strategies: names that `routingStrategy` may have, or combine.
        overrides: fields by their wire name, from flags; None values are left out.

    Raises:
        ConfigurationError: with the path of the field.
    """
    config = parse_document(text, source, GatewayConfiguration, overrides)
    _check_strategy(config.routing_strategy, strategies, source)
    _check_tls(config, source)
    if config.identity.users_port and not config.identity.admin_token_path:
        raise ConfigurationError(source, "$.identity.adminTokenPath: missing, while usersPort is set")
    return config


def _check_strategy(text: str, strategies: Collection[str], source: str) -> None:
    try:
        parse_members(text, strategies)
    except ValueError as err:
        names = [term.partition(":")[0].strip() for term in text.split(",")]
        near = [found for name in names if name not in strategies for found in get_close_matches(name, strategies, n=1)]
        hint = f"; did you mean {near[0]}?" if near else ""
        problem = f"there is no strategy {text!r}" if names == [text] else f"{text!r} cannot be used"
        raise ConfigurationError(source, f"$.routingStrategy: {problem}: {err}{hint}") from err


def _check_tls(config: GatewayConfiguration, source: str) -> None:
    paths = {"tlsCertificatePath": config.tls_certificate_path, "tlsKeyPath": config.tls_key_path}
    for name, path in paths.items():
        other = next(each for each in paths if each != name)
        if not path and paths[other]:
            raise ConfigurationError(source, f"$.{name}: missing, while {other} is set")
        if path and not path.startswith("/"):
            raise ConfigurationError(source, f"$.{name}: {path!r} is not an absolute path")
    # Envoy watches one directory for both: a pair that is replaced is then always read as a pair.
    if paths["tlsCertificatePath"].rpartition("/")[0] != paths["tlsKeyPath"].rpartition("/")[0]:
        raise ConfigurationError(source, "$.tlsKeyPath: not in the directory of tlsCertificatePath")
