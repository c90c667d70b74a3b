"""The embedded Kubernetes API server: HTTPS on loopback over a store."""

from __future__ import annotations

import asyncio
import functools
import random
from ipaddress import IPv4Network
from typing import Any

import structlog
from aiohttp import web

import pybrix
from pybrix.base.clock import Clock
from pybrix.cluster.apiserver.access.authorizer import AllowAll, Authorizer, Rbac
from pybrix.cluster.apiserver.access.defaults import ensure_roles
from pybrix.cluster.apiserver.bootstrap import ensure_namespaces, publish_address, readdress_services
from pybrix.cluster.apiserver.catalog import Catalog
from pybrix.cluster.apiserver.execs import ExecProvider
from pybrix.cluster.apiserver.kinds.addresses import SERVICE_NETWORK
from pybrix.cluster.apiserver.logs import LogProvider
from pybrix.cluster.apiserver.objects import Objects
from pybrix.cluster.apiserver.routes import BODY_LIMIT_BYTES, Routes
from pybrix.cluster.apiserver.tokens import AccountTokens
from pybrix.cluster.errors import AddressInUse, NotLoopback
from pybrix.cluster.pki import LOOPBACK_ADDRESSES, Pki
from pybrix.cluster.store.store import Store

_log = structlog.get_logger()
# The API level whose behaviour this server follows; clients compare it with their own.
KUBERNETES_VERSION = ("1", "37")
_SHUTDOWN_S = 1.0


class ApiServer:
    """Serve a store over HTTPS. `start` returns when requests are answered, `stop` when the last one has ended.

    Args:
        store: the objects; closed by whoever opened it.
        address: a loopback address; 127.0.0.1.
        port: 0 takes a free one; see `url`.
        pki: certificates and token.
        clock: time of creation stamps and ages.
        logs: where the output of containers comes from; None refuses to read logs.
        execs: where commands in containers run; None refuses to run any.
        chance: source of uids and generated names; None takes the system's.
        bookmark_interval_s: how often an idle watch hears the current version; 10.
        service_network: the addresses that Services get; 10.96.0.0/16, where nothing listens.
        enforces_roles: whether roles and bindings decide who may do what; everyone known may do everything.
    """

    def __init__(
        self,
        store: Store,
        *,
        address: str = "127.0.0.1",
        port: int = 0,
        pki: Pki,
        clock: Clock,
        logs: LogProvider | None = None,
        execs: ExecProvider | None = None,
        chance: random.Random | None = None,
        bookmark_interval_s: float = 10.0,
        service_network: IPv4Network = SERVICE_NETWORK,
        enforces_roles: bool = False,
    ) -> None:
        if address not in LOOPBACK_ADDRESSES:
            raise NotLoopback(address)
        chance = chance or random.SystemRandom()
        self._enforces_roles = enforces_roles
        authorizer: Authorizer = Rbac(store) if enforces_roles else AllowAll()
        self.objects = Objects(
            store,
            Catalog(),
            clock=clock,
            chance=chance,
            root_ca=pki.ca_pem.decode(),
            service_network=service_network,
            authorizer=authorizer,
        )
        self._address = address
        self._port = port
        self._pki = pki
        self._clock = clock
        self._routes = Routes(
            self.objects,
            pki=pki,
            tokens=AccountTokens(pki.account_key_pem, store, clock=clock, chance=chance),
            authorizer=authorizer,
            clock=clock,
            logs=logs,
            execs=execs,
            version=version_info(),
            bookmark_interval_s=bookmark_interval_s,
        )
        self._runner: web.ServerRunner | None = None

    @property
    def url(self) -> str:
        return f"https://{self._address}:{self._port}"

    @property
    def port(self) -> int:
        """The port that is listened on; the one asked for until `start` has returned."""
        return self._port

    async def start(self) -> None:
        """Listen, and make the namespaces and the service that every cluster has.

        Raises:
            AddressInUse: the port is taken.
        """
        ensure_namespaces(self.objects)
        readdress_services(self.objects)
        if self._enforces_roles:
            ensure_roles(self.objects)
        # No application and no router: every path goes to one handler, and they took a tenth of the time.
        # A cancelled handler never leaves a write half done: writes do not wait for anything.
        server = web.Server(
            self._routes.handle,
            request_factory=functools.partial(_make_request, asyncio.get_running_loop()),
            handler_cancellation=True,
            access_log=None,
            keepalive_timeout=300,
        )
        runner = web.ServerRunner(server, shutdown_timeout=_SHUTDOWN_S)
        await runner.setup()
        site = web.TCPSite(runner, self._address, self._port, ssl_context=self._pki.server_ssl_context(), backlog=512)
        try:
            await site.start()
        except OSError as err:
            await runner.cleanup()
            raise AddressInUse(self._address, self._port, err.strerror or str(err)) from err
        self._runner = runner
        self._port = runner.addresses[0][1]
        try:
            publish_address(self.objects, self._address, self._port)
        except BaseException:
            await self.stop()
            raise
        _log.info("kubernetes api listens", url=self.url, revision=self.objects.store.revision)

    async def stop(self) -> None:
        """End the watches, answer what is under way, and close the port; idempotent."""
        runner, self._runner = self._runner, None
        if runner is not None:
            self._routes.end_watches()
            await runner.cleanup()


def _make_request(
    loop: asyncio.AbstractEventLoop, message: Any, payload: Any, protocol: Any, writer: Any, task: Any
) -> web.BaseRequest:
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=BODY_LIMIT_BYTES)


def version_info() -> dict[str, str]:
    """Return what `/version` says."""
    major, minor = KUBERNETES_VERSION
    return {
        "major": major,
        "minor": minor,
        "gitVersion": f"v{major}.{minor}.0+pybrix.{pybrix.__version__}",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "cpython",
        "platform": "linux/amd64",
    }
