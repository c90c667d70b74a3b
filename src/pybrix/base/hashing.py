"""Hashes and suffixes that appear in object names."""

from __future__ import annotations

import hashlib
import json
import random
from typing import Any

# No vowels and no 0, 1, 3: generated names never spell a word (k8s.io/apimachinery/pkg/util/rand).
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def template_hash(template: Any, collision_count: int = 0) -> str:
    """Return a short label-safe hash of a JSON-like value: 10 characters, stable across processes.

    The same role as upstream's `ComputeHash`, not the same value: it hashes canonical JSON.
    """
    canonical = json.dumps([template, collision_count], sort_keys=True, separators=(",", ":"))
    number = int.from_bytes(hashlib.sha256(canonical.encode()).digest()[:16], "big")
    letters = []
    for _ in range(10):
        number, index = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[index])
    return "".join(letters)


def random_suffix(chance: random.Random, length: int = 5) -> str:
    """Return the random suffix that `generateName` appends."""
    return "".join(chance.choice(_ALPHABET) for _ in range(length))
