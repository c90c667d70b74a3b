"""Decide where an adapter is loaded and which pods its slices list. Pure.

settle records -> choose pods -> load and reload there -> release the others -> endpoints

Make before break: a pod that is no longer chosen keeps the adapter, and stays in the slices, until a chosen one serves.
A pod leaves the slices DRAIN_S before its engine is asked to unload, so that no gateway still sends requests there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

from pybrix.api.identity import Uid
from pybrix.api.model.v1alpha1.modeladapter import AdapterPod
from pybrix.controllers.modeladapter.placement import BY_METRICS, Candidate, Choice, Holding, choose, policy_of
from pybrix.controllers.modeladapter.records import (
    NAME_TAKEN,
    Presence,
    failed,
    is_failing,
    moved,
    presence_of,
    settle,
)
from pybrix.controllers.modeladapter.state import (
    EngineRequest,
    Observed,
    PodFacts,
    PodLoad,
    State,
    Verb,
    api_key_of,
    is_due,
    revision_of,
    seconds_until,
    source_of,
)
from pybrix.controllers.modeladapter.validation import problem_of
from pybrix.engine.adapters import AdapterError, AdapterProtocol, direct_path

DRAIN_S = 3.0
"""Between a pod's leaving the slices and its engine's unloading: gateways learn of it in well under a second."""
HOLD_S = 0.2
"""When to look again while engines are asked for the first time."""
UNREADY_GRACE_S = 5.0
"""How long a pod that has the adapter may be unready before another takes its place."""
FORGIVEN_S = 600.0
"""How long after its last retry a pod in which loading failed is avoided."""
UNLOAD_DEADLINE_S = 30.0
"""How long a deleted adapter waits for engines that do not answer."""


@dataclass(frozen=True, slots=True)
class EndpointFacts:
    """A pod that the slices list. `is_ready` False: on its way out, for want of a better one."""

    pod: PodFacts
    is_ready: bool = True


@dataclass(frozen=True, slots=True)
class Decision:
    """What one pass found and wants.

    Args:
        records: what the status says of each pod.
        requests: what engines shall do, once the status is written.
        again_s: when to look again; None: when something changes.
        unloaded: for an adapter that is deleted: nothing is left to unload, or no more time.
        leftovers: pods from which a deleted adapter could not be unloaded, each with the reason.
    """

    records: Mapping[Uid, AdapterPod]
    requests: tuple[EngineRequest, ...] = ()
    endpoints: tuple[EndpointFacts, ...] = ()
    targets: tuple[Uid, ...] = ()
    desired: int = 0
    candidates: int = 0
    matched: int = 0
    without_room: int = 0
    is_asking: bool = False
    """Whether an engine was not heard yet that may take the adapter: in a moment there will be more to say."""
    revision: str | None = None
    note: str = ""
    fallback: str = ""
    """Why this choice was not made by the policy that was asked for."""
    problem: str = ""
    again_s: float | None = None
    unloaded: bool = False
    leftovers: tuple[str, ...] = ()

    @property
    def ready(self) -> list[EndpointFacts]:
        return [e for e in self.endpoints if e.is_ready]


def plan(seen: Observed, now: datetime, *, drain_s: float = DRAIN_S) -> Decision:
    """Return what is to be done for an adapter now."""
    work = _Pass(seen, now, drain_s)
    if seen.adapter.metadata.is_terminating:
        return work.remove()
    if problem := problem_of(seen.adapter):
        # What serves goes on serving; nothing new is begun on a spec that cannot be right.
        return work.decide(Choice(()), problem=problem)
    choice = work.choose()
    work.load(choice.pods)
    work.reload(choice.pods)
    work.release(choice.pods)
    return work.decide(choice)


class _Pass:
    """The working memory of one call of `plan`."""

    def __init__(self, seen: Observed, now: datetime, drain_s: float) -> None:
        self._seen = seen
        self._now = now
        self._drain_s = drain_s
        self._wanted = revision_of(seen.adapter, seen.credentials)
        self._source = source_of(seen.adapter, seen.credentials)
        self._api_key = api_key_of(seen.adapter, seen.credentials)
        self._replicas = seen.adapter.spec.replicas
        self._policy = policy_of(seen.adapter.spec.scheduler_name, seen.policy)
        self._records = settle(seen, now)
        self._requests: list[EngineRequest] = []
        self._again: list[float] = []
        self._is_holding = False
        self._fallback = ""

    # Choosing

    def choose(self) -> Choice:
        policy, note = self._policy
        # A copy that is the only one to serve is replaced elsewhere first, where there is an elsewhere.
        serving = [r for uid, r in self._records.items() if self._serves(uid)]
        is_moving = self._replicas is not None and len(serving) <= 1 and any(map(self._is_outdated, serving))
        if not is_moving and (placed := self._placed()) is not None:
            return Choice(placed, note=note)
        if self._replicas is not None and any(map(self._is_unasked, self._seen.members.values())):
            return self._hold(note)
        candidates = [self._candidate(pod) for pod in self._seen.members.values() if self._is_candidate(pod)]
        choice = choose(candidates, self._replicas, policy=policy, seed=self._seen.adapter.uid, is_moving=is_moving)
        self._fallback = choice.note
        return Choice(choice.pods, choice.without_room, note)

    def _hold(self, note: str) -> Choice:
        """Leave things as they are until every engine that can be asked was: there may be a better pod in a moment."""
        self._is_holding = True
        self._again.append(HOLD_S)
        held = [
            uid
            for uid, record in self._records.items()
            if (pod := self._seen.members.get(uid)) is not None
            and self._is_candidate(pod)
            and self._holding(record) is not Holding.NONE
        ]
        return Choice(tuple(held), note=note)

    def _placed(self) -> tuple[Uid, ...] | None:
        """Return the pods that have the adapter if they are what choosing among all of them would yield.

        So they are when they are as many as wanted, in the newest generation and without failures. Most passes end
        here, without a look at the other pods.
        """
        placed = []
        for uid in self._records:
            pod = self._seen.members.get(uid)
            if pod is None or not self._is_candidate(pod):
                continue
            found = self._candidate(pod)
            if found.rank == 0 and not found.is_failing and found.holding in (Holding.CURRENT, Holding.ON_THE_WAY):
                placed.append(uid)
        return tuple(placed) if len(placed) == self._replicas else None

    def _is_candidate(self, pod: PodFacts) -> bool:
        if pod.is_terminating or not pod.is_alive:
            return False
        record = self._records.get(pod.uid)
        if pod.are_containers_ready:
            return presence_of(self._seen, pod.uid) is not Presence.UNKNOWN or record is not None
        if record is None:
            return False
        if self._replicas is None:
            return True
        left_s = UNREADY_GRACE_S + (seconds_until(pod.unready_since, self._now) if pod.unready_since else 0.0)
        if left_s > 0:
            self._again.append(left_s)
        return left_s > 0

    def _candidate(self, pod: PodFacts) -> Candidate:
        record = self._records.get(pod.uid)
        return Candidate(
            pod.uid,
            rank=self._seen.survey.ranks.get(pod.uid, 0),
            holding=self._holding(record),
            is_failing=record is not None and is_failing(record) and self._is_about_this_spec(record),
            occupied=self._seen.occupancy.get(pod.uid) or 0,
            capacity=pod.capacity,
            load=self._seen.loads.get(pod.uid) or PodLoad(),
        )

    def _holding(self, record: AdapterPod | None) -> Holding:
        if record is None or record.state == State.UNLOADING:
            return Holding.NONE
        is_current = self._wanted is None or record.revision == self._wanted
        match record.state:
            case State.LOADED:
                return Holding.CURRENT if is_current else Holding.OUTDATED
            case State.DRAINING:
                # A current copy that drains is one too many; were it chosen again, two would swap for ever.
                return Holding.NONE if is_current else Holding.OUTDATED
            case _:
                return Holding.ON_THE_WAY if is_current else Holding.NONE

    def _is_about_this_spec(self, record: AdapterPod) -> bool:
        return self._wanted is None or record.revision in ("", self._wanted)

    def _is_outdated(self, record: AdapterPod) -> bool:
        return self._wanted is not None and record.state == State.LOADED and record.revision != self._wanted

    def _serves(self, uid: Uid) -> bool:
        """Say whether a pod is a ready endpoint as things are recorded now."""
        record = self._records.get(uid)
        pod = self._pod(uid)
        if record is None or record.state != State.LOADED or pod is None or pod.is_terminating or not pod.is_ready:
            return False
        return self._is_loaded(uid)

    def _is_loaded(self, uid: Uid) -> bool:
        """Say whether nothing speaks against the record: until an engine answers, what was written is believed."""
        engine = self._seen.engines.get(uid)
        return engine is None or engine.models is not None or not engine.has_restarted

    def _pod(self, uid: Uid) -> PodFacts | None:
        return self._seen.members.get(uid) or self._seen.leavers.get(uid)

    # Loading

    def load(self, targets: tuple[Uid, ...]) -> None:
        """Ask for the adapter in chosen pods that do not have it."""
        if self._wanted is None:
            return
        for uid in targets:
            pod, record = self._seen.members[uid], self._records.get(uid)
            if uid in self._seen.busy or not pod.are_containers_ready:
                continue
            if record is None:
                self._load(pod, State.LOADING, "it shall be loaded in this pod")
                continue
            match record.state:
                case State.LOADING:
                    # Lost by the engine or by a controller that ended; an earlier failure may have left something.
                    state = State.LOADING if record.attempts == 0 else State.RELOADING
                    self._load(pod, state, "the engine does not list it")
                case State.RELOADING | State.UNLOADING:
                    self._load(pod, State.RELOADING, "the revision that is loaded is not known")
                case State.FAILED if record.reason == NAME_TAKEN:
                    pass
                case State.FAILED if record.revision != self._wanted:
                    self._load(pod, State.RELOADING, "the spec changed since it failed", attempts=0)
                case State.FAILED if is_due(record.retry_at, self._now):
                    self._load(pod, State.RELOADING, f"attempt {record.attempts + 1} after {record.reason}")
                case State.DRAINING if record.revision == self._wanted:
                    self._records[uid] = moved(record, State.LOADED)
                case State.DRAINING if is_due(record.retry_at, self._now):
                    self._load(pod, State.RELOADING, "the spec changed")
                case _:
                    pass

    def _load(self, pod: PodFacts, state: State, why: str, attempts: int | None = None) -> None:
        wanted = self._wanted or ""
        record = self._records.get(pod.uid) or AdapterPod(uid=pod.uid, name=pod.key.name, state=state)
        if attempts is not None:
            record = AdapterPod(uid=pod.uid, name=pod.key.name, state=state, attempts=attempts)
        if problem := self._cannot_load(pod):
            told = failed(moved(record, state, revision=wanted), *problem, self._now)
            # Only another spec can change that.
            self._records[pod.uid] = msgspec.structs.replace(told, attempts=1, retry_at=None)
            return
        self._records[pod.uid] = moved(record, state, revision=wanted)
        self._request(Verb.LOAD, pod, why, is_replacing=state == State.RELOADING)

    def _cannot_load(self, pod: PodFacts) -> tuple[str, str] | None:
        """Return reason and message when the engine need not even be asked."""
        if pod.protocol is AdapterProtocol.SIDECAR:
            return None
        try:
            direct_path(self._source.artifact_url)
        except AdapterError as err:
            return err.reason, err.message
        return None

    def _request(self, verb: Verb, pod: PodFacts, why: str, *, is_replacing: bool = False) -> None:
        target = pod.target(self._api_key)
        self._requests.append(EngineRequest(verb, pod.uid, self._source, target, why, is_replacing))

    def reload(self, targets: tuple[Uid, ...]) -> None:
        """Replace outdated copies in chosen pods, one pod at a time, and stop while the new one works nowhere."""
        outdated = [uid for uid in targets if uid in self._records and self._is_outdated(self._records[uid])]
        if not outdated or self._is_holding:
            return
        every = [
            self._records[uid]
            for uid in targets
            if uid in self._records and self._seen.members[uid].are_containers_ready
        ]
        if any(r.state in (State.LOADING, State.RELOADING, State.DRAINING) for r in every):
            return
        has_worked = any(r.state == State.LOADED and r.revision == self._wanted for r in every)
        if not has_worked and any(
            r.state == State.FAILED and r.revision == self._wanted for r in self._records.values()
        ):
            return
        uid = min(outdated, key=lambda u: (self._serves(u), self._seen.members[u].key))
        pod = self._seen.members[uid]
        if uid in self._seen.busy or not pod.are_containers_ready:
            return
        if self._serves(uid) and sum(map(self._serves, self._records)) > 1:
            self._drain(self._records[uid])
        elif self._serves(uid) and any(map(self._is_unasked, self._seen.members.values())):
            # Another pod may turn out to have it, or to take it first.
            self._again.append(HOLD_S)
        else:
            self._load(pod, State.RELOADING, "the spec changed")

    def _drain(self, record: AdapterPod) -> None:
        due = self._now + timedelta(seconds=self._drain_s)
        self._records[Uid(record.uid)] = moved(record, State.DRAINING, due=due)

    # Releasing

    def release(self, targets: tuple[Uid, ...]) -> None:
        """Unload from pods that are not chosen, as soon as they are not needed any more."""
        chosen = set(targets)
        needed = self._needed(targets)
        for uid, record in list(self._records.items()):
            pod = self._pod(uid)
            if uid in chosen or pod is None or pod.is_terminating or uid in self._seen.busy:
                continue
            presence = presence_of(self._seen, uid)
            match record.state:
                case State.LOADED | State.DRAINING if uid in needed:
                    self._records[uid] = moved(record, State.LOADED)
                case State.LOADED if self._serves(uid):
                    self._drain(record)
                case State.DRAINING if not is_due(record.retry_at, self._now):
                    pass
                case State.LOADED | State.DRAINING:
                    self._unload(pod, record)
                case State.LOADING | State.RELOADING:
                    if presence is Presence.ABSENT:
                        del self._records[uid]
                    else:
                        self._unload(pod, record)
                case State.UNLOADING if is_due(record.retry_at, self._now):
                    self._unload(pod, record)
                case State.FAILED:
                    self._forgive(pod, record, presence)
                case _:
                    pass

    def _needed(self, targets: tuple[Uid, ...]) -> set[Uid]:
        """Return pods that are not chosen and have to serve until the chosen ones do."""
        chosen = set(targets)
        serving = sum(map(self._serves, targets))
        could = [
            uid
            for uid, record in self._records.items()
            if uid not in chosen and record.state in (State.LOADED, State.DRAINING)
        ]
        could.sort(key=lambda u: (not self._could_serve(u), self._seen.survey.ranks.get(u, 0), self._records[u].name))
        staying = [uid for uid in could if uid in self._seen.members]
        if self._replicas is not None:
            staying = staying[: max(0, self._replicas - serving)]
        is_coming = any(
            uid not in self._records or self._records[uid].state != State.FAILED
            for uid in targets
            if not self._serves(uid)
        ) or (len(could) > len(staying) and any(map(self._is_unasked, self._seen.members.values())))
        if not serving and is_coming and not any(map(self._could_serve, staying)):
            # The selector left them, but what it found instead is not loaded yet.
            staying += [uid for uid in could if uid in self._seen.leavers and self._could_serve(uid)]
        return set(staying)

    def _could_serve(self, uid: Uid) -> bool:
        pod = self._pod(uid)
        return pod is not None and not pod.is_terminating and pod.is_ready and self._is_loaded(uid)

    def _unload(self, pod: PodFacts, record: AdapterPod) -> None:
        self._records[pod.uid] = moved(record, State.UNLOADING)
        self._request(Verb.UNLOAD, pod, "it shall not be loaded in this pod")

    def _forgive(self, pod: PodFacts, record: AdapterPod, presence: Presence) -> None:
        """Forget a failure in a pod that is not chosen when its time has come; leave nothing loaded there."""
        if record.reason != NAME_TAKEN and presence is Presence.LISTED:
            self._unload(pod, record)
            return
        left_s = FORGIVEN_S + (seconds_until(record.retry_at, self._now) if record.retry_at else 0.0)
        if left_s <= 0 or pod.uid not in self._seen.members:
            del self._records[pod.uid]
        else:
            self._again.append(left_s)

    # Deciding

    def decide(self, choice: Choice, *, problem: str = "") -> Decision:
        seen = self._seen
        for uid, record in self._records.items():
            is_waiting = record.state in (State.DRAINING, State.UNLOADING) or uid in choice.pods
            if record.retry_at is not None and is_waiting and not problem:
                self._again.append(max(0.05, seconds_until(record.retry_at, self._now)))
        return Decision(
            self._records,
            tuple(self._requests),
            self._endpoints(),
            choice.pods,
            desired=len(choice.pods) if self._replicas is None else self._replicas,
            candidates=seen.survey.num_ready,
            matched=seen.survey.num_active,
            without_room=choice.without_room,
            is_asking=not choice.pods and not problem and any(map(self._is_unasked, seen.members.values())),
            revision=self._wanted,
            note=choice.note,
            fallback=self._fallback,
            problem=problem,
            again_s=min(self._again, default=None),
        )

    def _is_unasked(self, pod: PodFacts) -> bool:
        engine = self._seen.engines.get(pod.uid)
        if engine is None or engine.failures or not pod.are_containers_ready or not pod.is_alive or pod.is_terminating:
            return False
        is_load_missing = self._policy[0] in BY_METRICS and self._seen.loads.get(pod.uid) is None
        return engine.models is None or (is_load_missing and self._replicas is not None)

    def _endpoints(self) -> tuple[EndpointFacts, ...]:
        ready = [EndpointFacts(pod) for uid in self._records if self._serves(uid) and (pod := self._pod(uid))]
        if ready:
            return tuple(ready)
        return tuple(
            EndpointFacts(pod, is_ready=False)
            for uid, record in self._records.items()
            if (pod := self._seen.members.get(uid)) is not None
            and record.state == State.LOADED
            and pod.is_terminating
            and pod.is_ready
            and self._is_loaded(uid)
        )

    # Removing

    def remove(self) -> Decision:
        """Unload everywhere; a pod that is gone or on its way out needs nothing, and time runs out for the others."""
        deleted_at = self._seen.adapter.metadata.deletion_timestamp
        left_s = UNLOAD_DEADLINE_S + (seconds_until(deleted_at, self._now) if deleted_at else 0.0)
        for uid, record in list(self._records.items()):
            pod = self._pod(uid)
            if pod is None or pod.is_terminating or not pod.is_alive or record.reason == NAME_TAKEN:
                del self._records[uid]
            elif uid in self._seen.busy:
                continue
            elif record.state != State.UNLOADING or is_due(record.retry_at, self._now):
                self._unload(pod, record)
            elif record.retry_at is not None:
                self._again.append(max(0.05, seconds_until(record.retry_at, self._now)))
        is_over = left_s <= 0 and bool(self._records)
        leftovers = tuple(sorted(map(_why_left, self._records.values()))) if is_over else ()
        return Decision(
            self._records,
            tuple(self._requests),
            again_s=min([*self._again, max(0.05, left_s)]) if self._records else None,
            unloaded=not self._records or is_over,
            leftovers=leftovers,
        )


def _why_left(record: AdapterPod) -> str:
    """Return the name of a pod and what kept the adapter there."""
    if record.state != State.UNLOADING or not record.reason:
        return f"{record.name}: no answer in time"
    return f"{record.name}: {record.reason}: {record.message}"
