"""The wire side of the client that needs no connection: URLs, line splitting, failures. Pure."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import msgspec

from pybrix.api.meta import GroupVersionKind
from pybrix.kube.errors import StatusError, status_error


def resource_path(gvk: GroupVersionKind, namespace: str | None, name: str = "", subresource: str = "") -> str:
    """Return the URL path of a collection (no `name`) or an object.

    A namespace of None or "" on a namespaced kind means all namespaces, which only a collection can have.
    """
    root = f"/apis/{gvk.group}/{gvk.version}" if gvk.group else f"/api/{gvk.version}"
    parts = [root]
    if gvk.is_namespaced and namespace:
        parts.append(f"namespaces/{quote(namespace, safe='')}")
    parts.append(gvk.plural)
    parts.extend(quote(part, safe="") for part in (name, subresource) if part)
    return "/".join(parts)


class LineSplitter:
    """Cut a byte stream into lines of any length; the unfinished rest is kept in pieces and joined once."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that `chunk` completes, without their newlines; empty lines are dropped."""
        *lines, rest = chunk.split(b"\n")
        if lines:
            lines[0] = b"".join([*self._pieces, lines[0]])
            self._pieces.clear()
        if rest:
            self._pieces.append(rest)
        return [line for line in lines if line]


def failure(code: int, body: bytes, retry_after: str | None = None) -> StatusError:
    """Return the error for an answer of 400 and above, a `Status` or whatever a proxy put in its place."""
    status: dict[str, Any]
    try:
        decoded = msgspec.json.decode(body)
        status = decoded if isinstance(decoded, dict) else {"message": str(decoded)}
    except msgspec.DecodeError:
        text = body.decode(errors="replace").strip()
        status = {"message": text[:500] or f"HTTP {code} without a message"}
    if retry_after is not None and retry_after.isdigit():
        details = status.get("details")
        known = details if isinstance(details, dict) else {}
        status["details"] = {"retryAfterSeconds": int(retry_after)} | known
    return status_error(code, status)
