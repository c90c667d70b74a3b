"""Which pods get an adapter: tables, and properties of every choice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.api.identity import Uid
from pybrix.controllers.modeladapter.placement import POLICIES, Candidate, Holding, choose, policy_of
from pybrix.controllers.modeladapter.state import PodLoad


def candidate(name: str, **more: object) -> Candidate:
    return Candidate(Uid(name), **more)  # type: ignore[arg-type]


candidates = st.lists(
    st.builds(
        Candidate,
        uid=st.integers(0, 10_000).map(lambda n: Uid(f"pod-{n}")),
        rank=st.integers(0, 2),
        holding=st.sampled_from(Holding),
        is_failing=st.booleans(),
        occupied=st.integers(0, 5),
        capacity=st.none() | st.integers(0, 6),
        load=st.builds(
            PodLoad, latency_s=st.none() | st.floats(0, 10), tokens_per_minute=st.none() | st.floats(0, 1e6)
        ),
    ),
    max_size=20,
    unique_by=lambda c: c.uid,
)
policies = st.sampled_from(POLICIES)


def settled(before: list[Candidate], chosen: tuple[Uid, ...]) -> list[Candidate]:
    """Return the candidates once the adapter is loaded in the chosen ones, and nowhere else."""
    return [
        Candidate(
            c.uid, c.rank, Holding.CURRENT if c.uid in chosen else Holding.NONE, False, c.occupied, c.capacity, c.load
        )
        for c in before
    ]


@given(candidates, st.integers(1, 25), policies)
def test_as_many_as_wanted_are_chosen_or_all_that_have_room(every: list[Candidate], replicas: int, policy: str) -> None:
    choice = choose(every, replicas, policy=policy, seed="a")
    fitting = [c for c in every if c.has_room or c.holding is not Holding.NONE]
    assert len(choice.pods) == len(set(choice.pods)) == min(replicas, len(fitting))
    assert choice.without_room == len(every) - len(fitting)


@given(candidates, st.none() | st.integers(1, 25), policies)
def test_no_pod_gets_more_than_it_takes(every: list[Candidate], replicas: int | None, policy: str) -> None:
    chosen = set(choose(every, replicas, policy=policy, seed="a").pods)
    for pod in every:
        if pod.uid in chosen and pod.holding is Holding.NONE and pod.capacity is not None:
            assert pod.occupied + 1 <= pod.capacity


@given(candidates, st.none() | st.integers(1, 25), policies, st.randoms(use_true_random=False))
def test_a_second_pass_moves_nothing(every: list[Candidate], replicas: int | None, policy: str, chance: object) -> None:
    first = choose(every, replicas, policy=policy, seed="a").pods
    # A pod that failed was given up for good reasons, or loads in the end.
    after = settled(every, first)
    stable = [c for c in after if c.uid in first or c.rank >= max((p.rank for p in after if p.uid in first), default=0)]
    chance.shuffle(stable)  # type: ignore[attr-defined]
    assert set(choose(stable, replicas, policy=policy, seed="a").pods) == set(first)


@given(candidates, st.integers(1, 25), policies)
def test_the_order_of_candidates_does_not_matter(every: list[Candidate], replicas: int, policy: str) -> None:
    assert choose(every, replicas, policy=policy, seed="a") == choose(every[::-1], replicas, policy=policy, seed="a")


@given(candidates, st.integers(1, 25), policies)
def test_the_newest_generation_comes_first_among_pods_that_work(
    every: list[Candidate], replicas: int, policy: str
) -> None:
    chosen = set(choose(every, replicas, policy=policy, seed="a").pods)
    works = [c for c in every if not c.is_failing and (c.has_room or c.holding is not Holding.NONE)]
    left_out = [c.rank for c in works if c.uid not in chosen]
    taken = [c.rank for c in works if c.uid in chosen]
    if left_out and taken:
        assert max(taken) <= min(left_out) or max(taken) == min(left_out)


@given(candidates, st.integers(1, 25), policies)
def test_a_pod_more_takes_nothing_from_the_others(every: list[Candidate], replicas: int, policy: str) -> None:
    first = choose(every, replicas, policy=policy, seed="a").pods
    if len(first) < replicas:
        return
    ranks = [c.rank for c in every if c.uid in first]
    after = settled(every, first)
    stable = [c for c in after if c.uid in first or c.rank >= max(ranks)]
    newcomer = Candidate(Uid("newcomer"), rank=max(ranks))
    assert set(choose([*stable, newcomer], replicas, policy=policy, seed="a").pods) == set(first)


def test_adapters_spread_over_equal_pods() -> None:
    pods = [candidate(f"p{n}") for n in range(10)]
    counts = {pod.uid: 0 for pod in pods}
    for number in range(1000):
        (chosen,) = choose(pods, 1, policy="random", seed=f"adapter-{number}").pods
        counts[chosen] += 1
    assert min(counts.values()) > 60
    assert max(counts.values()) < 140


@pytest.mark.parametrize(
    ("policy", "pods", "want"),
    [
        pytest.param(
            "leastAdapters", [candidate("a", occupied=3), candidate("b", occupied=1)], "b", id="fewest adapters"
        ),
        pytest.param(
            "binPack",
            [candidate("a", occupied=1, capacity=4), candidate("b", occupied=3, capacity=4)],
            "b",
            id="least room that is enough",
        ),
        pytest.param(
            "binPack",
            [candidate("a", occupied=4, capacity=4), candidate("b", occupied=1, capacity=4)],
            "b",
            id="a full pod is no candidate",
        ),
        pytest.param(
            "binPack", [candidate("a", occupied=7), candidate("b", occupied=2)], "a", id="ten are assumed to fit"
        ),
        pytest.param(
            "leastLatency",
            [candidate("a", load=PodLoad(latency_s=2.0)), candidate("b", occupied=9, load=PodLoad(latency_s=0.5))],
            "b",
            id="least latency",
        ),
        pytest.param(
            "leastThroughput",
            [candidate("a", load=PodLoad(tokens_per_minute=10)), candidate("b", load=PodLoad(tokens_per_minute=20))],
            "a",
            id="least throughput",
        ),
        pytest.param(
            "leastLatency",
            [candidate("a", occupied=3, load=PodLoad(latency_s=0.1)), candidate("b", occupied=1)],
            "b",
            id="without metrics of all, fewest adapters",
        ),
        pytest.param(
            "leastAdapters",
            [candidate("a", occupied=9, holding=Holding.CURRENT), candidate("b")],
            "a",
            id="who has it keeps it",
        ),
        pytest.param(
            "leastAdapters",
            [candidate("a", rank=1, holding=Holding.CURRENT), candidate("b", rank=0, occupied=9)],
            "b",
            id="a newer generation counts more",
        ),
        pytest.param(
            "leastAdapters",
            [candidate("a", rank=0, is_failing=True), candidate("b", rank=1)],
            "b",
            id="a pod that works counts most",
        ),
    ],
)
def test_policies(policy: str, pods: list[Candidate], want: str) -> None:
    assert choose(pods, 1, policy=policy, seed="x").pods == (want,)


def test_an_outdated_copy_gives_way_only_when_it_is_to_move() -> None:
    pods = [candidate("a", holding=Holding.OUTDATED), candidate("b")]
    assert choose(pods, 1, policy="random", seed="x").pods == ("a",)
    assert choose(pods, 1, policy="random", seed="x", is_moving=True).pods == ("b",)
    assert choose(pods[:1], 1, policy="random", seed="x", is_moving=True).pods == ("a",)


def test_a_policy_without_metrics_says_what_was_used() -> None:
    choice = choose([candidate("a")], 1, policy="leastLatency", seed="x")
    assert choice.note == "leastLatency needs metrics that not all pods have; leastAdapters was used"


@pytest.mark.parametrize(
    ("name", "want"),
    [("default", "binPack"), ("", "binPack"), ("random", "random"), ("leastLatency", "leastLatency")],
)
def test_scheduler_names(name: str, want: str) -> None:
    """AIBrix: schedulerName is never read."""
    assert policy_of(name, "binPack") == (want, "")


def test_an_unknown_scheduler_name_is_told() -> None:
    policy, note = policy_of("volcano", "random")
    assert policy == "random"
    assert note.startswith("schedulerName 'volcano' is no policy")
