"""Read a `ControllersConfiguration` and check what its types cannot say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pybrix.api.config import ControllersConfiguration
from pybrix.api.configuration import ConfigurationError, parse_document
from pybrix.base.errors import UsageError
from pybrix.controllers.registration import Registration
from pybrix.controllers.registry import REGISTRY, select


def parse_configuration(
    text: str,
    source: str,
    overrides: Mapping[str, Any] | None = None,
    registry: Sequence[Registration] = REGISTRY,
) -> ControllersConfiguration:
    """Decode YAML (or JSON) text; an empty text means all defaults.

    Args:
        source: what errors call the document.
        overrides: fields by their wire name, from flags, nested as in the document; None values are left out.

    Raises:
        ConfigurationError: with the path of the field.
    """
    config = parse_document(text, source, ControllersConfiguration, overrides)
    try:
        select(config.controllers, registry)
    except UsageError as err:
        raise ConfigurationError(source, f"$.{err}") from err
    names = [registration.name for registration in registry]
    if unknown := sorted(set(config.concurrency) - set(names)):
        raise ConfigurationError(
            source, f"$.concurrency.{unknown[0]}: no such controller (there are {', '.join(names)})"
        )
    if "" in config.namespaces:
        raise ConfigurationError(source, "$.namespaces: an empty name; leave the list empty to watch all namespaces")
    election = config.leader_election
    if not election.retry_period_s < election.renew_deadline_s < election.lease_duration_s:
        raise ConfigurationError(
            source,
            "$.leaderElection: retryPeriodS must be less than renewDeadlineS, and that less than leaseDurationS "
            f"({election.retry_period_s:g}, {election.renew_deadline_s:g}, {election.lease_duration_s})",
        )
    return config
