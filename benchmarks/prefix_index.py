"""Time and memory of the prefix index: what `prefix-affinity` and `prefix-cache` pay for each prompt.

The floor is one dictionary look-up a block: no index of hashed blocks can do with less. The published cost of AIBrix's
table (its Go code, 128-byte blocks, 32 KiB prompt held by 64 pods, measured on 2 cores) is printed beside it.

    python benchmarks/prefix_index.py [--seconds 1]
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from pybrix.api.identity import Uid
from pybrix.gateway.framework.types import EndpointId
from pybrix.gateway.indexes.blocks import BLOCK_BYTES, chain_of
from pybrix.gateway.indexes.prefix import PrefixIndex

HOLDERS = 64
PROMPT_BYTES = 32 * 1024
TARGET_US = 250.0
AIBRIX_US = 4600.0 + 240.0
PAIRS = 1_000_000
TARGET_MB = 250.0
ROUNDS = 7


def median_us(call: Callable[[], object], seconds: float) -> float:
    """Return the median over rounds of the time of one call."""
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds / ROUNDS:
        call()
        count += 1
    rounds = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        for _ in range(count):
            call()
        rounds.append((time.perf_counter() - begin) / count * 1e6)
    return statistics.median(rounds)


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def measure_time(seconds: float) -> None:
    chance = random.Random(1)
    endpoints = [EndpointId(Uid(f"uid-{n}"), 8000) for n in range(HOLDERS)]
    text = chance.randbytes(PROMPT_BYTES)
    chain = chain_of(text)
    index, plain = PrefixIndex(), dict.fromkeys(chain, 1)
    for endpoint in endpoints:
        index.insert(endpoint, chain)
    one = PrefixIndex()
    one.insert(endpoints[0], chain)

    def look_up() -> None:
        for block in chain:
            plain[block]

    floor = median_us(look_up, seconds)
    hashing = median_us(lambda: chain_of(text), seconds)
    match = median_us(lambda: index.match(chain, endpoints), seconds)
    match_one = median_us(lambda: one.match(chain, endpoints), seconds)
    insert = median_us(lambda: index.insert(endpoints[3], chain), seconds)
    print(f"{PROMPT_BYTES // 1024} KiB prompt, {len(chain)} blocks of {BLOCK_BYTES} bytes, medians of {ROUNDS} rounds")
    print(f"  floor (one dictionary look-up a block)   {floor:8.1f} us")
    print(f"  hash the blocks                          {hashing:8.1f} us  {hashing / floor:5.1f} of the floor")
    print(
        f"  match, held by 1 of {HOLDERS}                  {match_one:8.1f} us  {match_one / floor:5.1f} of the floor"
    )
    print(f"  match, held by all {HOLDERS}                   {match:8.1f} us  {match / floor:5.1f} of the floor")
    print(f"  insert what is held already              {insert:8.1f} us  {insert / floor:5.1f} of the floor")
    both = match + insert
    print(f"  match + insert, of the target            {both:8.1f} us  {both / TARGET_US:5.2f} of {TARGET_US:.0f} us")
    print(f"  AIBrix's table, as published             {AIBRIX_US:8.1f} us  {AIBRIX_US / both:5.1f} times as much")


def measure_memory() -> None:
    gc.collect()
    before = resident_mb()
    index, chance = PrefixIndex(PAIRS // HOLDERS), random.Random(1)
    for n in range(HOLDERS):
        endpoint = EndpointId(Uid(f"uid-{n}"), 8000)
        for _ in range(PAIRS // HOLDERS // 25):
            index.insert(endpoint, [chance.getrandbits(64) for _ in range(25)])
    used = resident_mb() - before
    print(f"{len(index)} pairs of block and endpoint, no block held twice")
    print(f"  memory, of the target                    {used:8.1f} MB  {used / TARGET_MB:5.2f} of {TARGET_MB:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="about how long each row takes twice over; 1")
    options = parser.parse_args()
    measure_time(options.seconds)
    measure_memory()


if __name__ == "__main__":
    main()
