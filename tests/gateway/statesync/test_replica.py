"""Instances come to one view, whatever the network does."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pybrix.api.identity import Uid
from pybrix.gateway.framework.types import EndpointId
from pybrix.gateway.indexes.learnt import fade
from pybrix.gateway.indexes.load import NO_SHARE
from pybrix.gateway.statesync.peers import FORGET_S, MAX_PEERS
from pybrix.gateway.statesync.wire import decode
from tests.support.statesync import LIFETIME_S, MODEL, Instance, Network, engine

USERS = ("ann", "bob", "cem")


def act(instances: list[Instance], chance: random.Random, now_s: float) -> None:
    """Let every instance begin and end some requests."""
    for each in instances:
        for _ in range(chance.randrange(3)):
            start = chance.randrange(8) * 100
            chain = range(start, start + 1 + chance.randrange(20))
            each.begin(chance.choice(each.engines), chain, chance.choice(USERS), now_s)
        while each.in_flight and chance.random() < 0.4:
            each.end(chance.randrange(len(each.in_flight)), now_s)


def assert_agreed(instances: list[Instance], now_s: float) -> None:
    first = instances[0]
    want: dict[EndpointId, tuple[int, int, int, int]] = {}
    for each in instances:
        for endpoint, weight in each.in_flight:
            requests, prompt, uncached, decode = want.get(endpoint, (0, 0, 0, 0))
            want[endpoint] = (requests + 1, prompt + weight[0], uncached + weight[1], decode + weight[2])
    for each in instances:
        assert each.counts() == want, each.replica.name
        assert each.replica.refused == 0
        for key in each.engines:
            learnt, model = each.loads.of(key).learnt, first.loads.of(key).learnt
            assert learnt.completion_tokens_per_s(now_s) == pytest.approx(model.completion_tokens_per_s(now_s), rel=0.1)
            assert learnt.latency_ms == pytest.approx(model.latency_ms)
        for user in USERS:
            got = each.indexes.users.of(("default", "m"), user, now_s)
            assert got == pytest.approx(first.indexes.users.of(("default", "m"), user, now_s), rel=0.05)
        for start in range(0, 800, 100):
            chain = range(start, start + 20)
            assert each.indexes.prefix.match(chain, each.engines) == first.indexes.prefix.match(chain, first.engines)
        assert each.sizes[MODEL].decode_tokens(None) == 30
        history = each.indexes.history.of(engine(0), now_s)
        assert history == pytest.approx(first.indexes.history.of(engine(0), now_s), rel=0.1)


@settings(
    max_examples=5,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.generate],
)
@given(seed=st.integers(0, 2**32), lost=st.floats(0, 0.3), twice=st.floats(0, 0.5), slowest_s=st.floats(0, 1.5))
def test_five_instances_agree_when_messages_are_lost_repeated_and_reordered(
    seed: int, lost: float, twice: float, slowest_s: float
) -> None:
    chance = random.Random(seed)
    instances = [Instance(f"gw-{number}") for number in range(5)]
    network = Network(instances, chance, lost, twice, lambda: chance.random() * slowest_s)
    network.run(6.0, lambda now_s: act(instances, chance, now_s))
    # Nothing more begins or ends, and messages still get lost.
    network.run(16.0)
    network.lost_ratio = 0.0
    network.run(20.0)
    assert_agreed(instances, network.now_s)


def pair(**options: float) -> tuple[Instance, Instance, Network]:
    first, second = Instance("gw-1", **options), Instance("gw-2", **options)  # type: ignore[arg-type]
    return first, second, Network([first, second], random.Random(1))


def test_a_lost_message_is_mended_by_a_snapshot() -> None:
    first, second, network = pair()
    network.run(1.0)
    network.lost_ratio = 1.0
    first.begin(engine(0), range(30), "ann", network.now_s)
    network.run(1.2)
    assert second.indexes.prefix.match(range(30), [engine(0)]) == [0]
    network.lost_ratio = 0.0
    network.run(4.0)
    (peer,) = second.replica.peers
    assert not peer.is_behind
    assert second.replica.resynced > 0
    assert second.indexes.prefix.match(range(30), [engine(0)]) == [30]
    assert second.counts() == first.counts()


def test_a_partition_ends_with_one_view_and_without_phantoms() -> None:
    first, second, network = pair()
    first.begin(engine(0), range(10), "ann", 0.0)
    network.run(1.0)
    assert second.loads.of(engine(0)).requests == 1
    network.is_cut = lambda _a, _b: True
    network.run(2.0)
    first.end(0, network.now_s)
    first.begin(engine(1), range(100, 110), "ann", network.now_s)
    network.run(1.0 + LIFETIME_S + 1.0)
    assert second.counts() == {}, "what is not heard of counts no longer"
    assert not any(peer.is_counted for peer in second.replica.peers)
    network.is_cut = lambda _a, _b: False
    network.run(network.now_s + 3.0)
    assert second.counts() == first.counts() == {engine(1): (1, 100, 60, 50)}
    assert second.indexes.prefix.match(range(100, 110), [engine(1)]) == [10]


def test_a_restarted_instance_takes_the_place_of_its_last_incarnation() -> None:
    first, second, network = pair()
    first.begin(engine(0), range(10), "ann", 0.0)
    network.run(1.0)
    again = Instance("gw-1", incarnation=2)
    network.instances[0] = again
    again.begin(engine(2), range(10), "ann", 1.0)
    network.run(1.5)
    assert second.counts() == {engine(2): (1, 100, 60, 50)}
    assert second.loads.of(engine(0)).elsewhere is NO_SHARE


def test_an_instance_whose_clock_was_ahead_is_heard_all_the_same() -> None:
    listener, before, after = Instance("gw-2"), Instance("gw-1", incarnation=900), Instance("gw-1", incarnation=5)
    old = before.replica.messages(0.0)
    for data in old:
        listener.replica.take(data, 0.0, 0.0)
        after.replica.take(data, 60.0, 60.0)
    after.begin(engine(0), range(5), "ann", 60.0)
    for data in after.replica.messages(60.0):
        listener.replica.take(data, 0.0, 60.0)
    assert listener.loads.of(engine(0)).requests == 1


def test_an_endpoint_that_another_instance_knows_first_is_counted_once_it_is_known_here() -> None:
    first, second, network = pair()
    second.replica.follow(second.engines[1:], [MODEL], 0.0)
    first.begin(engine(0), range(10), "ann", 0.0)
    network.run(1.0)
    assert engine(0) not in second.counts()
    second.replica.follow(second.engines, [MODEL], network.now_s)
    assert second.counts() == first.counts()
    assert second.indexes.prefix.match(range(10), [engine(0)]) == [10]
    second.replica.follow(second.engines[1:], [MODEL], network.now_s)
    assert second.counts() == {}, "a pod that is gone takes along what others had there"


def test_a_pod_of_the_same_name_is_another_pod() -> None:
    first, second, network = pair()
    first.begin(engine(0), range(10), "ann", 0.0)
    network.run(1.0)
    recreated = EndpointId(Uid("pod-0-again"), 8000)
    second.replica.follow([recreated], [MODEL], network.now_s)
    assert second.counts() == {}
    assert second.loads.of(recreated).requests == 0


def test_more_instances_than_can_be_are_refused_and_the_silent_ones_go() -> None:
    listener = Instance("gw-0")
    for number in range(1, MAX_PEERS + 5):
        for data in Instance(f"gw-{number}").replica.messages(0.0):
            listener.replica.take(data, 0.0, 0.0)
    assert len(listener.replica.peers) == MAX_PEERS
    assert listener.replica.refused == 4
    listener.replica.keep_house(2 * LIFETIME_S)
    assert len(listener.replica.peers) == 0


def test_what_is_forgotten_takes_its_sums_along() -> None:
    first, second, network = pair()
    first.begin(engine(0), range(10), "ann", 0.0)
    first.end(0, 0.5)
    second.begin(engine(0), range(10), "bob", 0.0)
    second.end(0, 0.5)
    network.run(1.0)
    own = second.loads.of(engine(0)).learnt.own(1.0)
    second.replica.keep_house(1.0 + FORGET_S + 1.0)
    assert len(second.replica.peers) == 0
    later_s = 1.0 + FORGET_S + 1.0
    assert second.loads.of(engine(0)).learnt.own(later_s) == pytest.approx(fade(own, FORGET_S + 1.0))


def test_while_nothing_can_be_told_what_waits_is_bounded() -> None:
    speaker = Instance("gw-1")
    speaker.replica.messages(0.0)
    for number in range(40):
        speaker.begin(engine(number % 6), range(number * 10_000, number * 10_000 + 8000), f"u{number}", 1.0)
    speaker.replica.keep_house(2.0)
    (data,) = speaker.replica.messages(3.0)
    message = decode(data)
    assert message.has_lost
    assert message.blocks == []


def test_many_endpoints_are_told_in_messages_that_all_take() -> None:
    speaker, listener = Instance("gw-1", engines=4000), Instance("gw-2", engines=4000)
    for each in speaker.engines:
        speaker.begin(each, (), "", 0.0)
    messages = speaker.replica.messages(0.0)
    assert len(messages) > 1
    for data in messages:
        listener.replica.take(data, 0.0, 0.0)
    assert listener.replica.refused == 0
    assert listener.counts() == speaker.counts()
