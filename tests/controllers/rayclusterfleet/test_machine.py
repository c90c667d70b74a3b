"""Fleets and their sets against an API that lags, loses and refuses, and a KubeRay that fails: a state machine.

The real controllers run in virtual time. What must hold holds at every write: never more than `replicas + maxSurge`
clusters, those on their way out included; never fewer than `replicas - maxUnavailable` available ones by the
controllers' own doing; no cluster deleted whose head gateways find or found a moment ago, or that has requests before
the deadline. In the end everything converges and nothing is left behind.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import Any, cast

import aiohttp
import looptime
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from pybrix.api.config import ControllersConfiguration
from pybrix.api.core import Pod
from pybrix.api.meta import Object
from pybrix.api.orchestration.v1alpha1.rayclusterfleet import RayClusterFleet
from pybrix.api.orchestration.v1alpha1.rayclusterreplicaset import RayClusterReplicaSet
from pybrix.api.ray import RayCluster
from pybrix.controllers.rayclusterfleet.controller import RAYCLUSTERFLEET
from pybrix.controllers.rayclusterfleet.render import is_same_template
from pybrix.controllers.rayclusterfleet.state import goal
from pybrix.controllers.rayclusterreplicaset.clusters import is_leaving, is_ready
from pybrix.controllers.rayclusterreplicaset.controller import RAYCLUSTERREPLICASET
from pybrix.controllers.rayclusterreplicaset.plan import SETTLE_S
from pybrix.controllers.rayclusterreplicaset.state import DEFAULT_DRAIN_DEADLINE_S
from pybrix.controllers.registration import Setup
from pybrix.kube.errors import Conflict, StatusError
from pybrix.runtime.manager import Manager
from pybrix.runtime.workqueue import LAST_BACKOFF_S
from tests.support.clocks import LoopClock
from tests.support.fleets import FleetApi, SimulatedHeads, SimulatedKubeRay, lost, make_fleet

MOST_FAILURES = 3
"""Clusters that fail in one run: after each the wait for the next replacement doubles."""
SETTLED_S = 4 * 3600.0
"""Virtual time after which everything has happened that can."""


class FleetMachine(RuleBasedStateMachine):
    """One fleet; rules are what users, the network, KubeRay and crashes do."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = looptime.new_event_loop()
        self.clock = LoopClock(self.loop)
        self.api = FleetApi(self.clock)
        self.api.on_write = self.check_size
        self.api.on_cluster_leaves = self.check_leaving
        self.chance = random.Random(7)
        self.kuberay = SimulatedKubeRay(self.api, self.chance)
        self.heads = SimulatedHeads(self.api)
        self.failed = 0
        self.failures_since_settled = 0
        self.known: set[str] = set()
        self.most, self.least = 0, 0
        self.problems: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.manager: asyncio.Task[None] | None = None

    # What is there

    @property
    def fleet(self) -> RayClusterFleet:
        (fleet,) = self.api.all(RayClusterFleet)
        return fleet

    def clusters(self) -> list[RayCluster]:
        return self.api.all(RayCluster)

    def ready(self) -> list[RayCluster]:
        return [c for c in self.clusters() if is_ready(c) and not c.metadata.is_terminating]

    def serving(self) -> list[RayCluster]:
        return [c for c in self.clusters() if is_ready(c) and not is_leaving(c)]

    def run(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))
        assert not self.problems, self.problems[0]

    # What must hold at every write

    def check_size(self) -> None:
        present = {c.uid for c in self.clusters()}
        if present - self.known and len(present) > self.most:
            self.problems.append(f"{len(present)} clusters exist, at most {self.most} may")
        self.known |= present
        for cluster in self.clusters():
            if is_ready(cluster) and cluster.uid not in self.left and is_leaving(cluster):
                self.left.add(cluster.uid)
                self.check_available("drained")

    def check_leaving(self, cluster: RayCluster) -> None:
        """Judge the deletion of a cluster by a controller, by what is true and not by what it noted."""
        for head in self.kuberay.heads(cluster):
            if head.uid in self.api.found:
                self.problems.append(f"{cluster.metadata.name} is deleted, and gateways still find its head")
            left_at_s = self.api.left_at_s.get(head.uid)
            if left_at_s is None:
                continue
            # Times of conditions are whole seconds.
            out_s = self.clock.monotonic_s() - left_at_s + 1
            is_idle = self.heads.answers.get(head.status.pod_ip) == 0
            if out_s < SETTLE_S or (out_s < DEFAULT_DRAIN_DEADLINE_S and not is_idle):
                left = "no" if is_idle else "some"
                self.problems.append(
                    f"{cluster.metadata.name} is deleted {out_s - 1} s after its head left: {left} requests"
                )

    def check_available(self, what: str) -> None:
        # What failed since the controllers last saw everything is not their doing.
        available = len(self.serving()) + self.failures_since_settled
        if available < self.least:
            self.problems.append(f"a cluster is {what}, {available} are available, at least {self.least} must be")

    def bounds(self) -> tuple[int, int]:
        wanted = goal(self.fleet)
        least = wanted.replicas - wanted.max_unavailable if wanted.is_rolling else 0
        return wanted.replicas + wanted.max_surge, least

    def changed(self) -> None:
        """Controllers may still act on what was asked for before, until they have seen everything."""
        most, least = self.bounds()
        self.most, self.least = max(self.most, most), min(self.least, least)

    # What happens

    @initialize(
        replicas=st.integers(0, 4),
        limits=st.sampled_from([(None, None), (0, 1), (1, 0), (2, 1), ("50%", "50%")]),
        min_ready=st.sampled_from([0, 0, 4]),
    )
    def begin(self, replicas: int, limits: tuple[Any, Any], min_ready: int) -> None:
        fleet = make_fleet(
            replicas, max_surge=limits[0], max_unavailable=limits[1], minReadySeconds=min_ready, revisionHistoryLimit=2
        )
        self.left: set[str] = set()
        self.api.put(fleet)
        self.most, self.least = self.bounds()
        self.tasks.append(self.loop.create_task(self.kuberay.run()))
        self.start()

    def start(self) -> None:
        manager = Manager(self.api, component="test", clock=self.clock, chance=self.chance)
        config = ControllersConfiguration()
        setup = Setup(manager, config, self.clock, self.chance, cast(aiohttp.ClientSession, self.heads))
        for registration in (RAYCLUSTERREPLICASET, RAYCLUSTERFLEET):
            for controller in registration.build(setup):
                manager.add(controller)
        self.manager = self.loop.create_task(manager.run())

    def stop(self) -> None:
        assert self.manager is not None
        self.manager.cancel()
        with suppress(asyncio.CancelledError):
            self.loop.run_until_complete(self.manager)

    def edit(self, spec: dict[str, Any], **annotations: str) -> None:
        patch: dict[str, Any] = {"spec": spec} if spec else {}
        if annotations:
            patch["metadata"] = {"annotations": annotations}
        self.api.change(self.fleet, patch)
        self.changed()

    @rule(replicas=st.integers(0, 4))
    def scale(self, replicas: int) -> None:
        self.edit({"replicas": replicas})

    @rule(image=st.sampled_from(["v1", "v2", "v3", "broken"]))
    def update(self, image: str) -> None:
        self.kuberay.broken_images = {"broken"}
        template = make_fleet(image=image).to_dict()["spec"]["template"]
        self.edit({"template": template})

    @rule(is_paused=st.booleans())
    def pause(self, is_paused: bool) -> None:
        self.edit({"paused": is_paused})

    @rule()
    def roll_back(self) -> None:
        self.edit({}, **{"deprecated.deployment.rollback.to": "0"})

    @rule(strategy=st.sampled_from(["RollingUpdate", "Recreate"]))
    def change_strategy(self, strategy: str) -> None:
        limits = {"maxSurge": 1, "maxUnavailable": 0} if strategy == "RollingUpdate" else None
        self.edit({"strategy": {"type": strategy, "rollingUpdate": limits}})

    @precondition(lambda self: self.api.all(RayClusterReplicaSet))
    @rule(which=st.integers(0, 3))
    def delete_set(self, which: int) -> None:
        """Delete a set by hand; what is missing after that is nobody else's doing."""
        sets = self.api.all(RayClusterReplicaSet)
        self.api.end_set(sets[which % len(sets)])
        self.least = 0

    @rule(requests=st.integers(0, 2))
    def load(self, requests: int) -> None:
        self.heads.requests = requests

    @rule(is_lost=st.booleans(), count=st.integers(1, 2))
    def fail_writes(self, is_lost: bool, count: int) -> None:
        self.api.before += [lost() if is_lost else Conflict(409, "Conflict", "newer")] * count

    @rule(is_answered=st.booleans())
    def lose_an_answer(self, is_answered: bool) -> None:
        self.api.after.append(StatusError(500, "InternalError", "etcd is away") if is_answered else lost())

    @rule(kinds=st.sampled_from([(), (Pod,), (RayCluster,), (RayClusterReplicaSet,)]))
    def lag(self, kinds: tuple[type[Object], ...]) -> None:
        self.api.hold(*kinds)

    @rule()
    def catch_up(self) -> None:
        self.api.release()

    @rule()
    def drop_watches(self) -> None:
        self.api.end_watches()

    @rule()
    def lose_events(self) -> None:
        self.api.compact()
        self.api.end_watches()

    @rule(after=st.integers(0, 3))
    def crash(self, after: int) -> None:
        """End the controllers at the n-th write from now, or where they are when none comes."""
        wanted, counted = self.api.writes + after, self.api.on_write
        assert self.manager is not None
        victim = self.manager

        def count() -> None:
            counted()
            if self.api.writes >= wanted:
                victim.cancel()

        self.api.on_write = count
        self.run(2.0)
        self.api.on_write = counted
        self.stop()
        self.start()

    @precondition(lambda self: self.failed < MOST_FAILURES and self.ready())
    @rule(which=st.integers(0, 3), is_head_lost=st.booleans(), is_healed=st.booleans())
    def fail_cluster(self, which: int, is_head_lost: bool, is_healed: bool) -> None:
        """Fail a cluster, one that drains not excepted."""
        self.failed += 1
        self.failures_since_settled += 1
        candidates = self.ready()
        victim = candidates[which % len(candidates)]
        self.kuberay.fail(victim, is_head_lost=is_head_lost)
        if is_healed:
            self.run(5.0)
            for cluster in self.clusters():
                if cluster.uid == victim.uid and not cluster.metadata.is_terminating:
                    self.kuberay.heal(cluster)

    @rule(seconds=st.sampled_from([0.0, 0.5, 3.0, 20.0, 200.0]))
    def wait(self, seconds: float) -> None:
        self.run(seconds)

    @rule()
    def settle(self) -> None:
        """Let the controllers see everything: from now on only the present spec counts."""
        self.api.release()
        # Longer than the longest pause after failures, which conflicts with a lagging cache may have brought.
        self.run(LAST_BACKOFF_S + 100.0)
        self.most, self.least = self.bounds()
        self.failures_since_settled = len([c for c in self.clusters() if not is_ready(c) and not is_leaving(c)])

    # The end

    def teardown(self) -> None:
        try:
            if self.manager is not None:
                self.converge()
        finally:
            for task in [*self.tasks, *([self.manager] if self.manager is not None else [])]:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    self.loop.run_until_complete(task)
            self.loop.close()

    def converge(self) -> None:
        self.api.before.clear()
        self.api.after.clear()
        self.api.release()
        self.heads.requests = 0
        self.kuberay.broken_images.clear()
        self.api.changed.set()
        self.edit({"paused": False})
        self.run(SETTLED_S)
        fleet = self.fleet
        sets = {s.uid: s for s in self.api.all(RayClusterReplicaSet)}
        owners = [sets.get(c.metadata.controller.uid) for c in self.clusters() if c.metadata.controller is not None]
        assert len(owners) == len(self.clusters()), "a cluster has no controller"
        for owner in owners:
            assert owner is not None, "a cluster outlived its set"
            assert is_same_template(owner.spec.template, fleet.spec.template), "a cluster is of an old template"
        assert len(self.serving()) == len(self.clusters()) == fleet.spec.replicas
        assert fleet.status.available_replicas == fleet.status.replicas == fleet.spec.replicas
        assert fleet.status.observed_generation == fleet.metadata.generation
        assert len(sets) <= 3, "old revisions are left"
        before = self.api.revision
        self.run(3600.0)
        assert self.api.revision == before, "something is written although nothing changes"


def test_whatever_happens_the_promises_hold_and_the_end_is_as_asked() -> None:
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        FleetMachine,
        settings=settings(max_examples=50, stateful_step_count=25, deadline=None, suppress_health_check=checks),
    )


@pytest.mark.soak
def test_whatever_happens_for_long() -> None:
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        FleetMachine,
        settings=settings(max_examples=1000, stateful_step_count=50, deadline=None, suppress_health_check=checks),
    )
