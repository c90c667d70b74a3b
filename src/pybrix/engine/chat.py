"""Ask one question over an OpenAI API and read the answer as it comes. Blocking; for command lines."""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec

from pybrix.base.clock import Clock
from pybrix.base.errors import PybrixError, UsageError
from pybrix.engine.errors import parse_error_message
from pybrix.engine.openai import ChatCompletion, ModelList, StreamEvent, Usage
from pybrix.engine.sse import DONE, EventParser

_READ_BYTES = 64 * 1024


class ChatError(PybrixError):
    """An answer that is an error, or one that broke off.

    Args:
        status: the HTTP status, 200 when the error came after the headers.
        message: the server's own words.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(slots=True)
class Answer:
    """What came back. `headers` have lower-case names; times count from the question."""

    headers: Mapping[str, str]
    model: str = ""
    text: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    first_token_s: float | None = None
    total_s: float = 0.0


class ChatClient:
    """An OpenAI API at a base URL.

    Raises:
        UsageError: the URL is not one of HTTP.
    """

    def __init__(self, url: str, clock: Clock, *, api_key: str = "", timeout_s: float = 600.0) -> None:
        parts = urlsplit(url if "//" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"--url {url!r} is no address of a gateway", "example: http://127.0.0.1:8080")
        self.url = url
        self._clock = clock
        self._kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._address = (parts.hostname, parts.port)
        # Both http://host and http://host/v1 are what people write.
        self._prefix = parts.path.rstrip("/").removesuffix("/v1")
        self._timeout_s = timeout_s
        self._headers = {"Content-Type": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"

    def list_models(self) -> list[str]:
        """Return the names of the models that are served.

        Raises:
            ChatError: the answer is an error.
            UsageError: nobody answers.
        """
        with self._request("GET", "/v1/models", None) as response:
            try:
                return [card.id for card in msgspec.json.decode(response.read(), type=ModelList).data]
            except msgspec.MsgspecError as err:
                raise ChatError(200, f"/v1/models is no list of models: {err}") from err

    def ask(self, body: Mapping[str, object], answer: Answer) -> Iterator[str]:
        """Ask, and yield the answer's text piece by piece; `answer` holds all of it at the end.

        Raises:
            ChatError: the answer is an error, or breaks off.
            UsageError: nobody answers.
        """
        started_s = self._clock.monotonic_s()
        with self._request("POST", "/v1/chat/completions", msgspec.json.encode(body)) as response:
            answer.headers = {name.lower(): value for name, value in response.getheaders()}
            pieces = self._read_stream(response, answer) if body.get("stream") else self._read_whole(response, answer)
            for piece in pieces:
                if answer.first_token_s is None:
                    answer.first_token_s = self._clock.monotonic_s() - started_s
                answer.text += piece
                yield piece
        answer.total_s = self._clock.monotonic_s() - started_s

    def _read_whole(self, response: http.client.HTTPResponse, answer: Answer) -> Iterator[str]:
        try:
            whole = msgspec.json.decode(response.read(), type=ChatCompletion)
        except msgspec.MsgspecError as err:
            raise ChatError(200, f"the answer is no chat completion: {err}") from err
        answer.model, answer.usage = whole.model, whole.usage
        for choice in whole.choices[:1]:
            answer.finish_reason = choice.finish_reason
            yield choice.message.content or ""

    def _read_stream(self, response: http.client.HTTPResponse, answer: Answer) -> Iterator[str]:
        parser = EventParser()
        while chunk := response.read1(_READ_BYTES):
            for event in parser.feed(chunk):
                if event == DONE:
                    return
                try:
                    piece = msgspec.json.decode(event, type=StreamEvent)
                except msgspec.MsgspecError as err:
                    raise ChatError(200, f"the stream has an event that is no chunk: {err}") from err
                if piece.error is not None:
                    raise ChatError(200, piece.error.message)
                answer.model = piece.model or answer.model
                answer.usage = piece.usage or answer.usage
                for choice in piece.choices[:1]:
                    answer.finish_reason = choice.finish_reason or answer.finish_reason
                    if choice.delta.content:
                        yield choice.delta.content
        raise ChatError(200, "the stream ended without its last event")

    @contextmanager
    def _request(self, method: str, path: str, body: bytes | None) -> Iterator[http.client.HTTPResponse]:
        connection = self._kind(*self._address, timeout=self._timeout_s)
        try:
            connection.request(method, self._prefix + path, body=body, headers=self._headers)
            response = connection.getresponse()
            if response.status != 200:
                raise ChatError(response.status, parse_error_message(response.read()))
            yield response
        except ConnectionRefusedError as err:
            raise UsageError(f"nothing answers on {self.url}", "start it with `pybrix up`, or give --url") from err
        except TimeoutError as err:
            raise UsageError(
                f"{self.url} does not answer within {self._timeout_s:.0f} s", "see `pybrix status`"
            ) from err
        except http.client.IncompleteRead as err:
            raise ChatError(200, "the answer broke off") from err
        except (OSError, http.client.HTTPException) as err:
            raise UsageError(f"{self.url}: {err or type(err).__name__}", "see `pybrix status`, or give --url") from err
        finally:
            connection.close()
