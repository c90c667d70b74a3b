"""Whether an answer is right: every byte of it, and how it ends. Pure.

Of any engine it is asked that an answer is one of OpenAI's API, whole and ended in order. Of the simulator, which
always says the same to the same question, it is asked that the answer is that one.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from pybrix.bench.traffic import Request
from pybrix.engine.errors import parse_error_message
from pybrix.engine.openai import ChatCompletion, ChatCompletionRequest, StreamEvent, Usage
from pybrix.engine.sse import DONE, EventParser
from pybrix.simulator import tokens
from pybrix.simulator.options import SimulatorOptions
from pybrix.simulator.protocol import plan_chat

_FINISH_REASONS = frozenset({"stop", "length"})
_SHOWN_BYTES = 200


@dataclass(frozen=True, slots=True)
class Expected:
    """The one right answer."""

    text: str
    finish_reason: str
    completion_tokens: int


def expected_of_simulator(request: Request, seed: int = 0) -> Expected:
    """Return what every simulated engine with this seed answers."""
    body = msgspec.convert(request.body, ChatCompletionRequest)
    work = plan_chat(body, SimulatorOptions(served_model_names=(request.body["model"],), seed=seed))
    return Expected(work.text, work.finish_reason, tokens.count(work.output))


def refusal(status: int, body: bytes) -> str:
    """Say what an answer with another status than 200 says."""
    return f"status {status}: {parse_error_message(body[:4096])}"


def check_whole(body: bytes, request: Request, expected: Expected | None) -> str:
    """Return what is wrong with an answer in one piece, or nothing."""
    try:
        answer = msgspec.json.decode(body, type=ChatCompletion)
    except msgspec.MsgspecError as err:
        return f"no chat completion ({err}): {_shown(body)}"
    if len(answer.choices) != 1:
        return f"{len(answer.choices)} choices"
    choice = answer.choices[0]
    return _check(request, expected, choice.message.content or "", choice.finish_reason, answer.usage)


class StreamCheck:
    """Reads one stream, in whatever pieces it comes. A state machine without I/O."""

    def __init__(self, request: Request, expected: Expected | None) -> None:
        self._request = request
        self._expected = expected
        self._parser = EventParser()
        self.problem = ""
        self._id = ""
        self._text: list[str] = []
        self._finish_reason: str | None = None
        self._usage: Usage | None = None
        self.is_done = False
        self.events = 0
        """How many pieces of text have come."""

    def feed(self, data: bytes) -> None:
        """Take what has come."""
        for event in self._parser.feed(data):
            if self.problem:
                return
            self._take(event)

    def finish(self) -> str:
        """Return what is wrong with a stream that has ended, or nothing."""
        if self.problem:
            return self.problem
        if not self.is_done:
            return f"the stream ended after {self.events} pieces without [DONE]"
        return _check(self._request, self._expected, "".join(self._text), self._finish_reason, self._usage)

    def leave(self) -> str:
        """Return what is wrong with the part that came before the client went away, or nothing."""
        if self.problem:
            return self.problem
        text = "".join(self._text)
        if self._expected is not None and not self._expected.text.startswith(text):
            return f"another text than expected: {text[:_SHOWN_BYTES]!r}"
        return ""

    def _take(self, event: bytes) -> None:
        if self.is_done:
            self.problem = f"an event after [DONE]: {_shown(event)}"
            return
        if event == DONE:
            self.is_done = True
            return
        try:
            chunk = msgspec.json.decode(event, type=StreamEvent)
        except msgspec.MsgspecError as err:
            self.problem = f"an event that is no chunk ({err}): {_shown(event)}"
            return
        if chunk.error is not None:
            self.problem = f"an error in the stream: {chunk.error.message[:_SHOWN_BYTES]}"
            return
        if self._id and chunk.id != self._id:
            self.problem = f"a chunk of another answer: {chunk.id} in {self._id}"
            return
        self._id = chunk.id
        self._usage = chunk.usage or self._usage
        for choice in chunk.choices:
            if self._finish_reason is not None and choice.delta.content:
                self.problem = f"text after finish_reason {self._finish_reason}: {_shown(event)}"
                return
            if choice.delta.content:
                self._text.append(choice.delta.content)
                self.events += 1
            self._finish_reason = choice.finish_reason or self._finish_reason


def _check(
    request: Request, expected: Expected | None, text: str, finish_reason: str | None, usage: Usage | None
) -> str:
    if finish_reason not in _FINISH_REASONS:
        return f"finish_reason {finish_reason!r}"
    if usage is not None and usage.completion_tokens > request.body["max_tokens"]:
        return f"{usage.completion_tokens} tokens where at most {request.body['max_tokens']} were asked for"
    if expected is None:
        return "" if text else "an empty answer"
    if text != expected.text:
        at = next((i for i, (a, b) in enumerate(zip(text, expected.text, strict=False)) if a != b), len(text))
        return f"another text than expected, from character {at} of {len(expected.text)} on: {text[at : at + 80]!r}"
    if finish_reason != expected.finish_reason:
        return f"finish_reason {finish_reason!r}, not {expected.finish_reason!r}"
    if usage is None:
        return "no usage"
    if usage.completion_tokens != expected.completion_tokens:
        return f"{usage.completion_tokens} completion tokens, not {expected.completion_tokens}"
    return ""


def _shown(data: bytes) -> str:
    return repr(data[:_SHOWN_BYTES].decode(errors="replace"))
