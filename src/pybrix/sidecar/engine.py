"""The one engine that the sidecar stands beside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp

from pybrix.engine.adapterclient import AdapterClient
from pybrix.engine.adapters import (
    AdapterError,
    AdapterProtocol,
    AdapterRefused,
    AdapterSource,
    AdapterTarget,
    AdapterUnsupported,
    EngineTimeout,
    EngineUnreachable,
    ServedModel,
    UnknownAdapter,
)
from pybrix.sidecar.options import EngineKind

_LARGEST_PAGE_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class EngineRules:
    """How patient the sidecar is with its engine."""

    list_deadline_s: float = 5.0
    """5."""
    load_deadline_s: float = 60.0
    """The engine reads the adapter's files; 60."""
    unload_deadline_s: float = 10.0
    """10."""
    probe_deadline_s: float = 2.0
    """For `/ready` and `/metrics`; 2."""
    attempts: int = 3
    """For an engine that cannot be reached or answers 5xx; 3."""
    first_delay_s: float = 1.0
    """Pause after the first attempt, doubled after each; 1."""


@dataclass(frozen=True, slots=True)
class EngineAnswer:
    """An answer that is handed on as it is."""

    status: int
    body: bytes
    content_type: str


class EngineAdmin:
    """Asks the engine.

    Args:
        client: sends what concerns adapters.
        session: sends the rest.
        url: the engine's.
        kind: which engine it is.
        api_key: for what nobody's request stands behind.
        rules: how patient.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        client: AdapterClient,
        session: aiohttp.ClientSession,
        url: str,
        kind: EngineKind,
        api_key: str,
        rules: EngineRules,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._client = client
        self._session = session
        self._url = url.rstrip("/")
        self._kind = kind
        self._protocol = AdapterProtocol.SGLANG if kind is EngineKind.SGLANG else AdapterProtocol.VLLM
        self._own_key = api_key
        self._rules = rules
        self._sleep = sleep

    async def list_models(self, api_key: str | None = None) -> tuple[ServedModel, ...]:
        """Return what the engine serves.

        Args:
            api_key: None for the key that worked last.

        Raises:
            AdapterError: it does not say.
        """
        key = self._own_key if api_key is None else api_key
        models = await self._client.list_models(self._target(key), deadline_s=self._rules.list_deadline_s)
        if key and not self._own_key:
            # For the look at what is loaded before something is evicted.
            self._own_key = key
        return models

    async def load(self, name: str, path: str, api_key: str) -> None:
        """Have an adapter loaded from a path, or a repository of the model hub.

        Raises:
            AdapterError: see `pybrix.engine.adapters`.
        """
        self._check_kind()
        source = AdapterSource(name, path if path.startswith("/") else f"hf://{path}")
        await self._persist(
            lambda: self._client.load(self._target(api_key), source, deadline_s=self._rules.load_deadline_s)
        )

    async def unload(self, name: str, api_key: str) -> bool:
        """Have an adapter unloaded; false when there is none of that name.

        Raises:
            AdapterError: see `pybrix.engine.adapters`.
        """
        self._check_kind()
        try:
            await self._persist(
                lambda: self._client.unload(self._target(api_key), name, deadline_s=self._rules.unload_deadline_s)
            )
        except UnknownAdapter:
            return False
        return True

    async def fetch_models_page(self, authorization: str) -> EngineAnswer:
        """Return the engine's own `/v1/models`, asked with the client's key or none.

        Raises:
            AdapterError: no answer.
        """
        headers = {"Authorization": authorization} if authorization else {}
        return await self._get("/v1/models", headers, self._rules.list_deadline_s)

    async def fetch_metrics(self, path: str) -> bytes:
        """Return the engine's page of metrics.

        Raises:
            AdapterError: it has none.
        """
        answer = await self._get(path, self._own_headers(), self._rules.probe_deadline_s)
        if answer.status != 200:
            raise AdapterRefused(f"{path} answers {answer.status}", answer.status)
        return answer.body

    async def probe(self) -> None:
        """Return when the engine says that it is well.

        Raises:
            AdapterError: it does not.
        """
        # All four have it: llama.cpp and SGLang answer 503 there until the model is loaded.
        answer = await self._get("/health", self._own_headers(), self._rules.probe_deadline_s)
        if not 200 <= answer.status < 300:
            raise AdapterRefused(f"/health answers {answer.status}", answer.status)

    def _target(self, api_key: str) -> AdapterTarget:
        return AdapterTarget(self._url, self._protocol, api_key)

    def _own_headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._own_key}"} if self._own_key else {}

    def _check_kind(self) -> None:
        if not self._kind.loads_adapters:
            raise AdapterUnsupported(f"{self._kind} loads adapters only when it starts", 501)

    async def _persist(self, ask: Callable[[], Awaitable[None]]) -> None:
        """Ask again while the engine cannot be reached, or fails without saying something final."""
        failures = 0
        while True:
            try:
                return await ask()
            except AdapterError as err:
                is_passing = isinstance(err, EngineUnreachable) or (type(err) is AdapterRefused and _is_5xx(err))
                failures += 1
                if not is_passing or failures >= self._rules.attempts:
                    raise
            await self._sleep(self._rules.first_delay_s * 2.0 ** (failures - 1))

    async def _get(self, path: str, headers: dict[str, str], deadline_s: float) -> EngineAnswer:
        try:
            async with self._session.get(
                self._url + path,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=deadline_s),
            ) as response:
                body = await response.content.read(_LARGEST_PAGE_BYTES)
                while not response.content.at_eof():
                    piece = await response.content.read(_LARGEST_PAGE_BYTES)
                    body += piece
                    if len(body) > _LARGEST_PAGE_BYTES:
                        raise AdapterRefused(f"{path} answers more than {_LARGEST_PAGE_BYTES} bytes", response.status)
                return EngineAnswer(response.status, body, response.content_type)
        except TimeoutError as err:
            raise EngineTimeout(f"{path}: no answer within {deadline_s:g} s") from err
        except (aiohttp.ClientError, OSError) as err:
            reason = err.strerror if isinstance(err, OSError) and err.strerror else type(err).__name__
            raise EngineUnreachable(f"{path}: {reason}") from err


def _is_5xx(err: AdapterError) -> bool:
    return err.status is not None and err.status >= 500
