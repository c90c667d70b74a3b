"""What a gateway knew, on disk: what it starts from when it is started again. The documents are pure, files are below.

Two files: one small, written often, with requests in flight, loads and rates; one with the blocks of prompts. A file
that is damaged, or of a format that is not understood, is no reason not to start: everything comes again by itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, MutableMapping
from pathlib import Path
from typing import Annotated

import msgspec
import structlog
from msgspec import Meta

from pybrix.api.identity import Uid
from pybrix.gateway.errors import BadMessage
from pybrix.gateway.framework.types import Endpoint, EndpointId
from pybrix.gateway.indexes.learnt import LearntModel, LearntRates, fade
from pybrix.gateway.indexes.load import LoadTable, Weight
from pybrix.gateway.indexes.reservations import Reservations
from pybrix.gateway.indexes.tokenhistory import WINDOW_S, Tokens
from pybrix.gateway.indexes.usertokens import TAU_S as USER_TAU_S
from pybrix.gateway.scheduling.registry import Indexes
from pybrix.gateway.statesync.own import OwnState
from pybrix.gateway.statesync.wire import (
    FLOW_WIDTH,
    MAX_SNAPSHOT_BYTES,
    MODEL_WIDTH,
    RATE_WIDTH,
    Message,
    decode,
    unpack_blocks,
)
from pybrix.gateway.view.facts import ModelKey
from pybrix.gateway.view.snapshot import ClusterView

STATE_FILE = "state.msgpack"
BLOCKS_FILE = "state-blocks.msgpack"
FORMAT = 1
MAX_HELD = 200_000
_Seconds = Annotated[float, Meta(ge=0)]
_Tokens = Annotated[int, Meta(ge=0)]
_log = structlog.get_logger()

FindEndpoint = Callable[[EndpointId, str, str], Endpoint | None]
"""Returns the endpoint of an engine for a model (namespace, name), if the view has it."""


class Held(msgspec.Struct, array_like=True, frozen=True):
    """A reservation. Ages are of when the file was written."""

    id: str
    namespace: str
    model: str
    pod_uid: str
    port: int
    prompt_tokens: _Tokens
    uncached_tokens: _Tokens
    decode_tokens: _Tokens
    age_s: _Seconds
    renewal_age_s: _Seconds


class StateDocument(msgspec.Struct, frozen=True):
    """The small file. `saved_at_s` is Unix time; `state` is a message of `wire`, as a snapshot has it."""

    saved_at_s: float
    name: str
    incarnation: int
    state: bytes
    held: Annotated[list[Held], Meta(max_length=MAX_HELD)]
    format: int = FORMAT


class BlocksDocument(msgspec.Struct, frozen=True):
    """The other file: the part of a snapshot with blocks."""

    saved_at_s: float
    blocks: bytes
    format: int = FORMAT


def render_held(reservations: Reservations, now_s: float) -> list[Held]:
    """Return the reservations as the file has them."""
    return [
        Held(
            held.id,
            held.ranking[0].namespace,
            held.ranking[0].model,
            held.endpoint.id.pod_uid,
            held.endpoint.id.port,
            held.weight.prompt_tokens,
            held.weight.uncached_tokens,
            held.weight.decode_tokens,
            max(0.0, now_s - held.since_s),
            max(0.0, now_s - held.renewed_s),
        )
        for held in list(reservations)[-MAX_HELD:]
    ]


def restore_held(
    held: Iterable[Held], reservations: Reservations, find: FindEndpoint, now_s: float, age_s: float
) -> int:
    """Count requests again that were in flight, until one renewal of each is missed; return how many there are.

    Their ends may have been told while nobody listened, so each must be heard of soon to stay.
    """
    restored = []
    for each in held:
        endpoint = find(EndpointId(Uid(each.pod_uid), each.port), each.namespace, each.model)
        if endpoint is not None:
            weight = Weight(each.prompt_tokens, each.uncached_tokens, each.decode_tokens)
            restored.append((each.renewal_age_s + age_s, each.age_s + age_s, each.id, endpoint, weight))
    # Oldest renewal first, as the ledger has them.
    restored.sort(key=lambda one: -one[0])
    return sum(
        reservations.restore(key, endpoint, weight, now_s=now_s, since_s=now_s - since, renewed_s=now_s - renewed)
        for renewed, since, key, endpoint, weight in restored
    )


def endpoint_finder(view: ClusterView) -> FindEndpoint:
    """Return what finds endpoints of a view: as the model's, else as the engine's own."""
    by_id = {endpoint.id: endpoint for endpoint in view.by_host.values()}

    def find(engine: EndpointId, namespace: str, model: str) -> Endpoint | None:
        own = by_id.get(engine)
        if own is not None and own.model == model:
            return own
        found = view.models.get(ModelKey(namespace, model))
        return next((each for each in found.endpoints if each.id == engine), own) if found is not None else own

    return find


class Restorer:
    """Puts what was saved back into a brain's tables, as its own.

    Args:
        live, models: what the view has.
    """

    def __init__(
        self,
        own: OwnState,
        *,
        loads: LoadTable,
        indexes: Indexes,
        sizes: MutableMapping[ModelKey, LearntModel],
        live: frozenset[EndpointId],
        models: frozenset[ModelKey],
    ) -> None:
        self._own = own
        self._loads = loads
        self._indexes = indexes
        self._sizes = sizes
        self._live = live
        self._models = models

    def restore(self, message: Message, now_s: float, age_s: float) -> None:
        """Take in everything but blocks, as it has faded since."""
        prefix, backlogs, history = self._indexes.prefix, self._indexes.backlogs, self._indexes.history
        split = len(LearntRates.SUMS)
        for place, sums in message.rates:
            if (endpoint := message.endpoint(place)) in self._live and sums:
                faded = fade(tuple(sums[:RATE_WIDTH]), age_s)
                self._loads.entry(endpoint).learnt.restore(faded[:split], now_s)
                if faded[-1]:
                    backlogs.restore_rate(endpoint, faded[split:], now_s)
        for place, numbers in message.flows:
            if (endpoint := message.endpoint(place)) in self._live and len(numbers) >= FLOW_WIDTH:
                if left := numbers[4]:
                    backlogs.adopt(endpoint, left, now_s - age_s)
                if age_s < WINDOW_S:
                    history.adopt(endpoint, Tokens(*numbers[5:8]), now_s)
        for namespace, name, sums in message.models:
            key = ModelKey(namespace, name)
            if key in self._models and sums:
                self._sizes.setdefault(key, LearntModel()).restore(fade(tuple(sums[:MODEL_WIDTH]), age_s), now_s)
        for namespace, name, user, sums in message.users:
            if sums:
                self._own.restore_user((namespace, name), user, fade((sums[0],), age_s, USER_TAU_S)[0], now_s)
        for place, capacity in message.capacities:
            if (endpoint := message.endpoint(place)) in self._live:
                prefix.size(endpoint, capacity)

    def restore_blocks(self, message: Message, place: int) -> None:
        """Take in the blocks of one endpoint, by its place in the message."""
        position, data = message.blocks[place]
        endpoint = message.endpoint(position)
        if endpoint in self._live:
            self._indexes.prefix.absorb(endpoint, unpack_blocks(data))


_Document = StateDocument | BlocksDocument


def load_state(directory: Path) -> tuple[StateDocument, Message] | None:
    """Return what was saved; None where there is nothing that can be used."""
    document = _load(directory / STATE_FILE, StateDocument)
    if not isinstance(document, StateDocument):
        return None
    message = _message(directory / STATE_FILE, document.state)
    return (document, message) if message is not None else None


def load_blocks(directory: Path) -> Message | None:
    """Return the blocks that were saved; None where there are none that can be used."""
    document = _load(directory / BLOCKS_FILE, BlocksDocument)
    return _message(directory / BLOCKS_FILE, document.blocks) if isinstance(document, BlocksDocument) else None


def _load(path: Path, cls: type[_Document]) -> _Document | None:
    try:
        document = msgspec.msgpack.decode(path.read_bytes(), type=cls)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as err:
        _log.warning("saved state not used", path=str(path), error=str(err))
        return None
    if document.format > FORMAT:
        _log.warning("saved state not used: it is of a newer format", path=str(path), format=document.format)
        return None
    return document


def _message(path: Path, data: bytes) -> Message | None:
    try:
        return decode(data, MAX_SNAPSHOT_BYTES)
    except BadMessage as err:
        _log.warning("saved state not used", path=str(path), error=str(err))
        return None


def save(directory: Path, document: _Document) -> None:
    """Replace a file atomically. It need not survive the machine, only this process.

    Raises:
        OSError: the disk does not take it.
    """
    path = directory / (STATE_FILE if isinstance(document, StateDocument) else BLOCKS_FILE)
    beside = path.with_name(path.name + ".new")
    with open(beside, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(msgspec.msgpack.encode(document))
    os.replace(beside, path)
