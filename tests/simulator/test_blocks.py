"""The block pool: references, reuse, eviction."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pybrix.simulator.blocks import BlockPool, next_hash, root_hash


def hashes(name: str, count: int) -> list[bytes]:
    found = [root_hash("m")]
    for index in range(count):
        found.append(next_hash(found[-1], f"{name}{index}".encode()))
    return found[1:]


def test_a_hash_stands_for_all_that_comes_before_it() -> None:
    assert next_hash(root_hash("a"), b"same") != next_hash(root_hash("b"), b"same")
    assert hashes("x", 3) == hashes("x", 3)


def test_a_shared_block_stays_until_its_last_holder_lets_go() -> None:
    pool = BlockPool(4)
    first = pool.allocate(2)
    assert first is not None
    for block, block_hash in zip(first, hashes("a", 2), strict=True):
        pool.register(block, block_hash)
    second = pool.allocate(1, reused=pool.find_prefix(hashes("a", 2)))
    assert second is not None
    assert second[:2] == first
    pool.release(first)
    assert pool.num_free == 1
    pool.release(second)
    assert pool.num_free == 4


def test_nothing_is_taken_when_there_is_not_enough() -> None:
    pool = BlockPool(3)
    held = pool.allocate(1)
    assert held is not None
    pool.register(held[0], hashes("a", 1)[0])
    pool.release(held)
    # The cached block is one of the three free ones: reusing it leaves two.
    assert pool.allocate(3, reused=pool.find_prefix(hashes("a", 1))) is None
    assert pool.num_free == 3


def test_a_prefix_outlives_its_continuation() -> None:
    pool = BlockPool(4)
    blocks = pool.allocate(3)
    assert blocks is not None
    for block, block_hash in zip(blocks, hashes("a", 3), strict=True):
        pool.register(block, block_hash)
    pool.release(blocks)
    assert pool.allocate(2) is not None
    assert pool.find_prefix(hashes("a", 3)) == blocks[:2]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 6), st.booleans()), max_size=30))
def test_free_and_held_blocks_add_up(script: list[tuple[str, int, bool]]) -> None:
    pool = BlockPool(10)
    held: list[list[int]] = []
    for name, count, is_released in script:
        wanted = hashes(name, count)
        reused = pool.find_prefix(wanted)
        blocks = pool.allocate(count - len(reused), reused=reused)
        if blocks is None:
            assert count - len(reused) > pool.num_free - len(set(reused) - {b for h in held for b in h})
        else:
            assert len(set(blocks)) == count
            for block, block_hash in zip(blocks, wanted, strict=True):
                pool.register(block, block_hash)
            held.append(blocks)
        if is_released and held:
            pool.release(held.pop(0))
        assert pool.num_free == 10 - len({block for blocks in held for block in blocks})
