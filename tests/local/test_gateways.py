"""What each of several gateways is told, and what cannot be asked for."""

from pathlib import Path

import msgspec
import pytest

from pybrix.api.config import (
    GatewayConfiguration,
    IdentityConfiguration,
    RedisConfiguration,
    StateSyncConfiguration,
)
from pybrix.api.configuration import ConfigurationError
from pybrix.base.clock import SystemClock
from pybrix.base.errors import UsageError
from pybrix.local.gateways import Gateways, check_configuration, configuration_of
from pybrix.local.layout import Layout
from pybrix.local.supervisor import Supervisor

CONFIG = GatewayConfiguration(address="0.0.0.0", port=8080, routing_strategy="random")
KEYS = GatewayConfiguration(identity=IdentityConfiguration(is_api_key_required=True))


def make_gateways(layout: Layout, *, has_balancer: bool) -> Gateways:
    supervisor = Supervisor(SystemClock(), lambda _: None, lambda _: None)
    return Gateways(layout, CONFIG, supervisor, None, has_balancer=has_balancer)


def test_only_the_balancer_is_reached_from_outside(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    told = configuration_of(CONFIG, layout, layout.gateway(2), 9002)
    assert (told.address, told.port, told.routing_strategy) == ("127.0.0.1", 9002, "random")
    assert told.statesync.instance == "gateway-2"
    assert told.statesync.peers_dir == str(layout.peers_dir)


def test_with_redis_gateways_need_no_directory_to_find_each_other(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    config = msgspec.structs.replace(CONFIG, redis=RedisConfiguration(address="127.0.0.1:6379"))
    assert configuration_of(config, layout, layout.gateway(1), 9001).statesync.peers_dir == ""


def test_the_first_gateway_is_where_a_single_one_has_always_been(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    first, second = layout.gateway(1), layout.gateway(2)
    assert (first.directory, first.run_dir, first.suffix) == (tmp_path / "gateway", layout.run_dir, "")
    assert (second.directory, second.suffix) == (tmp_path / "gateway-2", "-2")
    assert second.run_dir != first.run_dir


def test_run_directories_stay_short_and_apart_below_a_long_path(tmp_path: Path) -> None:
    layout = Layout(tmp_path.joinpath(*["a-rather-long-name"] * 6))
    found = [layout.gateway(number).run_dir for number in (1, 2, 16)]
    found += [layout.balancer.run_dir, layout.peers_dir]
    assert len(set(found)) == len(found)
    assert all(len(str(each / "brain-admin.sock")) <= 107 for each in found)


@pytest.mark.parametrize(
    ("config", "count", "field"),
    [
        (GatewayConfiguration(tls_certificate_path="/c/crt", tls_key_path="/c/key"), 1, "$.tlsCertificatePath"),
        (KEYS, 2, "$.identity.isApiKeyRequired"),
        (GatewayConfiguration(identity=IdentityConfiguration(users_port=9000)), 2, "$.identity.usersPort"),
        (GatewayConfiguration(statesync=StateSyncConfiguration(instance="a")), 2, "$.statesync.instance"),
        (GatewayConfiguration(statesync=StateSyncConfiguration(peers_dir="/p")), 2, "$.statesync.peersDir"),
    ],
)
def test_what_gateways_of_one_machine_cannot_have_is_refused(
    config: GatewayConfiguration, count: int, field: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        check_configuration(config, "file.yaml", count)
    assert str(refused.value).startswith(f"file.yaml: {field}: ")


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (CONFIG, 3),
        (KEYS, 1),
        (msgspec.structs.replace(KEYS, redis=RedisConfiguration(address="127.0.0.1:6379")), 3),
        (GatewayConfiguration(identity=IdentityConfiguration(users_port=9000)), 1),
        (GatewayConfiguration(statesync=StateSyncConfiguration(instance="a")), 1),
    ],
)
def test_everything_else_they_can_have(config: GatewayConfiguration, count: int) -> None:
    check_configuration(config, "file.yaml", count)


async def test_without_a_balancer_there_is_one_gateway(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--gateways 2"):
        await make_gateways(Layout(tmp_path), has_balancer=False).scale(2)


@pytest.mark.parametrize("count", [0, 17])
async def test_a_number_that_does_not_do_is_refused(tmp_path: Path, count: int) -> None:
    with pytest.raises(UsageError, match="choose 1 to 16"):
        await make_gateways(Layout(tmp_path), has_balancer=True).scale(count)
