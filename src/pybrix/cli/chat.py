"""`pybrix chat`: ask a model one question."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pybrix.cli.datadir import data_dir, data_dir_option

if TYPE_CHECKING:
    from pybrix.engine.chat import Answer, ChatError
    from pybrix.local.state import UpState

DEFAULT_URL = "http://127.0.0.1:8080"


@click.command()
@click.argument("question", nargs=-1, required=True)
@click.option("--url", envvar="PYBRIX_URL", show_envvar=True, metavar="URL",
              help=f"The gateway; that of the running `pybrix up`, else {DEFAULT_URL}.")  # fmt: skip
@click.option("--model", metavar="NAME", help="The model to ask; that of `pybrix up`, else the first of /v1/models.")
@click.option("--system", metavar="TEXT", help="System message before the question.")
@click.option("--max-tokens", type=click.IntRange(1), metavar="N", help="Longest answer.")
@click.option("--stream/--no-stream", default=True, show_default=True, help="Print the answer as it comes.")
@click.option("--api-key", envvar="PYBRIX_API_KEY", show_envvar=True, default="", help="Bearer token.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@data_dir_option
def chat(
    question: tuple[str, ...],
    url: str | None,
    model: str | None,
    system: str | None,
    max_tokens: int | None,
    stream: bool,
    api_key: str,
    output: str,
    data_dir_path: Path | None,
) -> None:
    """Ask a model one question through the gateway.

    The answer goes to stdout; which pod gave it, how it was chosen and how long it took go to stderr. A question of
    `-` is read from stdin.

    \b
    Examples:
      pybrix chat "What is an inference gateway?"
      pybrix chat --model smollm2 --max-tokens 50 --system "Answer in one sentence." "Why is the sky blue?"
      pybrix chat -o json hello
      cat notes.txt | pybrix chat -
    """
    import msgspec

    from pybrix.base.clock import SystemClock
    from pybrix.base.errors import UsageError
    from pybrix.engine.chat import Answer, ChatClient, ChatError
    from pybrix.local.layout import Layout
    from pybrix.local.leftovers import nothing_runs

    text = _from_stdin() if question == ("-",) else " ".join(question)
    if not text.strip():
        raise UsageError("the question is empty")
    if not api_key.isascii() or not api_key.isprintable():
        raise UsageError("the API key has characters that no header can carry", "give --api-key as it was created")
    installation = None if url else running_installation(data_dir(data_dir_path))
    if installation is None and url is None and data_dir_path is not None:
        raise nothing_runs(Layout(data_dir_path))
    client = ChatClient(
        url or (installation.gateway_url if installation else DEFAULT_URL), SystemClock(), api_key=api_key
    )
    answer = Answer({})
    try:
        if model is None:
            names = client.list_models()
            if not names:
                raise UsageError(f"{client.url} serves no model", "deploy one, for example `pybrix up --model smollm2`")
            # What `pybrix up` was asked for comes before what else is deployed.
            wanted = [name for name in (installation.models if installation else []) if name in names]
            model = (wanted or names)[0]
        messages = [{"role": "system", "content": system}] if system else []
        body: dict[str, object] = {"model": model, "messages": [*messages, {"role": "user", "content": text}]}
        if max_tokens is not None:
            body["max_tokens"] = max_tokens
        # As JSON the answer comes in one piece anyway.
        if stream and output == "text":
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        for piece in client.ask(body, answer):
            if output == "text":
                print(piece, end="", flush=True)
    except ChatError as err:
        if answer.text and output == "text":
            print(flush=True)
        raise UsageError(*_explain(err, client.url, bool(answer.text))) from err
    if output == "json":
        print(msgspec.json.format(msgspec.json.encode(_summary(answer)), indent=2).decode())
        return
    print(flush=True)
    print(_footer(answer), file=sys.stderr, flush=True)


def _from_stdin() -> str:
    """Return what is on stdin. Raises UsageError: that is no text."""
    from pybrix.base.errors import UsageError

    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as err:
        raise UsageError(f"stdin is no text: {err}") from err


def running_installation(root: Path) -> UpState | None:
    """Return what the `pybrix up` on this data directory says of itself; None when none runs there."""
    from pybrix.local.layout import Layout
    from pybrix.local.state import read_state

    return read_state(Layout(root))


def _explain(err: ChatError, url: str, has_begun: bool) -> tuple[str, str]:
    """Return what went wrong and what to do about it."""
    if err.status == 200:
        return err.message, "ask again" if has_begun else f"is {url} an OpenAI API?"
    remedies = {
        401: "give --api-key",
        404: f"see the names at {url}/v1/models and give one with --model",
        429: "wait a little",
        503: "see `pybrix status`",
    }
    return f"{err.status}: {err.message}", remedies.get(err.status, "")


def _summary(answer: Answer) -> dict[str, object]:
    headers = answer.headers
    return {
        "answer": answer.text,
        "model": answer.model,
        "finish_reason": answer.finish_reason,
        "usage": answer.usage,
        "pod": headers.get("target-pod"),
        "pod_address": headers.get("target-pod-ip"),
        "routing_strategy": headers.get("routing-strategy"),
        "request_id": headers.get("request-id") or headers.get("x-request-id"),
        "total_s": round(answer.total_s, 4),
    }


def _footer(answer: Answer) -> str:
    headers = answer.headers
    parts = [f"model {answer.model}"]
    if pod := headers.get("target-pod"):
        address = headers.get("target-pod-ip")
        parts.append(f"pod {pod} ({address})" if address else f"pod {pod}")
    if strategy := headers.get("routing-strategy"):
        parts.append(f"strategy {strategy}")
    if answer.usage:
        parts.append(f"{answer.usage.completion_tokens} tokens")
    if answer.first_token_s is not None:
        parts.append(f"first after {answer.first_token_s:.2f} s")
    parts.append(f"{answer.total_s:.2f} s in all")
    return "-- " + ", ".join(parts)
