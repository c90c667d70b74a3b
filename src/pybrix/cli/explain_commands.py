"""What `pybrix explain` does; imported only when it runs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import msgspec

from pybrix.base.errors import UsageError
from pybrix.cli.brain import ask_brain, pretty, running_dir
from pybrix.cli.tables import render_table
from pybrix.envoy.wire import NAMESPACE_HEADER

__all__ = ["explain_next", "explain_request", "list_requests", "request_body", "running_dir"]

Document = Mapping[str, Any]


def request_body(model: str | None) -> bytes:
    """Return the smallest request for a model."""
    return msgspec.json.encode({"model": model})


def explain_request(run_dir: Path, request_id: str, output: str) -> None:
    """Print how a request was routed and what happened after.

    Raises:
        UsageError: the brain does not have it (any more).
    """
    status, document = asyncio.run(ask_brain(run_dir, "GET", f"/debug/requests/{quote(request_id, safe='')}"))
    if status == 404:
        raise UsageError(
            f"the brain keeps no request {request_id}",
            "it may be too old, or of another gateway; `pybrix explain` lists the last ones",
        )
    click.echo(pretty(document) if output == "json" else render_request(document))


def list_requests(run_dir: Path, limit: int, output: str) -> None:
    """Print the last requests, newest first."""
    _, document = asyncio.run(ask_brain(run_dir, "GET", f"/debug/requests?limit={limit}"))
    click.echo(pretty(document) if output == "json" else render_list(document["requests"]))


def explain_next(run_dir: Path, body: bytes, namespace: str, routing_strategy: str, output: str) -> None:
    """Print where a request would go, and why; exit with 1 when it would be refused."""
    headers = {NAMESPACE_HEADER: namespace, "routing-strategy": routing_strategy}
    asked = {name: value for name, value in headers.items() if value}
    _, document = asyncio.run(ask_brain(run_dir, "POST", "/debug/explain", body, asked))
    click.echo(pretty(document) if output == "json" else render_next(document))
    if "refused" in document:
        sys.exit(1)


def render_list(requests: Sequence[Document]) -> str:
    """Return a table of requests."""
    if not requests:
        return "No request has come yet."
    head = ("REQUEST", "AT", "MODEL", "STRATEGY", "ENDPOINT", "STATE", "MS")
    rows = [
        (
            row["requestId"] or "-",
            row["at"],
            row["model"] or "-",
            row["strategy"] or "-",
            row["endpoint"] or "-",
            row["state"],
            _number(row["durationMs"], ""),
        )
        for row in requests
    ]
    return "\n".join(render_table(head, rows))


def render_request(document: Document) -> str:
    """Return what is known of one request."""
    lines = [f"Request    {document['requestId'] or '-'}, {document['at']}"]
    if "model" in document:
        lines.append(f"Model      {_model(document)}")
    candidates, excluded, outcome = document["candidates"], document["excluded"], document["outcome"]
    if "refused" in document:
        lines.append(_refused(document["refused"]))
    elif document.get("routedBy") == "envoy":
        lines.append("Routed     by Envoy, without the brain")
    elif candidates:
        best = candidates[0]
        lines.append(f"Routed     to {best['pod']} ({best['host']}), reservation {document['reservation']}")
    if document.get("isLost"):
        lines.append("Outcome    unknown: nothing more was heard of it")
    elif outcome is not None:
        lines.append(f"Outcome    {_outcome(outcome)}")
    elif "refused" not in document:
        lines.append("Outcome    none yet: it runs, or its record is on the way")
    if candidates:
        lines += ["", *_candidates(candidates)]
        if candidates[0]["why"] is None:
            lines.append("Reasons were not kept: `explain.reasonsPerS`, or the header x-pybrix-explain.")
    return "\n".join([*lines, *_excluded(excluded)])


def render_next(document: Document) -> str:
    """Return where a request would go."""
    if "refused" in document:
        return _refused(document["refused"])
    return "\n".join(
        [
            f"Model      {_model(document)}",
            f"Would go   to {document['ranking'][0]['pod']} ({document['ranking'][0]['host']})",
            "",
            *_candidates(document["ranking"]),
            *_excluded(document["excluded"]),
        ]
    )


def _model(document: Document) -> str:
    parts = [f"{document['namespace']}/{document['model']}"]
    if "strategy" in document:
        parts.append(f"strategy {document['strategy']}")
        parts.append(f"about {document['promptTokensEstimate']} prompt tokens")
    parts += [f"{name} {document[name]}" for name in ("profile", "user") if name in document]
    return ", ".join(parts)


def _refused(said: Document) -> str:
    return f"Refused    {said['status']} {said['reason']}: {said['message']}"


def _candidates(candidates: Sequence[Document]) -> list[str]:
    head = ("", "POD", "HOST", "SCORE", "WHY")
    rows = [
        (str(place), each["pod"], each["host"], f"{each['score']:.3f}", each["why"] or "-")
        for place, each in enumerate(candidates, start=1)
    ]
    return render_table(head, rows)


def _excluded(excluded: Sequence[Document]) -> list[str]:
    if not excluded:
        return []
    return ["", *render_table(("EXCLUDED", "HOST", "WHY"), [(e["pod"], e["host"], e["why"]) for e in excluded])]


def _outcome(outcome: Document) -> str:
    parts = [outcome["state"]]
    if outcome["ttftMs"] is not None:
        parts.append(f"first byte after {outcome['ttftMs']:.0f} ms")
    parts.append(f"{outcome['durationMs']:.0f} ms in all")
    if outcome["host"]:
        who = f"{outcome['pod']} ({outcome['host']})" if outcome["pod"] else outcome["host"]
        parts.append(f"answered by {who} at attempt {outcome['attempts']}")
    if outcome["promptTokens"] or outcome["completionTokens"]:
        cached = f" ({outcome['cachedTokens']} cached)" if outcome["cachedTokens"] else ""
        parts.append(f"{outcome['promptTokens']} prompt tokens{cached}, {outcome['completionTokens']} generated")
    if outcome["flags"]:
        parts.append(f"Envoy's flags {outcome['flags']}")
    return ", ".join(parts)


def _number(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.0f}{unit}"
