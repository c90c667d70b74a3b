"""The work queue's promises: no key twice, none in two hands, none lost."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.runtime.workqueue import WorkQueue

pytestmark = pytest.mark.looptime


async def test_a_waiting_key_is_not_queued_twice() -> None:
    queue = WorkQueue[str]()
    queue.add("a")
    queue.add("b")
    queue.add("a")
    assert len(queue) == 2
    assert [await queue.get(), await queue.get()] == ["a", "b"]


async def test_a_key_added_while_worked_on_comes_again_after_done() -> None:
    queue = WorkQueue[str]()
    queue.add("a")
    assert await queue.get() == "a"
    queue.add("a")
    assert len(queue) == 0, "nobody else gets it meanwhile"
    queue.done("a")
    assert await queue.get() == "a"
    queue.done("a")
    assert len(queue) == 0


async def test_of_several_delays_the_earliest_counts() -> None:
    queue = WorkQueue[str]()
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    queue.add_after("a", 50)
    queue.add_after("a", 10)
    queue.add_after("a", 30)
    assert await queue.get() == "a"
    assert loop.time() - began_s == pytest.approx(10)
    queue.done("a")
    await asyncio.sleep(100)
    assert len(queue) == 0


async def test_adding_now_ends_a_delay() -> None:
    queue = WorkQueue[str]()
    queue.add_after("a", 50)
    queue.add("a")
    assert await queue.get() == "a"
    queue.done("a")
    await asyncio.sleep(100)
    assert len(queue) == 0


async def test_backoff_doubles_per_key_until_it_is_forgotten() -> None:
    queue = WorkQueue[str]()
    assert [queue.add_failed("a") for _ in range(4)] == [0.005, 0.01, 0.02, 0.04]
    assert queue.add_failed("b") == 0.005
    assert queue.failures("a") == 4
    queue.forget("a")
    assert queue.failures("a") == 0
    assert queue.add_failed("a") == 0.005


async def test_backoff_has_a_limit_however_many_failures() -> None:
    queue = WorkQueue[str]()
    delays = [queue.add_failed("a") for _ in range(3000)]
    assert delays[-1] == 1000
    queue.shut_down()


async def test_shut_down_wakes_the_workers_and_takes_nothing_more() -> None:
    queue = WorkQueue[str]()
    workers = [asyncio.create_task(queue.get()) for _ in range(3)]
    await asyncio.sleep(0)
    queue.shut_down()
    queue.add("a")
    queue.add_after("a", 1)
    assert await asyncio.gather(*workers) == [None, None, None]


async def test_a_cancelled_worker_passes_its_call_on() -> None:
    queue = WorkQueue[str]()
    first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("a")
    first.cancel()
    assert await asyncio.wait_for(second, 1) == "a"
    with pytest.raises(asyncio.CancelledError):
        await first


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4)), max_size=40), st.integers(1, 4))
def test_every_addition_is_followed_by_work_and_no_key_is_in_two_hands(
    additions: list[tuple[str, int]], workers: int
) -> None:
    async def play() -> None:
        queue = WorkQueue[str]()
        state = dict.fromkeys("abc", 0)
        worked = dict.fromkeys("abc", 0)
        held: set[str] = set()

        async def work() -> None:
            while (key := await queue.get()) is not None:
                assert key not in held
                held.add(key)
                worked[key] = state[key]
                for _ in range(3):
                    await asyncio.sleep(0)
                held.discard(key)
                queue.done(key)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work()) for _ in range(workers)]
            for key, pauses in additions:
                state[key] += 1
                queue.add(key)
                for _ in range(pauses):
                    await asyncio.sleep(0)
            for _ in range(200):
                await asyncio.sleep(0)
            queue.shut_down()
            await asyncio.wait(tasks)
        assert worked == state

    asyncio.run(play())
