"""What `pybrix plan` shows: the steps of a rollout, foreseen."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pybrix.controllers.rayclusterfleet.rollout import Step, foresee
from pybrix.controllers.rayclusterfleet.state import goal
from tests.support.clocks import EPOCH
from tests.support.fleets import make_fleet, make_set


def steps(replicas: int, surge: int | str | None, unavailable: int | str | None, old: int | None = None) -> list[Step]:
    fleet = make_fleet(replicas, image="v2", max_surge=surge, max_unavailable=unavailable)
    old = replicas if old is None else old
    return foresee(fleet, [make_set("old", old, image="v1", owner=fleet, available=old)], EPOCH)


def test_surge_goes_up_before_it_goes_down() -> None:
    found = steps(2, 1, 0)
    assert [(step.clusters, step.available) for step in found] == [(3, 2), (3, 2), (3, 2), (3, 2)]
    assert found[0].why[0].startswith("Create replica set big-")
    assert found[1].why == ("Scaled down replica set old from 2 to 1",)


def test_without_surge_it_goes_down_first() -> None:
    found = steps(2, 0, 1)
    assert max(step.clusters for step in found) == 2
    assert min(step.available for step in found) == 1


def test_nothing_to_do_has_no_steps() -> None:
    fleet = make_fleet(2)
    done = foresee(fleet, [], EPOCH)
    assert [step.why[0].endswith("with 2 clusters") for step in done] == [True]
    assert foresee(make_fleet(0), [make_set("old", 0, owner=make_fleet(0))], EPOCH) == []


@settings(max_examples=60)
@given(
    st.integers(0, 7),
    st.one_of(st.none(), st.integers(0, 3), st.sampled_from(["25%", "100%"])),
    st.one_of(st.none(), st.integers(0, 3), st.sampled_from(["25%", "100%"])),
)
def test_every_rollout_ends_within_its_bounds(
    replicas: int, surge: int | str | None, unavailable: int | str | None
) -> None:
    wanted = goal(make_fleet(replicas, max_surge=surge, max_unavailable=unavailable))
    for step in steps(replicas, surge, unavailable):
        assert step.clusters <= replicas + wanted.max_surge
        assert step.available >= replicas - wanted.max_unavailable
