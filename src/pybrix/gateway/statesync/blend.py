"""Put what other gateways say into the tables that strategies read: sums by endpoint, model, user. Pure.

Strategies read one number, of all gateways together; what it costs to add up is paid when a message comes. Sums are
made anew from what every instance said last, so that nothing is counted twice however it came. Endpoints that are in no
view here are left out until they are.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping

from pybrix.gateway.framework.types import EndpointId
from pybrix.gateway.indexes.learnt import LearntModel, LearntRates, Sums, fade
from pybrix.gateway.indexes.load import NO_SHARE, LoadTable, Share
from pybrix.gateway.indexes.tokenhistory import Tokens
from pybrix.gateway.indexes.usertokens import TAU_S as USER_TAU_S
from pybrix.gateway.scheduling.registry import Indexes
from pybrix.gateway.statesync.peers import Changes, Flow, ModelName, Peer, Peers, UserName
from pybrix.gateway.statesync.wire import MAX_BLOCKS, MODEL_WIDTH, RATE_WIDTH, Message, unpack_blocks
from pybrix.gateway.view.facts import ModelKey

FRESH_S = 2.0
"""Tokens that were routed longer ago than that are no news: most of them are prefilled."""
MAX_EARLY_ENDPOINTS = 64
"""Endpoints that others know first, whose blocks are kept until this gateway knows them."""
_LEARNT = len(LearntRates.SUMS)


class Blend:
    """
    Args:
        sizes: of requests, by model.
    """

    def __init__(
        self, peers: Peers, *, loads: LoadTable, indexes: Indexes, sizes: MutableMapping[ModelKey, LearntModel]
    ) -> None:
        self._peers = peers
        self._loads = loads
        self._indexes = indexes
        self._sizes = sizes
        self._live: frozenset[EndpointId] = frozenset()
        self._models: frozenset[ModelKey] = frozenset()
        self._users: dict[UserName, tuple[float, float]] = {}
        """What others served by user, as it is counted here, and when it was that."""
        self._early: dict[EndpointId, list[int]] = {}

    def follow(self, live: Iterable[EndpointId], models: Iterable[ModelKey], now_s: float) -> None:
        """Take in which endpoints and models there are now."""
        before, self._live = self._live, frozenset(live)
        known, self._models = self._models, frozenset(models)
        for gone in before - self._live:
            if self._loads.of(gone).elsewhere is not NO_SHARE:
                self._loads.set_elsewhere(gone, NO_SHARE)
        for new in self._live - before:
            self._add_loads(new)
            self._add_rates(new, now_s)
            if early := self._early.pop(new, None):
                self._indexes.prefix.absorb(new, early)
        for model in self._models - known:
            self._add_sizes((model.namespace, model.model), now_s)

    def apply(self, changes: Changes, now_s: float, age_s: float = 0.0) -> None:
        """Take in what is new; `age_s` is how long ago it was said."""
        live = self._live
        for endpoint in changes.loads & live:
            self._add_loads(endpoint)
        for flow in changes.flows:
            if flow.endpoint in live:
                self._add_flow(flow, now_s, age_s)
        for endpoint in changes.rates & live:
            self._add_rates(endpoint, now_s)
        for model in changes.models:
            self._add_sizes(model, now_s)
        for user in changes.users:
            self._add_user(user, now_s)

    def recount(self, turned: Iterable[Peer]) -> None:
        """Add up loads anew where instances came or went."""
        for peer in turned:
            for endpoint in peer.loads:
                if endpoint in self._live:
                    self._add_loads(endpoint)

    def forget(self, peer: Peer, now_s: float) -> None:
        """Add up anew without an instance that is no longer among the peers."""
        self.apply(Changes(set(peer.loads), [], set(peer.rates), set(peer.models), set(peer.users)), now_s)

    def note_capacities(self, message: Message) -> None:
        """Take in how many blocks endpoints can hold of which that is not known here."""
        prefix = self._indexes.prefix
        known = dict(prefix.capacities())
        for place, capacity in message.capacities:
            endpoint = message.endpoint(place)
            if endpoint in self._live and endpoint not in known:
                prefix.size(endpoint, capacity)

    def absorb(self, message: Message, place: int) -> None:
        """Take in blocks of prompts, by their place among those of the message."""
        position, data = message.blocks[place]
        endpoint = message.endpoint(position)
        if endpoint in self._live:
            self._indexes.prefix.absorb(endpoint, unpack_blocks(data))
        elif endpoint in self._early or len(self._early) < MAX_EARLY_ENDPOINTS:
            kept = self._early.setdefault(endpoint, [])
            kept += unpack_blocks(data)
            del kept[:-MAX_BLOCKS]

    def drop_early(self) -> None:
        """Forget blocks of endpoints that did not come."""
        self._early.clear()

    def divergence(self, message: Message) -> float:
        """Return how far an instance's view of loads is from this one's: the differences over all that is in flight."""
        theirs = {message.endpoint(place): count for place, count in message.totals}
        ours = {endpoint: load.requests for endpoint, load in self._loads if load.requests}
        keys = (theirs.keys() | ours.keys()) & self._live
        differences = sum(abs(theirs.get(key, 0) - ours.get(key, 0)) for key in keys)
        return differences / max(1, sum(ours.get(key, 0) for key in keys))

    def _add_loads(self, endpoint: EndpointId) -> None:
        sums = (0, 0, 0, 0)
        for peer in self._peers:
            if peer.is_counted and (values := peer.loads.values(endpoint)) is not None:
                sums = tuple(map(int.__add__, sums, map(int, values)))  # type: ignore[assignment]
        share = Share(*sums) if any(sums) else NO_SHARE
        if share != self._loads.of(endpoint).elsewhere:
            self._loads.set_elsewhere(endpoint, share)

    def _add_flow(self, flow: Flow, now_s: float, age_s: float) -> None:
        backlogs, history, now = self._indexes.backlogs, self._indexes.history, flow.after
        if flow.before is None or age_s > FRESH_S:
            # Nobody can say what of it is new, or it is not: begin with what that instance knows of everyone's.
            if now[4] and age_s <= FRESH_S:
                backlogs.adopt(flow.endpoint, now[4], now_s)
            history.adopt(flow.endpoint, Tokens(int(now[5]), int(now[6]), int(now[7])), now_s)
            return
        tokens, prompt, cached, decode = [int(a - b) for a, b in zip(now[:4], flow.before[:4], strict=True)]
        if tokens:
            backlogs.add_elsewhere(flow.endpoint, tokens, now_s)
        if prompt or cached or decode:
            history.add_elsewhere(flow.endpoint, Tokens(prompt, cached, decode), now_s)

    def _add_rates(self, endpoint: EndpointId, now_s: float) -> None:
        sums = self._faded(endpoint, "rates", RATE_WIDTH, now_s)
        if sums is None:
            if endpoint not in self._loads:
                return
            sums = (0.0,) * RATE_WIDTH
        entry = self._loads.entry(endpoint)
        entry.learnt.set_elsewhere(sums[:_LEARNT], now_s)
        if sums[-1] or endpoint in self._indexes.backlogs:
            self._indexes.backlogs.set_rate_elsewhere(endpoint, sums[_LEARNT:], now_s)

    def _add_sizes(self, model: ModelName, now_s: float) -> None:
        key = ModelKey(*model)
        sums = self._faded(model, "models", MODEL_WIDTH, now_s)
        if sums is None or key not in self._models:
            return
        sizes = self._sizes.get(key)
        if sizes is None:
            sizes = self._sizes[key] = LearntModel()
        sizes.set_elsewhere(sums, now_s)

    def _faded(self, key: EndpointId | ModelName, kind: str, width: int, now_s: float) -> Sums | None:
        """Return the sum of what all others learnt; None when no instance says anything."""
        sums: Sums | None = None
        for peer in self._peers:
            values = getattr(peer, kind).values(key)
            if values is not None:
                mine = fade(values, max(0.0, now_s - peer.made_s.get(key, now_s)))
                sums = mine if sums is None else tuple(map(float.__add__, sums, mine))
        return sums

    def _add_user(self, user: UserName, now_s: float) -> None:
        served = 0.0
        for peer in self._peers:
            if (values := peer.users.values(user)) is not None:
                age_s = max(0.0, now_s - peer.made_s.get(user, now_s))
                served += fade(values, age_s, USER_TAU_S)[0]
        before, at_s = self._users.pop(user, (0.0, now_s))
        (left,) = fade((before,), now_s - at_s, USER_TAU_S)
        if served:
            self._users[user] = (served, now_s)
        namespace, model, name = user
        self._indexes.users.shift((namespace, model), name, served - left, now_s)
