"""The gateways of an installation: one that clients reach directly, or several behind a balancer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import msgspec

from pybrix.api.config import GatewayConfiguration
from pybrix.api.configuration import ConfigurationError
from pybrix.base.errors import UsageError
from pybrix.base.ports import claim_port
from pybrix.envoy.balancer import gateways_file, render_gateways
from pybrix.local.components import balancer, brain, envoy
from pybrix.local.layout import MAX_GATEWAYS, GatewayPlace, Layout, Place
from pybrix.local.modellists import ModelList, listed_by_brain, listed_by_envoy
from pybrix.local.state import ProcessRecord, write_atomically
from pybrix.local.supervisor import Component, Supervisor

LOOPBACK = "127.0.0.1"


def configuration_of(
    config: GatewayConfiguration, layout: Layout, place: GatewayPlace, port: int
) -> GatewayConfiguration:
    """Return the configuration of one of several gateways: where the balancer finds it, how it finds the others."""
    peers_dir = "" if config.redis.address else str(layout.peers_dir)
    statesync = msgspec.structs.replace(config.statesync, instance=f"gateway-{place.number}", peers_dir=peers_dir)
    return msgspec.structs.replace(config, address=LOOPBACK, port=port, statesync=statesync)


def check_configuration(config: GatewayConfiguration, source: str, count: int) -> None:
    """Check what the gateways of one machine cannot do, or decide themselves.

    Args:
        source: what errors call the configuration.
        count: how many gateways there are to be.

    Raises:
        ConfigurationError: with the path of the field.
    """
    if config.tls_certificate_path:
        raise ConfigurationError(
            source, "$.tlsCertificatePath: `pybrix up` serves plain HTTP; TLS has `pybrix gateway envoy`, or a cluster"
        )
    if count == 1:
        return
    if config.identity.is_api_key_required and not config.redis.address:
        raise ConfigurationError(
            source, f"$.identity.isApiKeyRequired: {count} gateways share API keys in Redis; give --redis HOST:PORT"
        )
    if config.identity.users_port:
        raise ConfigurationError(
            source, f"$.identity.usersPort: {count} gateways cannot all have it; `pybrix gateway users` needs no port"
        )
    for name, value in (("instance", config.statesync.instance), ("peersDir", config.statesync.peers_dir)):
        if value:
            raise ConfigurationError(source, f"$.statesync.{name}: `pybrix up` sets this for several gateways")


class Gateways:
    """Starts and ends gateways.

    Args:
        config: of what clients connect to: the one gateway, or the balancer.
        has_balancer: whether there is one; it cannot come or go while clients are connected.
    """

    def __init__(
        self,
        layout: Layout,
        config: GatewayConfiguration,
        supervisor: Supervisor,
        envoy_path: Path | None,
        *,
        has_balancer: bool,
    ) -> None:
        self._layout = layout
        self._config = config
        self._supervisor = supervisor
        self._envoy_path = envoy_path
        self.has_balancer = has_balancer
        self._configs: dict[int, GatewayConfiguration] = {}

    @property
    def count(self) -> int:
        return len(self._configs)

    @property
    def model_lists(self) -> list[ModelList]:
        """What tells of each of them which models it serves."""
        if self._config.identity.is_api_key_required:
            sockets = [self._layout.gateway(number).brain_socket for number in self._configs]
            return [partial(listed_by_brain, socket) for socket in sockets]
        urls = [f"http://{_host(config.address)}:{config.port}" for config in self._configs.values()]
        return [partial(listed_by_envoy, url) for url in urls]

    def components(self) -> Iterator[Component]:
        """Yield what the gateways are made of: brains first, then Envoys, the balancer last."""
        for number in self._configs:
            yield brain(self._layout, self._layout.gateway(number))
        for number, config in self._configs.items():
            yield envoy(self._layout, self._layout.gateway(number), config, self._envoy_path)
        if self.has_balancer:
            yield balancer(self._layout, self._config, self._envoy_path)

    async def start(self, count: int) -> None:
        """Start so many gateways, then the balancer.

        Raises:
            UsageError: a part did not start.
        """
        for number in range(1, count + 1):
            self._prepare(number)
        try:
            async with asyncio.TaskGroup() as group:
                for number in self._configs:
                    group.create_task(self._start(number))
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from failed
        if self.has_balancer:
            self._layout.balancer.create()
            _write(self._layout.balancer.configuration, self._config)
            self._list()
            await self._supervisor.start(balancer(self._layout, self._config, self._envoy_path))

    async def adopt(self, count: int, records: Mapping[str, ProcessRecord]) -> None:
        """Watch over gateways that run already, and start what of them does not.

        Raises:
            UsageError: a part did not start, or its configuration cannot be read.
        """
        for number in range(1, count + 1):
            self._configs[number] = read_configuration(self._layout, self._layout.gateway(number))
        for component in self.components():
            await self._supervisor.adopt(component, records.get(component.name))

    async def scale(self, count: int) -> None:
        """Start or end gateways until there are `count`; the balancer sends to one only while it is ready.

        Raises:
            UsageError: there is no balancer, the number does not do, or a part did not start.
        """
        if not self.has_balancer:
            raise UsageError(
                "clients are connected to the one gateway itself",
                f"start with `{self._layout.command('up --gateways 2')}` or more",
            )
        if not 1 <= count <= MAX_GATEWAYS:
            raise UsageError(f"{count} gateways", f"choose 1 to {MAX_GATEWAYS}")
        for number in range(self.count + 1, count + 1):
            self._prepare(number)
            try:
                await self._start(number)
            except UsageError:
                await self._remove(number)
                raise
            self._list()
        for number in range(self.count, count, -1):
            await self._remove(number)

    def _prepare(self, number: int) -> None:
        place = self._layout.gateway(number)
        place.create()
        config = self._config
        if self.has_balancer:
            config = configuration_of(config, self._layout, place, self._free_port())
        _write(place.configuration, config)
        self._configs[number] = config

    async def _start(self, number: int) -> None:
        place = self._layout.gateway(number)
        await self._supervisor.start(brain(self._layout, place))
        await self._supervisor.start(envoy(self._layout, place, self._configs[number], self._envoy_path))

    async def _remove(self, number: int) -> None:
        """End a gateway of which the balancer hears first."""
        del self._configs[number]
        self._list()
        place = self._layout.gateway(number)
        for name in (f"envoy{place.suffix}", f"brain{place.suffix}"):
            if name in self._supervisor.names:
                await self._supervisor.remove(name)

    def _free_port(self) -> int:
        taken = {config.port for config in (self._config, *self._configs.values())}
        while (port := claim_port(LOOPBACK, 0, "--port")) in taken:
            pass
        return port

    def _list(self) -> None:
        """Tell the balancer which gateways there are."""
        paths = self._layout.balancer.envoy_paths
        paths.xds_dir.mkdir(parents=True, exist_ok=True)
        addresses = [(config.address, config.port) for config in self._configs.values()]
        write_atomically(gateways_file(paths), render_gateways(addresses))


def read_configuration(layout: Layout, place: Place) -> GatewayConfiguration:
    """Return the configuration that a gateway, or the balancer, runs with.

    Raises:
        UsageError: it cannot be read.
    """
    file = place.configuration
    try:
        return msgspec.json.decode(file.read_bytes(), type=GatewayConfiguration)
    except (OSError, msgspec.MsgspecError) as err:
        raise UsageError(
            f"cannot read {file}: {err}", f"stop with `{layout.command('down')}`, then start anew"
        ) from err


def _write(file: Path, config: GatewayConfiguration) -> None:
    write_atomically(file, msgspec.json.format(msgspec.json.encode(config)))


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address
