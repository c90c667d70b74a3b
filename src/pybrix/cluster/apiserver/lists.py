"""Lists: selection, pages and versions. Pure but for the store that is read.

https://kubernetes.io/docs/reference/using-api/api-concepts/#retrieving-large-results-sets-in-chunks
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any

import msgspec

from pybrix.api.identity import ObjectKey
from pybrix.cluster.apiserver.failures import (
    ListExpired,
    bad_request,
    expired,
    forbidden_field,
    invalid,
    revision_too_large,
)
from pybrix.cluster.apiserver.options import ListOptions
from pybrix.cluster.errors import HistoryGone
from pybrix.cluster.store.history import Stored
from pybrix.cluster.store.store import Store


class _Token(msgspec.Struct):
    """Where the next page starts: behind a key, in the state of a revision; 0: as it is now."""

    revision: int
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a list, and the metadata that goes with it."""

    items: list[Stored]
    metadata: dict[str, Any]


def read_page(store: Store, resource: str, namespace: str | None, options: ListOptions) -> Page:
    """Return what is selected; all pages of one list show the state of one revision.

    Raises:
        Gone: the revision of the list is no longer known.
        BadRequest, Invalid: options that do not go together.
        StatusError (504): a version from the future.
    """
    asked = int(options.resource_version or 0)
    if options.match and not options.resource_version:
        raise _forbidden("resourceVersionMatch is forbidden unless resourceVersion is provided")
    if options.continue_:
        if options.match:
            raise _forbidden("resourceVersionMatch is forbidden when continue is provided")
        if asked:
            raise bad_request("specifying resource version is not allowed when using continue")
        token = _parse(options.continue_)
        revision, after = token.revision or store.revision, ObjectKey(token.namespace, token.name)
    else:
        after = None
        if asked > store.revision:
            raise revision_too_large(asked, store.revision)
        is_exact = options.match == "Exact" or (options.limit and asked and not options.match)
        if options.match == "Exact" and asked == 0:
            raise _forbidden("resourceVersionMatch Exact is forbidden for resourceVersion 0")
        revision = asked if is_exact else store.revision
    try:
        if revision == store.revision:
            found = store.list(resource, namespace)
        else:
            found = store.list_at(resource, namespace, revision)
    except HistoryGone as err:
        if after is None:
            raise expired(str(err)) from err
        message = (
            "The provided continue parameter is too old to display a consistent list result. You can start a new list "
            "without the continue parameter, or use the continue token in this response to retrieve the remainder of "
            "the results."
        )
        raise ListExpired(message, _print(_Token(0, after.namespace, after.name))) from err
    selected = [s for s in found if (after is None or s.key > after) and options.selects(s.data)]
    metadata: dict[str, Any] = {"resourceVersion": str(revision)}
    if options.limit and len(selected) > options.limit:
        last = selected[options.limit - 1].key
        metadata["continue"] = _print(_Token(revision, last.namespace, last.name))
        if not options.labels.requirements and not options.fields.terms:
            metadata["remainingItemCount"] = len(selected) - options.limit
        selected = selected[: options.limit]
    return Page(selected, metadata)


def _forbidden(detail: str) -> Exception:
    return invalid("ListOptions", "meta.k8s.io", "", [forbidden_field("resourceVersionMatch", detail)])


def _print(token: _Token) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(token)).decode().rstrip("=")


def _parse(text: str) -> _Token:
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return msgspec.json.decode(raw, type=_Token)
    except (binascii.Error, ValueError, msgspec.DecodeError) as err:
        raise bad_request("continue key is not valid") from err
