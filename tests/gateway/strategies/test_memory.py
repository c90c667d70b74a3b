"""What strategies keep is bounded, whatever clients send and however many ends are never heard of."""

from __future__ import annotations

import itertools
import random

import pytest

from pybrix.gateway.framework.types import Decision
from pybrix.gateway.indexes.backlog import MAX_AWAITED, PrefillBacklogs
from pybrix.gateway.indexes.prefix import PrefixIndex
from pybrix.gateway.indexes.tokenhistory import SLICES
from pybrix.gateway.indexes.usertokens import UserTokens
from pybrix.gateway.scheduling.profile import MAX_COMBINATIONS
from pybrix.gateway.scheduling.registry import Indexes, build_strategies, strategy_names
from tests.support.gateway import World, ask, facts, view_of

REQUESTS = 6000
BLOCKS, USERS = 500, 200
TEXTS = {f"random:{weight},prefix-cache": None for weight in range(2 * MAX_COMBINATIONS)}


@pytest.mark.parametrize("is_ended", [True, False], ids=["all end", "no end is heard of"])
def test_no_two_requests_alike(is_ended: bool) -> None:
    indexes = Indexes(prefix=PrefixIndex(BLOCKS), backlogs=PrefillBacklogs(), users=UserTokens(USERS))
    strategies = build_strategies(random.Random(1), indexes)
    world = World(
        view_of(*(facts(f"p{n}", ip=f"127.64.0.{n}") for n in range(1, 3))), strategies=list(strategies.values())
    )
    names = itertools.cycle([*strategy_names(), *TEXTS])
    for number in range(REQUESTS):
        question = ask(strategy=next(names), user=f"user-{number}", messages=[{"content": f"{number:04}" * 64}])
        question.session_id, question.session_key = f"id-{number}", f"key-{number}"
        answer = world.director.decide(question)
        assert isinstance(answer, Decision)
        if is_ended:
            world.reservations.release(answer.reservation)
        world.clock.seconds += 0.02
    assert len(indexes.prefix) <= 2 * BLOCKS
    assert indexes.prefix.block_count <= 2 * BLOCKS
    assert len(indexes.users) <= USERS
    assert all(len(r.ahead) <= MAX_AWAITED for r in indexes.backlogs._reservoirs.values())
    assert all(len(w.slices) <= SLICES + 1 for w in indexes.history._windows.values())
    assert len(world.director.counters.decisions) <= len(strategy_names()) + 1, "one label for all combinations"
