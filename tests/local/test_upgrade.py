"""What an upgrade does, in which order."""

from pybrix.local.upgrade import Action, Seen, Step, plan_upgrade

RUNNING = [
    Seen("cluster", 1),
    Seen("brain", 2),
    Seen("brain-2", 3),
    Seen("envoy", 4, is_overlapping=True, stop_grace_s=35),
    Seen("balancer", 5, is_overlapping=True, stop_grace_s=35),
    Seen("controllers", 6),
]


def test_the_supervisor_comes_first_and_the_rest_as_it_says() -> None:
    steps = plan_upgrade(RUNNING, takes_orders=True)
    assert [step.name for step in steps] == ["supervisor", *(each.name for each in RUNNING)]
    assert steps[0].action is Action.HAND_OVER


def test_a_supervisor_that_takes_no_orders_is_taken_over_from() -> None:
    assert plan_upgrade(RUNNING, takes_orders=False)[0].action is Action.TAKE_OVER


def test_what_listens_is_never_ended_before_its_successor_serves() -> None:
    actions = {step.name: step.action for step in plan_upgrade(RUNNING, takes_orders=True)}
    assert {name for name, action in actions.items() if action is Action.HOT_RESTART} == {"envoy", "balancer"}


def test_every_step_says_what_it_means() -> None:
    steps = plan_upgrade(RUNNING, takes_orders=True)
    assert steps[3] == Step("brain-2", Action.RESTART, "Envoy routes by itself for about a second")
    assert "at most 35 s" in steps[4].why
    assert all(step.why for step in steps)
