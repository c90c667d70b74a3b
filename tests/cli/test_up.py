"""How `pybrix up` comes to the gateway's configuration. What starts is tested end to end."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from pybrix.api.config import GatewayConfiguration, RedisConfiguration
from pybrix.base.errors import UsageError
from pybrix.cli.up import _with_options, up

FILE = GatewayConfiguration(
    port=9000,
    routing_strategy="prefix-affinity:2,least-request",
    redis=RedisConfiguration(address="r:6379", database=3, username="u"),
)


def test_options_that_are_not_given_leave_the_file_as_it_is() -> None:
    assert _with_options(FILE, "", port=None, address=None, routing_strategy=None, drain_timeout_s=None) == FILE


def test_options_come_on_top_of_the_file() -> None:
    got = _with_options(FILE, "other:6380", port=0, address="0.0.0.0", routing_strategy="random", drain_timeout_s=5.0)
    assert (got.port, got.address, got.routing_strategy, got.drain_timeout_s) == (0, "0.0.0.0", "random", 5.0)
    assert got.redis == RedisConfiguration(address="other:6380", database=3, username="u")


@pytest.mark.parametrize("address", ["nonsense", "h:p", "relative/path"])
def test_an_address_of_redis_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(click.UsageError, match="HOST:PORT"):
        _with_options(FILE, address)


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("routingStrategy: randon", [], "$.routingStrategy: there is no strategy 'randon'"),
        ("identity: {isApiKeyRequired: 1}", [], "$.identity.isApiKeyRequired"),
        ("identity: {isApiKeyRequired: true}", ["--gateways", "2"], "give --redis HOST:PORT"),
        ("tlsCertificatePath: /c/crt\ntlsKeyPath: /c/key", [], "$.tlsCertificatePath: `pybrix up` serves plain HTTP"),
        (None, [], "No such file"),
    ],
)
def test_a_file_that_does_not_do_starts_nothing(
    tmp_path: Path, text: str | None, options: list[str], said: str
) -> None:
    file, data_dir = tmp_path / "gateway.yaml", tmp_path / "data"
    if text is not None:
        kind = "apiVersion: config.pybrix.ai/v1alpha1\nkind: GatewayConfiguration\n"
        file.write_text(kind + text, encoding="utf-8")
    got = CliRunner().invoke(up, ["--config", str(file), "--data-dir", str(data_dir), *options])
    assert isinstance(got.exception, UsageError)
    assert said in str(got.exception)
    assert str(file) in str(got.exception)
    assert not data_dir.exists()
