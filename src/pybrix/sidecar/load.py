"""Ask an engine over HTTP how many requests it has, and how many tokens it has computed."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

from pybrix.base.errors import UsageError
from pybrix.engine.metrics import METRIC_NAMES, Engine
from pybrix.engine.prometheus import extract_sums
from pybrix.sidecar.drain import Load


class EngineLoad:
    """The running and waiting requests of one engine, and its tokens, from its `/metrics`.

    Raises:
        UsageError: the URL is not one of HTTP.
    """

    def __init__(self, url: str, engine: Engine, api_key: str = "") -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise UsageError(f"--url {url!r} is no address of an engine", "example: http://10.0.0.7:8000")
        self._host = parts.hostname
        self._port = parts.port or 80
        self._path = parts.path.rstrip("/") + "/metrics"
        self._names = METRIC_NAMES[engine]
        self._engine = engine
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}

    def fetch(self, timeout_s: float) -> Load:
        """Return what the engine says now; an answer that says nothing is not taken for idleness."""
        connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)
        try:
            connection.request("GET", self._path, headers=self._headers)
            response = connection.getresponse()
            page = response.read()
        except ConnectionRefusedError:
            return Load(None, is_gone=True)
        except (OSError, http.client.HTTPException) as err:
            return Load(None, problem=f"{self._path}: {err or type(err).__name__}")
        finally:
            connection.close()
        if response.status != 200:
            return Load(None, problem=f"{self._path} answers {response.status}")
        names = self._names
        sums = extract_sums(page, (names.running, names.waiting, names.prompt_tokens, names.generation_tokens))
        if names.running not in sums:
            return Load(None, problem=f"no {names.running} in {self._path}: is --engine {self._engine} right?")
        requests = sums[names.running] + sums.get(names.waiting, 0.0)
        return Load(int(requests), sums.get(names.prompt_tokens, 0.0) + sums.get(names.generation_tokens, 0.0))
