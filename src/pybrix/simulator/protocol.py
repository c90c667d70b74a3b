"""Requests as vLLM accepts them and answers as vLLM writes them. Pure: bytes in, bytes out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, TypeVar

import msgspec

from pybrix.engine.errors import ErrorBody, ErrorEnvelope
from pybrix.engine.openai import (
    AssistantMessage,
    ChatChoice,
    ChatCompletion,
    ChatCompletionRequest,
    Completion,
    CompletionChoice,
    CompletionRequest,
    Message,
    ModelCard,
    ModelList,
    PromptTokensDetails,
    Usage,
)
from pybrix.engine.sse import DONE_EVENT, render_event
from pybrix.simulator import tokens
from pybrix.simulator.lora import Adapter
from pybrix.simulator.options import SimulatorOptions
from pybrix.simulator.text import cut_at_stop, write_answer

_ERROR_TYPES = {
    400: "BadRequestError",
    404: "NotFoundError",
    405: "MethodNotAllowed",
    500: "InternalServerError",
    503: "ServiceUnavailableError",
}
# vLLM's default for completions; chat goes on to the end of the context.
_COMPLETION_MAX_TOKENS = 16

R = TypeVar("R")

FindAdapter = Callable[[str], Adapter | None]
"""Returns the loaded adapter of a name."""


def no_adapter(_: str) -> Adapter | None:
    """Find none: an engine without adapters."""
    return None


class RequestError(Exception):
    """A request that is refused, with the status and the parts of vLLM's error body."""

    def __init__(self, status: int, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param


class TokenizeRequest(msgspec.Struct, frozen=True):
    """Body of `POST /tokenize`: a prompt, or messages."""

    prompt: str | None = None
    messages: list[Message] | None = None
    model: str | None = None
    return_token_strs: bool | None = False


class DetokenizeRequest(msgspec.Struct, frozen=True):
    tokens: list[int]
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """A valid request, ready for the engine."""

    is_chat: bool
    is_streamed: bool
    include_usage: bool
    continuous_usage: bool
    model: str
    prompt: bytes
    text: str
    """The whole answer; its tokens are `output`."""
    output: bytes
    finish_reason: str
    stop_reason: str | None
    cache_salt: str
    adapter: Adapter | None = None
    """The adapter that the request named; None for the base model."""


def parse_body(body: bytes, kind: type[R]) -> R:
    """Decode a JSON body.

    Raises:
        RequestError: 400, as FastAPI's validation does in vLLM.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as err:
        raise RequestError(400, f"Invalid request body: {err}") from err
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        raise RequestError(400, f"The body is not JSON: {err}") from err


def find_model(name: str | None, options: SimulatorOptions, find: FindAdapter) -> Adapter | None:
    """Return the adapter of a name, None for the base model, which comes first; no name means the base model.

    Raises:
        RequestError: 404, nothing of that name is served here.
    """
    if not name or name in options.served_model_names:
        return None
    adapter = find(name)
    if adapter is None:
        raise RequestError(404, f"The model `{name}` does not exist.", "model")
    return adapter


def plan_chat(request: ChatCompletionRequest, options: SimulatorOptions, find: FindAdapter = no_adapter) -> Work:
    """Validate a chat request and write its answer.

    Raises:
        RequestError: it is refused.
    """
    adapter = find_model(request.model, options, find)
    if not request.messages:
        raise RequestError(400, "messages must not be empty", "messages")
    prompt = tokens.encode_chat((message.role, message.text) for message in request.messages)
    limit = request.max_completion_tokens if request.max_completion_tokens is not None else request.max_tokens
    return _plan(request, options, prompt, limit, adapter, is_chat=True, what="messages")


def plan_completion(request: CompletionRequest, options: SimulatorOptions, find: FindAdapter = no_adapter) -> Work:
    """Validate a completion request and write its answer.

    Raises:
        RequestError: it is refused.
    """
    adapter = find_model(request.model, options, find)
    if request.echo:
        raise RequestError(400, "The simulator does not echo prompts.", "echo")
    limit = _COMPLETION_MAX_TOKENS if request.max_tokens is None else request.max_tokens
    prompt = _prompt_tokens(request.prompt)
    return _plan(request, options, prompt, limit, adapter, is_chat=False, what="prompt")


def _prompt_tokens(prompt: str | Sequence[str | int | list[int]]) -> bytes:
    if isinstance(prompt, str):
        return tokens.encode(prompt)
    ids = [part for part in prompt if isinstance(part, int)]
    if len(ids) == len(prompt):
        try:
            return tokens.from_ids(ids)
        except ValueError as err:
            raise RequestError(400, str(err), "prompt") from err
    if len(prompt) > 1 or isinstance(prompt[0], int):
        raise RequestError(400, "The simulator takes one prompt per request.", "prompt")
    return _prompt_tokens(prompt[0])


def _plan(
    request: ChatCompletionRequest | CompletionRequest,
    options: SimulatorOptions,
    prompt: bytes,
    limit: int | None,
    adapter: Adapter | None,
    *,
    is_chat: bool,
    what: str,
) -> Work:
    if request.n not in (None, 1):
        raise RequestError(400, "The simulator gives one choice per request (n=1).", "n")
    if request.logprobs not in (None, False):
        raise RequestError(400, "The simulator has no log probabilities.", "logprobs")
    if request.stream_options is not None and not request.stream:
        raise RequestError(400, "Stream options can only be defined when `stream=True`.", "stream_options")
    num_prompt = tokens.count(prompt)
    if not num_prompt:
        raise RequestError(400, "The prompt must not be empty.", what)
    room = options.max_model_len - num_prompt
    if room < 1 or (limit is not None and limit > room):
        wanted = "" if room < 1 else f" and {limit} in the completion"
        raise RequestError(
            400,
            f"This model's maximum context length is {options.max_model_len} tokens. However, you requested "
            f"{num_prompt} tokens in the {what}{wanted}. Please reduce the length of the {what}.",
            what,
        )
    if limit is not None and limit < 1:
        raise RequestError(400, f"max_tokens must be at least 1, got {limit}.", "max_tokens")
    max_tokens = room if limit is None else limit
    seed = options.seed if request.seed is None else request.seed
    if adapter is not None:
        # Other weights say other things; the same files say the same in every engine.
        seed += int.from_bytes(blake2b(adapter.path.encode(), digest_size=8).digest(), "little")
    text, is_cut = write_answer(
        prompt,
        seed % 2**64,
        # An answer without an end and without a limit would fill the context; nobody asks for that on purpose.
        max_tokens if limit is not None or not request.ignore_eos else min(max_tokens, 1024),
        min_tokens=request.min_tokens or 0,
        is_endless=bool(request.ignore_eos),
    )
    text, stop_reason = cut_at_stop(text, request.stops)
    # A stop string at the very start still took a token to see.
    output = tokens.encode(text) or tokens.encode(" ")
    stream_options = request.stream_options
    return Work(
        is_chat=is_chat,
        is_streamed=bool(request.stream),
        include_usage=stream_options is not None and stream_options.include_usage,
        continuous_usage=stream_options is not None and stream_options.continuous_usage_stats,
        model=request.model or options.served_model_names[0],
        prompt=prompt,
        text=text,
        output=output,
        finish_reason="length" if is_cut and stop_reason is None else "stop",
        stop_reason=stop_reason,
        cache_salt=request.cache_salt or "",
        adapter=adapter,
    )


def usage_of(num_prompt: int, num_completion: int, num_cached: int) -> Usage:
    """Count a request's tokens."""
    return Usage(
        prompt_tokens=num_prompt,
        total_tokens=num_prompt + num_completion,
        completion_tokens=num_completion,
        prompt_tokens_details=PromptTokensDetails(num_cached),
    )


def render_answer(work: Work, request_id: str, created_s: int, usage: Usage) -> bytes:
    """Render the answer to a request without streaming."""
    if work.is_chat:
        choice = ChatChoice(
            message=AssistantMessage(content=work.text),
            finish_reason=work.finish_reason,
            stop_reason=work.stop_reason,
        )
        return msgspec.json.encode(
            ChatCompletion(id=request_id, created=created_s, model=work.model, choices=[choice], usage=usage)
        )
    text_choice = CompletionChoice(text=work.text, finish_reason=work.finish_reason, stop_reason=work.stop_reason)
    return msgspec.json.encode(
        Completion(id=request_id, created=created_s, model=work.model, choices=[text_choice], usage=usage)
    )


class StreamRenderer:
    """Render the events of one stream; all that stays the same is rendered once."""

    def __init__(self, work: Work, request_id: str, created_s: int) -> None:
        self._work = work
        kind = "chat.completion.chunk" if work.is_chat else "text_completion"
        head = {"id": request_id, "object": kind, "created": created_s, "model": work.model}
        self._head = b"data: " + msgspec.json.encode(head)[:-1] + b',"choices":['
        self._before = b'{"index":0,"delta":{"content":' if work.is_chat else b'{"index":0,"text":'
        self._after = (b"}" if work.is_chat else b"") + b',"logprobs":null,"finish_reason":'

    def start(self, usage: Usage) -> bytes:
        """Render what comes before the first token: the role, in a chat."""
        if not self._work.is_chat:
            return b""
        role = b'{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}'
        return self._head + role + b"]" + self._usage_part(usage) + b"}\n\n"

    def token(self, index: int, usage: Usage | None) -> bytes:
        """Render one token; the last one carries the reason why it is the last. `usage` as `continuous_usage` asks."""
        work = self._work
        at = index * tokens.TOKEN_BYTES
        # The tokens of an answer are ASCII, so that four bytes are four characters.
        piece = msgspec.json.encode(work.text[at : at + tokens.TOKEN_BYTES])
        is_last = at + tokens.TOKEN_BYTES >= len(work.output)
        if is_last:
            reasons = msgspec.json.encode((work.finish_reason, work.stop_reason))[1:-1]
            end = reasons.replace(b",", b',"stop_reason":', 1)
        else:
            end = b"null"
        parts = (self._head, self._before, piece, self._after, end, b"}]", self._usage_part(usage), b"}\n\n")
        return b"".join(parts)

    def end(self, usage: Usage) -> bytes:
        """Render what comes after the last token."""
        if not self._work.include_usage:
            return DONE_EVENT
        return self._head + b'],"usage":' + msgspec.json.encode(usage) + b"}\n\n" + DONE_EVENT

    def _usage_part(self, usage: Usage | None) -> bytes:
        if usage is None or not self._work.continuous_usage:
            return b""
        return b',"usage":' + msgspec.json.encode(usage)


def render_error(status: int, message: str, param: str | None = None) -> bytes:
    """Render an error as vLLM does: `type` is the exception's name, `code` repeats the status."""
    kind = _ERROR_TYPES.get(status, "InternalServerError")
    return msgspec.json.encode(ErrorEnvelope(ErrorBody(message, kind, status, param)))


def render_stream_error(status: int, message: str) -> bytes:
    """Render an error that happens after a stream's headers were sent."""
    return render_event(render_error(status, message)) + DONE_EVENT


def render_models(options: SimulatorOptions, created_s: int, adapters: Iterable[Adapter] = ()) -> bytes:
    """Render `GET /v1/models`: the served names, then the adapters, which have a parent."""
    root = options.root or options.served_model_names[0]
    cards = [
        ModelCard(id=name, created=created_s, root=root, max_model_len=options.max_model_len)
        for name in options.served_model_names
    ]
    parent = options.served_model_names[0]
    cards += [ModelCard(id=adapter.name, created=created_s, root=adapter.path, parent=parent) for adapter in adapters]
    return msgspec.json.encode(ModelList(data=cards))


def render_tokenize(request: TokenizeRequest, options: SimulatorOptions, find: FindAdapter = no_adapter) -> bytes:
    """Answer `POST /tokenize`.

    Raises:
        RequestError: neither prompt nor messages, or an unknown model.
    """
    find_model(request.model, options, find)
    if request.messages is not None:
        encoded = tokens.encode_chat((message.role, message.text) for message in request.messages)
    elif request.prompt is not None:
        encoded = tokens.encode(request.prompt)
    else:
        raise RequestError(400, "Either prompt or messages must be given.", "prompt")
    answer: dict[str, Any] = {
        "count": tokens.count(encoded),
        "max_model_len": options.max_model_len,
        "tokens": tokens.to_ids(encoded),
        "token_strs": _token_strings(encoded) if request.return_token_strs else None,
    }
    return msgspec.json.encode(answer)


def render_detokenize(request: DetokenizeRequest, options: SimulatorOptions, find: FindAdapter = no_adapter) -> bytes:
    """Answer `POST /detokenize`.

    Raises:
        RequestError: a token that does not exist, or an unknown model.
    """
    find_model(request.model, options, find)
    try:
        return msgspec.json.encode({"prompt": tokens.decode(tokens.from_ids(request.tokens))})
    except ValueError as err:
        raise RequestError(400, str(err), "tokens") from err


def _token_strings(encoded: bytes) -> Sequence[str]:
    size = tokens.TOKEN_BYTES
    return [tokens.decode(encoded[at : at + size]) for at in range(0, len(encoded), size)]
