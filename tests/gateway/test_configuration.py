"""A mistake in a configuration is told with its place."""

from __future__ import annotations

import pytest

from pybrix.api.config import GatewayConfiguration
from pybrix.gateway.configuration import parse_configuration
from pybrix.gateway.errors import ConfigurationError
from pybrix.gateway.scheduling.registry import build_strategies


def test_nothing_said_means_the_defaults() -> None:
    assert parse_configuration("", "f", build_strategies()) == GatewayConfiguration()


def test_flags_win_over_the_file_and_unset_flags_do_not() -> None:
    got = parse_configuration(
        "port: 81\nroutingStrategy: random\n", "f", build_strategies(), {"port": 82, "address": None}
    )
    assert (got.port, got.routing_strategy, got.address) == (82, "random", "127.0.0.1")


@pytest.mark.parametrize(
    ("text", "want"),
    [
        pytest.param("port: high", r"\$\.port", id="a word for a port"),
        pytest.param("port: 0", r"\$\.port", id="a port out of range"),
        pytest.param("drainTimeoutS: -1", r"\$\.drainTimeoutS", id="a negative time"),
        pytest.param("namespaces: [1]", r"\$\.namespaces\[", id="a number in a list of names"),
        pytest.param("prot: 80", r"\$\.prot: no such field", id="a field that is not there"),
        pytest.param("routingStrategy: best", r"\$\.routingStrategy: 'best'.*least-request", id="an unknown strategy"),
        pytest.param("kind: Pod", r"\$\.kind", id="another kind"),
        pytest.param("- a", "a list", id="a list"),
        pytest.param("a: [", "not YAML", id="broken text"),
    ],
)
def test_a_mistake_is_told_with_its_place(text: str, want: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^gateway.yaml: .*{want}"):
        parse_configuration(text, "gateway.yaml", build_strategies())
