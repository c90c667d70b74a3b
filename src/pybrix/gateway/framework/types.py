"""The words of one routing decision: endpoint, request, ranking.

Live numbers are in `signals`, what a plugin of the scheduler is in `plugins`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from pybrix.api.identity import Uid
from pybrix.api.selectors import Selector
from pybrix.gateway.framework.modelconfig import ConfigProfile


class EndpointId(NamedTuple):
    """Identity of an engine: the pod's UID and the port. A recreated pod has another one.

    A base model and its adapters on one pod are endpoints of one engine and share its id, and so all live numbers; what
    is counted by model is counted by the model's key.
    """

    pod_uid: Uid
    port: int


class Endpoint(msgspec.Struct, frozen=True):
    """A ready address of a model. `host` is `ip:port` as Envoy prints it; `pod_name` is only shown to people.

    `adapter` is the model's name where it is an adapter, which the pod serves beside its `base_model`; else "".
    `engine` is the label's word, "" when there is none. `ready_since_s` is Unix time, 0 when unknown.
    """

    id: EndpointId
    namespace: str
    model: str
    pod_name: str
    host: str
    labels: Mapping[str, str] = {}
    created_at: str = ""
    address: str = ""
    adapter: str = ""
    base_model: str = ""
    engine: str = ""
    ready_since_s: float = 0.0


class Question(msgspec.Struct, gc=False):
    """What Envoy asks: path and headers as the client sent them, the whole body. Absent headers are ""."""

    path: str
    body: bytes
    namespace: str = ""
    """`x-pybrix-namespace`"""
    strategy: str = ""
    """`routing-strategy`"""
    user: str = ""
    """`user`"""
    session_id: str = ""
    """`x-session-id`: the endpoint that an earlier answer named."""
    session_key: str = ""
    """`x-aibrix-session-key`: what stays together, in the client's words."""
    profile: str = ""
    """`config-profile`"""
    external_filter: str = ""
    """`external-filter`: a label selector."""
    key_user: str = ""
    """`x-pybrix-user`: whose API key the request had, as Envoy says."""
    request_id: str = ""
    """`x-request-id`: Envoy's own, which the client sees as `request-id`."""
    explain: str = ""
    """`x-pybrix-explain`: `1` asks for an explanation in the answer."""
    admin_token: str = ""
    """`x-pybrix-admin-token`: without the right one, no explanation."""


class InferenceRequest(msgspec.Struct, gc=False):
    """What is known of a request when it is routed. Only `chain` is worked out later, once, when it is asked for."""

    namespace: str
    model: str
    """Name that the client asked for: of a model, or of an adapter."""
    path: str
    strategy: str
    """Name by which the strategy was chosen, as the response tells it."""
    body_bytes: int
    prompt_tokens: int
    """Estimate: body bytes over the model's bytes per token, which are learnt from usage (4 before)."""
    decode_tokens: int = 0
    """Estimate of what is generated: what the model's requests generated lately, at most `max_tokens`."""
    max_tokens: int | None = None
    """`max_tokens` or its newer names; None when the client sets no limit."""
    is_stream: bool = False
    adapter: str = ""
    """`model` where that is an adapter, else ""."""
    user: str = ""
    session_id: str = ""
    session_key: str = ""
    hash_prompt: Callable[[], Sequence[int]] | None = None
    """Makes the chain; called at most once, by `chain`. It holds the body."""
    known_chain: Sequence[int] | None = None
    selector: Selector | None = None
    """Which endpoints the client wants, by their labels: `external-filter`; None for all."""
    profile: ConfigProfile | None = None
    """What the model's pods configure for requests like this one; None for nothing."""

    @property
    def requests_per_second(self) -> int:
        """Limit of the model, as its profile for this request says; 0 for none."""
        return self.profile.requests_per_second if self.profile is not None else 0

    @property
    def chain(self) -> Sequence[int]:
        """Hashes of the prompt's blocks, each made with the one before it, in the scope of this model or adapter.

        Empty for a prompt shorter than a block. See `pybrix.gateway.indexes.blocks` for what a block is.
        """
        if self.known_chain is None:
            self.known_chain = self.hash_prompt() if self.hash_prompt is not None else ()
            self.hash_prompt = None
        return self.known_chain

    def drop_body(self) -> None:
        """Let go of the body: a chain that was not asked for until now is never made."""
        self.hash_prompt = None


class Decision(msgspec.Struct, frozen=True):
    """Where a request may go, best first. `reservation` is the id under which it is counted on the first one.

    `session_id` is what the client sends to come back to that one; "" where the strategy keeps no sessions.
    """

    request: InferenceRequest
    endpoints: Sequence[Endpoint]
    reservation: str
    session_id: str = ""
    headers: Sequence[tuple[str, str]] = ()
    """What is added to the client's answer."""


class Ranked(msgspec.Struct, frozen=True):
    """An endpoint in its place, for people. `score` is in [0, 1], 1 best."""

    endpoint: Endpoint
    score: float
    why: str


class Excluded(msgspec.Struct, frozen=True):
    """An endpoint that takes no part, and why. `is_full`: it would, for a smaller request or a little later."""

    endpoint: Endpoint
    why: str
    is_full: bool = False


class Explanation(msgspec.Struct, frozen=True):
    """What a decision would be and why: all endpoints, best first, and those that filters took out."""

    request: InferenceRequest
    ranking: Sequence[Ranked]
    excluded: Sequence[Excluded] = ()
