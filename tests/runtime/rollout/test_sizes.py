"""The arithmetic of rollouts, as the documentation and tests of upstream's Deployment controller have it: tables."""

from __future__ import annotations

import pytest

from pybrix.api.identity import Uid
from pybrix.runtime.rollout.goal import Goal, Revision, fenceposts
from pybrix.runtime.rollout.sizes import is_scaled, recreate, roll, scale, size_of_new


def made(name: str, size: int, available: int | None = None, *, most: int | None = None, leaving: int = 0) -> Revision:
    """Return a revision; names sort by age."""
    available = size if available is None else available
    return Revision(Uid(name), (name, name), size, available, desired=None, most=most, leaving=leaving)


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "want"),
    [
        (10, None, None, (3, 2)),
        (10, "25%", "25%", (3, 2)),
        (1, "25%", "25%", (1, 0)),
        (10, 0, 5, (0, 5)),
        (10, "0%", "0%", (0, 1)),
        (0, "25%", "25%", (0, 1)),
        (3, "100%", 0, (3, 0)),
    ],
)
def test_surge_rounds_up_and_unavailable_rounds_down(
    replicas: int, surge: int | str | None, unavailable: int | str | None, want: tuple[int, int]
) -> None:
    assert fenceposts(replicas, surge, unavailable) == want


# Source of these rows: TestDeploymentController_reconcileNewReplicaSet (pkg/controller/deployment/rolling_test.go).
@pytest.mark.parametrize(
    ("replicas", "surge", "old", "new", "want"),
    [
        pytest.param(10, 0, 10, 0, 0, id="no room without surge"),
        pytest.param(10, 2, 10, 0, 2, id="the surge is room"),
        pytest.param(10, 2, 5, 0, 7, id="what the old ones lack is room, too"),
        pytest.param(10, 2, 10, 2, 2, id="all room is used"),
        pytest.param(10, 2, 2, 11, 10, id="more than asked for shrinks"),
    ],
)
def test_the_new_revision_takes_the_room_there_is(replicas: int, surge: int, old: int, new: int, want: int) -> None:
    assert size_of_new(Goal(replicas, surge), [made("a", old)], new) == want


@pytest.mark.parametrize(
    ("leaving_old", "leaving_new", "want"), [(0, 0, 2), (1, 0, 1), (2, 0, 0), (1, 1, 0), (9, 0, 0)]
)
def test_what_is_on_its_way_out_is_no_room(leaving_old: int, leaving_new: int, want: int) -> None:
    assert size_of_new(Goal(4, 0, 2), [made("a", 2, leaving=leaving_old)], 0, leaving_new) == want


# Source: TestDeploymentController_reconcileOldReplicaSets.
@pytest.mark.parametrize(
    ("unavailable", "old", "new", "want"),
    [
        pytest.param(0, (10, 10), (0, 0), None, id="nothing may be missing"),
        pytest.param(2, (10, 10), (0, 0), 8, id="so many may be missing"),
        pytest.param(2, (10, 8), (0, 0), 8, id="the unhealthy go first, and are all that may go"),
        pytest.param(2, (10, 9), (0, 0), 8, id="one unhealthy and one more"),
        pytest.param(2, (8, 8), (2, 0), None, id="the new ones are not available yet"),
        pytest.param(2, (8, 0), (2, 2), 6, id="a broken old revision gives room to the new one"),
    ],
)
def test_old_revisions_shrink_as_far_as_availability_allows(
    unavailable: int, old: tuple[int, int], new: tuple[int, int], want: int | None
) -> None:
    # No surge: the new revision is as large as it may be, so that it is the old ones' turn.
    got = roll(Goal(10, 0, unavailable), made("b", *new), [made("a", *old)])
    assert got == ({} if want is None else {"a": want})


# Source: TestScale (pkg/controller/deployment/sync_test.go) and the documentation's example of proportional scaling.
@pytest.mark.parametrize(
    ("goal", "old", "new", "want"),
    [
        pytest.param(Goal(15, 3, 2), [made("a", 8, most=13)], made("b", 5, most=13), {"a": 11, "b": 7}, id="10 to 15"),
        pytest.param(Goal(20), [], made("b", 10, most=10), {"b": 20}, id="one revision gets it all"),
        pytest.param(Goal(0), [made("a", 3, most=10)], made("b", 7, most=10), {"a": 0, "b": 0}, id="to zero"),
        pytest.param(
            Goal(20),
            [made("a", 5, most=10)],
            made("b", 5, most=10),
            {"a": 10, "b": 10},
            id="in equal parts",
        ),
        pytest.param(
            Goal(5), [made("a", 4, most=10)], made("b", 6, most=10), {"a": 2, "b": 3}, id="down in proportion"
        ),
    ],
)
def test_scaling_in_mid_rollout_is_proportional(
    goal: Goal, old: list[Revision], new: Revision, want: dict[str, int]
) -> None:
    assert scale(goal, new, old) == want
    assert sum(want.values()) == (goal.replicas + goal.max_surge if goal.replicas else 0)


def test_a_change_of_replicas_is_found_by_what_revisions_remember() -> None:
    remembers = Revision(Uid("a"), ("a", "a"), 3, desired=3)
    assert not is_scaled(Goal(3), [remembers])
    assert is_scaled(Goal(4), [remembers])
    assert not is_scaled(Goal(4), [made("b", 3)]), "one that remembers nothing tells nothing"


def test_recreate_takes_all_away_before_it_brings_any() -> None:
    goal = Goal(3, is_rolling=False)
    assert recreate(goal, None, [made("a", 3), made("b", 1)], is_clear=False) == {"a": 0, "b": 0}
    assert recreate(goal, made("c", 0), [made("a", 0)], is_clear=False) == {}
    assert recreate(goal, made("c", 0), [made("a", 0)], is_clear=True) == {"c": 3}
