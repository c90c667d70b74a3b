"""One limit over several instances: the bound holds in any interleaving, and everything is settled."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybrix.gateway.admission.counter import Ask, Counter, Denied, Hold, lease_limit
from tests.support.leases import LeaseServer


@dataclass
class Cluster:
    """Instances of one limit and the Redis between them; messages wait until they are delivered."""

    limit: int
    instances: int
    now_s: float = 1000.0
    server: LeaseServer = field(default_factory=LeaseServer)
    spent: list[tuple[float, int, Hold]] = field(default_factory=list)
    extra: int = 0
    asked: dict[int, Ask] = field(default_factory=dict)
    largest: int = 1

    def __post_init__(self) -> None:
        self.counters = [Counter(60.0) for _ in range(self.instances)]

    def take(self, number: int, amount: int, *, is_shared: bool = True) -> Hold | Denied:
        taken = self.counters[number].take(min(amount, self.limit), self.limit, self.now_s, is_shared=is_shared)
        if isinstance(taken, Hold):
            self.spent.append((self.now_s, number, taken))
            self.largest = max(self.largest, taken.amount)
        return taken

    def send(self, number: int) -> None:
        ask = self.counters[number].plan(self.now_s)
        if ask is not None:
            self.asked[number] = ask

    def answer(self, number: int) -> None:
        ask = self.asked.pop(number, None)
        if ask is not None:
            # Redis has a clock of its own.
            self.counters[number].apply(self.server.hear(ask, self.now_s + 77.7), self.now_s)

    def lose(self, number: int, *, is_counted: bool) -> None:
        ask = self.asked.pop(number, None)
        if ask is not None:
            if is_counted:
                self.server.hear(ask, self.now_s + 77.7)
            self.counters[number].fail(self.now_s)

    def sync(self, number: int) -> None:
        self.send(number)
        self.answer(number)

    def worst_window(self) -> int:
        ends = [at for at, _, _ in self.spent]
        return max((sum(h.amount for at, _, h in self.spent if end - 60.0 < at <= end) for end in ends), default=0)

    @property
    def bound(self) -> int:
        return self.limit + 2 * self.instances * max(lease_limit(self.limit), self.largest)


actions = st.lists(
    st.tuples(
        st.sampled_from(["take", "take", "take", "send", "answer", "lose", "lose_counted", "give_back", "wait"]),
        st.integers(0, 3),
        st.integers(1, 30),
    ),
    max_size=200,
)


@settings(max_examples=300, deadline=None)
@given(actions, st.integers(1, 4), st.integers(1, 200))
def test_no_window_holds_more_than_the_limit_and_the_documented_overshoot(
    steps: list[tuple[str, int, int]], instances: int, limit: int
) -> None:
    cluster = Cluster(limit, instances)
    for action, chosen, size in steps:
        number = chosen % instances
        if action == "take":
            cluster.take(number, size)
        elif action == "send":
            cluster.send(number)
        elif action == "answer":
            cluster.answer(number)
        elif action == "lose":
            cluster.lose(number, is_counted=False)
        elif action == "lose_counted":
            cluster.lose(number, is_counted=True)
        elif action == "give_back" and cluster.spent:
            _, owner, hold = cluster.spent[(size * 7 + chosen) % len(cluster.spent)]
            cluster.counters[owner].give_back(hold, size, cluster.now_s)
        else:
            cluster.now_s += size / 3
    assert cluster.worst_window() <= cluster.bound


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 60), st.integers(0, 99), st.booleans(), st.booleans())),
)
def test_in_the_end_redis_counts_what_was_used_and_nothing_else(
    steps: list[tuple[int, int, int, bool, bool]],
) -> None:
    cluster = Cluster(100_000, 3)
    open_holds: list[tuple[int, Hold, int]] = []
    used_in_all = 0
    for number, reserved, used, is_answered, is_settled in steps:
        cluster.now_s += 0.01
        taken = cluster.take(number, reserved)
        if isinstance(taken, Hold):
            open_holds.append((number, taken, used))
            used_in_all += used
        cluster.send(number)
        if is_settled and open_holds:
            settle(cluster, *open_holds.pop(0))
        if is_answered:
            cluster.answer(number)
    for each in open_holds:
        settle(cluster, *each)
    for _ in range(20):
        cluster.now_s += 0.2
        for number in range(3):
            cluster.answer(number)
            cluster.sync(number)
    assert sum(cluster.server.counts.values()) == used_in_all
    assert [counter.plan(cluster.now_s + 3.0) for counter in cluster.counters] == [None] * 3


def settle(cluster: Cluster, number: int, hold: Hold, used: int) -> None:
    counter = cluster.counters[number]
    reserved = hold.amount
    counter.give_back(hold, reserved - used, cluster.now_s)
    counter.charge(used - reserved, cluster.now_s)


def admitted(cluster: Cluster, number: int, times: int) -> int:
    return sum(isinstance(cluster.take(number, 1), Hold) for _ in range(times))


def test_alone_an_instance_counts_exactly() -> None:
    cluster = Cluster(10, 1)
    taken = [cluster.take(0, 1, is_shared=False) for _ in range(12)]
    assert [isinstance(each, Hold) for each in taken] == [True] * 10 + [False] * 2
    denied = taken[-1]
    assert isinstance(denied, Denied)
    cluster.now_s += denied.retry_after_s + 0.001
    assert isinstance(cluster.take(0, 1, is_shared=False), Hold)


def test_what_was_spent_alone_counts_for_the_others_once_redis_is_back() -> None:
    cluster = Cluster(10, 2)
    for _ in range(8):
        cluster.take(0, 1, is_shared=False)
    cluster.sync(0)
    cluster.sync(1)
    assert admitted(cluster, 1, 1) == 1
    cluster.sync(1)
    assert admitted(cluster, 1, 1) == 1
    cluster.sync(1)
    assert admitted(cluster, 1, 5) == 0


def test_what_is_long_out_of_the_window_is_not_charged_when_redis_is_back() -> None:
    cluster = Cluster(10, 1)
    for _ in range(30):
        cluster.take(0, 1, is_shared=False)
        cluster.now_s += 7.0
    cluster.sync(0)
    assert sum(cluster.server.counts.values()) <= 10


def test_a_steady_user_spends_from_leases_and_redis_hears_in_batches() -> None:
    cluster = Cluster(6000, 2)
    messages = 0
    for _ in range(50 * 30):
        cluster.now_s += 0.02
        assert isinstance(cluster.take(0, 1), Hold)
        if cluster.counters[0].is_due(cluster.now_s):
            messages += 1
            cluster.sync(0)
    assert messages < 60


@pytest.mark.parametrize("limit", [5, 100, 3000])
def test_instances_that_take_turns_share_one_limit(limit: int) -> None:
    cluster = Cluster(limit, 3)
    for turn in range(3 * limit):
        cluster.take(turn % 3, 1)
        for number in range(3):
            cluster.sync(number)
    assert limit - 2 * lease_limit(limit) <= len(cluster.spent) <= limit + 3


def test_unspent_leases_go_back() -> None:
    cluster = Cluster(1000, 2)
    for _ in range(40):
        cluster.now_s += 0.01
        cluster.take(0, 1)
        cluster.sync(0)
    assert sum(cluster.server.counts.values()) > 40
    for _ in range(2):
        cluster.now_s += 3.0
        assert cluster.counters[0].is_due(cluster.now_s)
        cluster.sync(0)
    assert sum(cluster.server.counts.values()) == 40


def test_a_request_larger_than_a_lease_goes_through_when_there_is_room() -> None:
    cluster = Cluster(1000, 2)
    assert isinstance(cluster.take(0, 1000), Hold)
    cluster.sync(0)
    cluster.sync(1)
    assert isinstance(cluster.take(0, 1), Denied)
    # The other instance knows of nothing before it has asked.
    assert isinstance(cluster.take(1, 1), Hold)
    cluster.sync(1)
    denied = cluster.take(1, 1)
    assert isinstance(denied, Denied)
    assert 59.0 < denied.retry_after_s <= 61.0


def test_an_idle_counter_can_be_forgotten_and_one_that_owes_cannot() -> None:
    cluster = Cluster(10, 1)
    cluster.take(0, 1)
    counter = cluster.counters[0]
    assert not counter.is_idle(cluster.now_s + 30.0)
    cluster.sync(0)
    cluster.now_s += 3.0
    cluster.sync(0)
    assert counter.is_idle(cluster.now_s + 70.0)
