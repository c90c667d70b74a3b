"""Many requests by every strategy while endpoints come and go: counters return to zero, and memory stays flat."""

from __future__ import annotations

import gc
import random
import sys
from collections.abc import Iterator

from pybrix.gateway.framework.outcome import AccessRecord
from pybrix.gateway.framework.types import Decision
from pybrix.gateway.scheduling.registry import Indexes, build_strategies, strategy_names
from pybrix.gateway.view.snapshot import ClusterView
from tests.support.gateway import World, ask, facts, view_of

STEP_S = 0.05
IN_FLIGHT = 40
REQUESTS_A_GENERATION = 2000
GENERATIONS = 6


def views() -> Iterator[ClusterView]:
    """Return eight pods of two models in two namespaces, half of them other pods each time."""
    generation = 0
    while True:
        pods = []
        for n in range(16):
            born = generation if n % 2 else generation // 4
            model, namespace = ("m", "other")[n % 4 // 2], ("default", "team-b")[n // 8]
            address = f"127.64.{born % 250}.{n + 1}"
            pods.append(facts(f"p{n}", uid=f"u{born}-{n}", ip=address, model=model, namespace=namespace))
        yield view_of(*pods)
        generation += 1


def test_nothing_is_left_of_requests_that_ended_and_of_endpoints_that_left() -> None:
    indexes, chance, generations = Indexes(), random.Random(11), views()
    world = World(next(generations), strategies=list(build_strategies(random.Random(3), indexes).values()))
    names = [name for name in strategy_names() if name != "pd"] + ["prefix-cache:2,least-request:1"]
    held: list[Decision] = []
    number, blocks = 0, list[int]()

    def finish(decision: Decision) -> None:
        """End a request in one of the ways there are; of some, nobody ever hears."""
        way = chance.random()
        if way < 0.02:
            return
        endpoint = decision.endpoints[-1 if way < 0.1 else 0]
        status = 200 if way < 0.95 else 500
        world.director.account(
            AccessRecord(
                decision.reservation, False, endpoint.host, status, "", 40.0, 400.0, 300, 20, 0, 1 + (way < 0.1),
                f"id{number}", f"{endpoint.namespace}/{endpoint.model}",
            )
        )  # fmt: skip

    for _ in range(GENERATIONS):
        for _ in range(REQUESTS_A_GENERATION):
            number += 1
            content = f"Conversation {chance.randrange(400)}: " + "and so on " * chance.randrange(60)
            question = ask(
                chance.choice(("m", "other")),
                namespace=chance.choice(("default", "team-b")),
                strategy=names[number % len(names)],
                user=f"user-{chance.randrange(5000)}",
                stream=number % 2 == 0,
                messages=[{"role": "user", "content": content}],
            )
            decision = world.director.decide(question)
            assert isinstance(decision, Decision), decision
            held.append(decision)
            if len(held) > IN_FLIGHT:
                finish(held.pop(chance.randrange(len(held))))
            world.clock.seconds += STEP_S
            if not number % 20:
                world.director.expire()
                for index in indexes.by_endpoint:
                    index.collect()
        world.view = next(generations)
        live = world.view.endpoint_ids()
        for index in indexes.by_endpoint:
            index.retain(live)
        world.loads.prune(live)
        gc.collect()
        blocks.append(sys.getallocatedblocks())

    while held:
        finish(held.pop())
    world.clock.seconds += 60
    world.director.expire()
    assert len(world.reservations) == 0
    world.loads.prune(set())
    assert len(world.loads) == 0, "a counter that did not return to zero keeps its endpoint"
    for index in indexes.by_endpoint:
        index.retain(set())
        while index.collect():
            pass
    assert len(indexes.prefix) == indexes.prefix.block_count == 0
    # The first generations fill what is bounded: the history of decisions, the users, the prompts.
    growth = (blocks[-1] - blocks[2]) / blocks[2]
    assert growth < 0.05, blocks
