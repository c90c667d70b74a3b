"""The message by which gateways tell each other what they know. Pure; whatever arrives is read with bounds.

A message is a msgpack map with short keys. Numbers are of the moment at which it was made: there is no clock in it, for
nobody can trust another machine's. How old it is when it arrives, the transport knows.

Formats live side by side: a reader leaves out what it does not know (keys of the map, numbers at the end of a list) and
takes what it misses as nothing. `readable_by` is the oldest format whose readers understand the message; it only grows
when what is written means something else, which no format has needed so far.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from pybrix.api.identity import Uid
from pybrix.gateway.errors import BadMessage
from pybrix.gateway.framework.types import EndpointId
from pybrix.gateway.indexes.learnt import DecayedMean, LearntModel, LearntRates

FORMAT = 1
MAX_MESSAGE_BYTES = 128 * 1024
"""A datagram of the local transport holds so much on every Linux."""
MAX_SNAPSHOT_BYTES = 16 * 1024 * 1024
"""Of one part of a snapshot."""
MAX_ENDPOINTS = 4096
MAX_MODELS = 2048
MAX_USERS = 8192
MAX_NAME_CHARS = 253
MAX_BLOCKS = 8192
"""Blocks of prompts in one message."""
BLOCK_BYTES = 8
LOAD_WIDTH, FLOW_WIDTH, USER_WIDTH = 4, 8, 1
RATE_WIDTH = len(LearntRates.SUMS) + DecayedMean.WIDTH
MODEL_WIDTH = LearntModel.WIDTH
_MOST = 2**53
_MOST_SUM = 1e15

_Counter = Annotated[int, Meta(ge=0, le=_MOST)]
_Positive = Annotated[int, Meta(ge=1, le=_MOST)]
_Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARS)]
_Position = Annotated[int, Meta(ge=0, lt=MAX_ENDPOINTS)]
_Port = Annotated[int, Meta(ge=0, le=65535)]
_Numbers = Annotated[list[int], Meta(max_length=64)]
_Sums = Annotated[list[float], Meta(max_length=64)]
_ByEndpoint = Meta(max_length=MAX_ENDPOINTS)
_Format = Annotated[int, Meta(ge=1, le=1_000_000)]
_Instance = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._~-]{0,79}$")]


class Message(msgspec.Struct, omit_defaults=True):
    """What one instance says. Cells without numbers say that there is nothing any more.

    Positions are into `endpoints`. A longer list of numbers is of a newer format, and its end is left out.
    """

    instance: _Instance = msgspec.field(name="i")
    """Name of the instance."""
    incarnation: _Counter = msgspec.field(name="n")
    """Its incarnation, greater after every start."""
    sequence: _Counter = msgspec.field(name="s")
    """Number of the message, of its incarnation; of a snapshot, the message up to which it knows everything."""
    format: _Format = msgspec.field(name="v", default=FORMAT)
    """Format of who wrote it."""
    readable_by: _Format = msgspec.field(name="c", default=1)
    """Oldest format whose readers understand it."""
    whole: Annotated[str, Meta(max_length=16)] = msgspec.field(name="f", default="")
    """Kinds (`l`, `t`, `r`, `m`, `u`) of which the message names every key there is."""
    endpoints: Annotated[list[tuple[_Name, _Port]], _ByEndpoint] = msgspec.field(name="e", default_factory=list)
    """Endpoints that are mentioned: UID of the pod, port."""
    loads: Annotated[list[tuple[_Position, _Numbers]], _ByEndpoint] = msgspec.field(name="l", default_factory=list)
    """Loads: requests in flight, their prompt, uncached and decode tokens."""
    flows: Annotated[list[tuple[_Position, _Numbers]], _ByEndpoint] = msgspec.field(name="t", default_factory=list)
    """Flows: tokens to prefill ever routed there; prompt, cached, generated tokens ever counted there; then what the
    instance knows of everyone's: backlog now, and prompt, cached, generated tokens of the last minutes."""
    rates: Annotated[list[tuple[_Position, _Sums]], _ByEndpoint] = msgspec.field(name="r", default_factory=list)
    """Outcomes and rates: the sums of `LearntRates`, then those of the rate of prefills."""
    models: Annotated[list[tuple[_Name, _Name, _Sums]], Meta(max_length=MAX_MODELS)] = msgspec.field(
        name="m", default_factory=list
    )
    """Sizes of a model's requests, by namespace and name: the sums of `LearntModel`."""
    users: Annotated[list[tuple[_Name, _Name, _Name, _Sums]], Meta(max_length=MAX_USERS)] = msgspec.field(
        name="u", default_factory=list
    )
    """Tokens that users were served, by namespace and model: one sum, faded as in `UserTokens`."""
    blocks: Annotated[list[tuple[_Position, bytes]], _ByEndpoint] = msgspec.field(name="p", default_factory=list)
    """Blocks of prompts that an endpoint holds, 8 bytes each, little end first; the most recently used last."""
    capacities: Annotated[list[tuple[_Position, _Positive]], _ByEndpoint] = msgspec.field(
        name="k", default_factory=list
    )
    """How many blocks endpoints can hold."""
    totals: Annotated[list[tuple[_Position, _Counter]], _ByEndpoint] = msgspec.field(name="a", default_factory=list)
    """Requests in flight as the instance sees them, of all instances together: only to compare."""
    snapshot_sequence: _Counter = msgspec.field(name="w", default=0)
    """Message up to which its snapshot, which it has just written, knows everything; 0 where it wrote none."""
    is_asking: bool = msgspec.field(name="q", default=False)
    """Whether it asks everyone for a snapshot."""
    has_lost: bool = msgspec.field(name="d", default=False)
    """Whether it lost something that it should have said before: only its snapshot has it."""
    is_leaving: bool = msgspec.field(name="x", default=False)
    """Whether it says goodbye: it ends in good order."""

    def endpoint(self, position: int) -> EndpointId:
        """Return an endpoint that is mentioned."""
        uid, port = self.endpoints[position]
        return EndpointId(Uid(uid), port)


class Positions:
    """The endpoints of a message while it is written."""

    def __init__(self) -> None:
        self._places: dict[EndpointId, int] = {}

    def of(self, endpoint: EndpointId) -> int:
        """Return the endpoint's position."""
        return self._places.setdefault(endpoint, len(self._places))

    def __len__(self) -> int:
        return len(self._places)

    def table(self) -> list[tuple[str, int]]:
        """Return `Message.endpoints`."""
        return [(endpoint.pod_uid, endpoint.port) for endpoint in self._places]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """Return the bytes."""
    return _encoder.encode(message)


def decode(data: bytes, limit_bytes: int = MAX_MESSAGE_BYTES) -> Message:
    """Read a message.

    Raises:
        BadMessage: it is too large, damaged, out of bounds, or of a format that means something else.
    """
    if len(data) > limit_bytes:
        raise BadMessage(f"{len(data)} bytes, at most {limit_bytes}")
    try:
        message = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise BadMessage(str(err)) from err
    if message.readable_by > FORMAT:
        raise BadMessage(f"format {message.format} is not for readers of {FORMAT}")
    _check(message)
    return message


def _check(message: Message) -> None:
    """Check what types cannot say.

    Raises:
        BadMessage: a position without endpoint, a list that is too short, a number that is none.
    """
    count = len(message.endpoints)
    for cells in (
        *(message.loads, message.flows, message.rates),
        *(message.blocks, message.capacities, message.totals),
    ):
        if any(cell[0] >= count for cell in cells):
            raise BadMessage(f"a position beyond {count} endpoints")
    _check_numbers("loads", message.loads, LOAD_WIDTH, 0, _MOST)
    _check_numbers("flows", message.flows, FLOW_WIDTH, -_MOST, _MOST)
    _check_numbers("rates", message.rates, RATE_WIDTH, 0, _MOST_SUM)
    _check_numbers("models", message.models, MODEL_WIDTH, 0, _MOST_SUM)
    _check_numbers("users", message.users, USER_WIDTH, 0, _MOST_SUM)
    if any(len(data) % BLOCK_BYTES for _, data in message.blocks):
        raise BadMessage("blocks that are not whole")


def _check_numbers(kind: str, cells: Sequence[tuple[Any, ...]], width: int, least: float, most: float) -> None:
    for cell in cells:
        numbers = cell[-1]
        if not numbers:
            continue
        if len(numbers) < width:
            raise BadMessage(f"{kind}: {len(numbers)} numbers, not {width}")
        # In this order, for a comparison with what is no number is false.
        if not all(least <= each <= most for each in numbers[:width]):
            raise BadMessage(f"{kind}: a number out of bounds")


def pack_blocks(blocks: Iterable[int]) -> bytes:
    """Return hashes of 64 bits as `Message.blocks` has them."""
    packed = array("Q", blocks)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def unpack_blocks(data: bytes) -> list[int]:
    """Return the hashes."""
    packed = array("Q")
    packed.frombytes(data)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tolist()
