"""Wire types of the OpenAI API as inference engines speak it: the fields that pybrix reads or writes.

Unknown fields are ignored on decoding, as engines do.
"""

from __future__ import annotations

from typing import Any

import msgspec

from pybrix.engine.errors import ErrorBody


class StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool = False
    """Whether a last chunk without choices carries the usage; false."""
    continuous_usage_stats: bool = False
    """Whether every chunk carries the usage so far (a vLLM extension); false."""


class Message(msgspec.Struct, frozen=True):
    """One message of a conversation. `content` is text, or a list of parts of which the text parts count."""

    role: str
    content: str | list[dict[str, Any]] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        parts = self.content or []
        return "".join(text for part in parts if isinstance(text := part.get("text"), str))


class _GenerationRequest(msgspec.Struct, kw_only=True):
    """What both kinds of request share. An explicit null means the default, as in OpenAI's API."""

    model: str | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    min_tokens: int | None = 0
    n: int | None = 1
    stop: str | list[str] | None = None
    seed: int | None = None
    ignore_eos: bool | None = False
    cache_salt: str | None = None
    logprobs: bool | int | None = None

    @property
    def stops(self) -> list[str]:
        """The stop strings, as a list."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []


class ChatCompletionRequest(_GenerationRequest, kw_only=True):
    """Body of `POST /v1/chat/completions`."""

    messages: list[Message]
    max_completion_tokens: int | None = None


class CompletionRequest(_GenerationRequest, kw_only=True):
    """Body of `POST /v1/completions`. A prompt is text or token ids, or a list of prompts."""

    # Text, token ids, or a list of either; a list is of one kind, which a decoder cannot say.
    prompt: str | list[str | int | list[int]]
    echo: bool | None = False


class PromptTokensDetails(msgspec.Struct, frozen=True):
    cached_tokens: int = 0
    """Tokens of the prompt that the engine found in its KV cache."""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    prompt_tokens: int = 0
    total_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: PromptTokensDetails | None = None


class AssistantMessage(msgspec.Struct, frozen=True):
    role: str = "assistant"
    content: str | None = None


class ChatChoice(msgspec.Struct, frozen=True, kw_only=True):
    index: int = 0
    message: AssistantMessage
    logprobs: None = None
    finish_reason: str | None = None
    stop_reason: str | None = None


class ChatCompletion(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `POST /v1/chat/completions` without streaming."""

    id: str = ""
    object: str = "chat.completion"
    created: int = 0
    model: str = ""
    choices: list[ChatChoice]
    usage: Usage | None = None


class Delta(msgspec.Struct, frozen=True):
    role: str | None = None
    content: str | None = None


class ChunkChoice(msgspec.Struct, frozen=True, kw_only=True):
    index: int = 0
    delta: Delta = Delta()
    finish_reason: str | None = None


class ChatCompletionChunk(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a streamed chat answer; the one that carries only usage has no choices."""

    id: str = ""
    object: str = "chat.completion.chunk"
    created: int = 0
    model: str = ""
    choices: list[ChunkChoice] = []
    usage: Usage | None = None


class StreamEvent(ChatCompletionChunk, frozen=True, kw_only=True):
    """A chunk, or what an engine sends in its place when it fails after the headers."""

    error: ErrorBody | None = None


class CompletionChoice(msgspec.Struct, frozen=True, kw_only=True):
    index: int = 0
    text: str
    logprobs: None = None
    finish_reason: str | None = None
    stop_reason: str | None = None


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `POST /v1/completions`, whole or one event of a stream."""

    id: str = ""
    object: str = "text_completion"
    created: int = 0
    model: str = ""
    choices: list[CompletionChoice]
    usage: Usage | None = None


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: str = "model"
    created: int = 0
    owned_by: str = "pybrix"
    root: str | None = None
    parent: str | None = None
    max_model_len: int | None = None


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `GET /v1/models`."""

    object: str = "list"
    data: list[ModelCard]
