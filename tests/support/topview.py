"""Documents of `/debug/view`, as a brain renders them."""

from __future__ import annotations

import random
from typing import Any

from pybrix.gateway.framework.outcome import AccessRecord
from pybrix.gateway.framework.signals import EngineMetrics
from pybrix.gateway.framework.types import Decision
from pybrix.gateway.modelconfigs import ConfigProblems
from pybrix.gateway.scheduling.profile import Profile
from pybrix.gateway.scheduling.registry import build_strategies
from pybrix.gateway.state import BrainState, render_state
from tests.support.gateway import World, ask, facts, view_of

AGE_S = 1.5


def served_world() -> World:
    """Return a world: `m` on two pods, three requests in flight, one that ended; `n` of team on one, which failed."""
    pods = [
        facts("a", ip="127.64.0.1"),
        facts("b", ip="127.64.0.2"),
        facts("c", namespace="team", model="n", ip="127.64.0.3"),
    ]
    pods.append(facts("d", namespace="team", model="sleepy", ready=False, ip="127.64.0.4"))
    world = World(view_of(*pods))

    def end(model: str, **fields: Any) -> None:
        decision = world.director.decide(ask(model, stream=True))
        assert isinstance(decision, Decision)
        known: dict[str, Any] = {"flags": "", "ttft_ms": 200.0, "duration_ms": 900.0, "cached_tokens": 25}
        known |= {"prompt_tokens": 100, "completion_tokens": 9, "attempts": 1, "request_id": "i", "cluster": ""}
        known |= {"reservation": decision.reservation, "upstream": decision.endpoints[0].host, "status": 200}
        world.director.account(AccessRecord(is_renewal=False, **{**known, **fields}))

    end("m")
    end("n", status=500, ttft_ms=None, prompt_tokens=0, completion_tokens=0)
    for _ in range(3):
        world.director.decide(ask())
    for pod, ratio in (("a", 0.25), ("b", 0.75)):
        metrics = EngineMetrics(world.clock.seconds - AGE_S, kv_cache_ratio=ratio, prefix_hit_ratio=0.5)
        host = next(e for e in world.view.by_host.values() if e.pod_name == pod)
        world.metrics.put(host.id, metrics)
    return world


def document_of(world: World) -> dict[str, Any]:
    state = BrainState("0a1b2c3d", 900.0, "api", is_xds_written=True, is_serving=True)
    return render_state(
        state,
        world.view,
        world.loads,
        world.metrics,
        world.reservations,
        contact_age_s=0.4,
        now_s=world.clock.seconds,
        traffic=world.director.traffic,
        config_problems=ConfigProblems(Profile(build_strategies(random.Random(1)))),
    )
