"""Objects as a client wants them: whole, as a table, or their metadata alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from pybrix.api.identity import ObjectKey
from pybrix.base.clock import Clock
from pybrix.cluster.apiserver.answers import encode, json_answer, pieces_answer, raw_answer
from pybrix.cluster.apiserver.failures import bad_request
from pybrix.cluster.apiserver.lists import Page
from pybrix.cluster.apiserver.negotiation import Accepted, parse_accept
from pybrix.cluster.apiserver.records import Data, Records
from pybrix.cluster.apiserver.resources import ResourceType
from pybrix.cluster.apiserver.tables.table import INCLUDES, partial_metadata, print_table
from pybrix.cluster.store.history import Stored


class Presentation:
    """Renders what is stored for one client after the other."""

    def __init__(self, records: Records, clock: Clock) -> None:
        self._records = records
        self._clock = clock

    def object(
        self, request: web.BaseRequest, served: ResourceType, data: Data, warnings: list[str], status: int = 200
    ) -> web.Response:
        """Answer with one object in the form that the client accepts."""
        accepted = parse_accept(request.headers.get("Accept", ""))
        if data.get("kind") == "Scale" and served.kind != "Scale":
            return json_answer(data, status, warnings)
        if accepted.is_table:
            version = data["metadata"].get("resourceVersion", "")
            table = self._table(request, served, accepted, [data], {"resourceVersion": version})
            return json_answer(table, status, warnings)
        if accepted.is_metadata_only:
            return json_answer(partial_metadata(data), status, warnings)
        metadata = data["metadata"]
        key = ObjectKey(metadata.get("namespace", "") if served.is_namespaced else "", metadata.get("name", ""))
        stored = self._records.store.get(served.storage, key)
        if stored is not None and stored.data is data:
            # It has been encoded for the store.
            return raw_answer(stored.raw, status, warnings)
        return json_answer(data, status, warnings)

    async def page(self, request: web.BaseRequest, served: ResourceType, page: Page) -> web.StreamResponse:
        """Answer with a list in the form that the client accepts."""
        accepted = parse_accept(request.headers.get("Accept", ""))
        if accepted.is_table:
            views = [self._row(served, s.data) for s in page.items]
            return json_answer(self._table(request, served, accepted, views, page.metadata))
        if accepted.is_metadata_only:
            items = [partial_metadata(s.data) for s in page.items]
            kind = {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1"}
            return json_answer({**kind, "metadata": page.metadata, "items": items})
        render = self._raw(served)
        head = encode({"kind": served.kind_of_list, "apiVersion": served.api_version, "metadata": page.metadata})
        pieces = [head[:-1], b',"items":[']
        for number, stored in enumerate(page.items):
            if number:
                pieces.append(b",")
            pieces.append(render(stored))
        pieces.append(b"]}")
        return await pieces_answer(request, pieces)

    def renderer(self, request: web.BaseRequest, served: ResourceType) -> Callable[[Stored], bytes]:
        """Return what turns an object of a watch into the JSON that the client accepts."""
        accepted = parse_accept(request.headers.get("Accept", ""))
        if accepted.is_table:

            def render_row(stored: Stored) -> bytes:
                view = self._row(served, stored.data)
                return encode(self._table(request, served, accepted, [view], {"resourceVersion": str(stored.revision)}))

            return render_row
        if accepted.is_metadata_only:
            return lambda stored: encode(partial_metadata(stored.data))
        return self._raw(served)

    def _row(self, served: ResourceType, data: Data) -> Data:
        # Columns read the stored form.
        return data if served.conversion is not None else self._records.view(served, data)

    def _table(
        self, request: web.BaseRequest, served: ResourceType, accepted: Accepted, objects: list[Data], metadata: Data
    ) -> dict[str, Any]:
        include = request.query.get("includeObject", "Metadata") or "Metadata"
        if include not in INCLUDES:
            raise bad_request(f"unrecognized includeObject value: {include!r}")
        return print_table(
            served, objects, self._clock.now(), include=include, version=accepted.table_version, metadata=metadata
        )

    def _raw(self, served: ResourceType) -> Callable[[Stored], bytes]:
        def render(stored: Stored) -> bytes:
            if stored.data.get("apiVersion") == served.api_version and stored.revision > served.settled_revision:
                return stored.raw
            return encode(self._records.view(served, stored.data))

        return render
