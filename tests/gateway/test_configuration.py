"""A mistake in a configuration is told with its place."""

from __future__ import annotations

import pytest

from pybrix.api.config import GatewayConfiguration
from pybrix.api.configuration import ConfigurationError
from pybrix.gateway.configuration import parse_configuration
from pybrix.gateway.scheduling.registry import strategy_names


def test_nothing_said_means_the_defaults() -> None:
    got = parse_configuration("", "f", strategy_names())
    assert (got, got.routing_strategy) == (GatewayConfiguration(), "prefix-affinity")


def test_flags_win_over_the_file_and_unset_flags_do_not() -> None:
    got = parse_configuration(
        "port: 81\nroutingStrategy: random\n", "f", strategy_names(), {"port": 82, "address": None}
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
        pytest.param(
            "routingStrategy: best", "there is no strategy 'best': valid.*least-request", id="an unknown strategy"
        ),
        pytest.param("routingStrategy: randm", r"did you mean random\?$", id="a misspelt strategy"),
        pytest.param(
            "routingStrategy: 'random,slo:x'", "'random,slo:x' cannot be used: the weight of slo", id="a weight"
        ),
        pytest.param("tlsKeyPath: /a/k", r"\$\.tlsCertificatePath: missing", id="a key without a certificate"),
        pytest.param("tlsCertificatePath: /a/c", r"\$\.tlsKeyPath: missing", id="a certificate without a key"),
        pytest.param(
            "tlsCertificatePath: a/c\ntlsKeyPath: /a/k", r"\$\.tlsCertificatePath: 'a/c' is not", id="a relative path"
        ),
        pytest.param("tlsCertificatePath: /a/c\ntlsKeyPath: /b/k", r"\$\.tlsKeyPath: not in the", id="two directories"),
        pytest.param("kind: Pod", r"\$\.kind", id="another kind"),
        pytest.param("- a", "a list", id="a list"),
        pytest.param("a: [", "not YAML", id="broken text"),
    ],
)
def test_a_mistake_is_told_with_its_place(text: str, want: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^gateway.yaml: .*{want}"):
        parse_configuration(text, "gateway.yaml", strategy_names())


def test_a_user_api_on_a_port_wants_an_admin_token() -> None:
    with pytest.raises(ConfigurationError, match=r"\$\.identity\.adminTokenPath: missing, while usersPort is set"):
        parse_configuration("identity: {usersPort: 8090}", "gateway.yaml", strategy_names())
    text = "identity: {usersPort: 8090, adminTokenPath: /token}\nlimits: {unknownUser: '403'}\nredis: {address: 'r:1'}"
    config = parse_configuration(text, "gateway.yaml", strategy_names())
    assert (config.identity.users_port, config.limits.unknown_user, config.redis.address) == (8090, "403", "r:1")
