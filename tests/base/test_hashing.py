from __future__ import annotations

import random

from pybrix.base.hashing import random_suffix, template_hash


def test_key_order_does_not_count_but_list_order_does() -> None:
    assert template_hash({"a": 1, "b": [1, 2]}) == template_hash({"b": [1, 2], "a": 1})
    assert template_hash({"b": [1, 2]}) != template_hash({"b": [2, 1]})


def test_a_collision_gives_another_hash_of_the_same_template() -> None:
    assert template_hash({"a": 1}, 0) != template_hash({"a": 1}, 1)


def test_hash_is_a_stable_label_value() -> None:
    # A different value after an upgrade would roll every Deployment.
    assert template_hash({"spec": {"containers": [{"name": "a"}]}}) == "sk7vd9882s"


def test_suffix_comes_from_the_given_chance() -> None:
    assert random_suffix(random.Random(7)) == random_suffix(random.Random(7))
    assert len(random_suffix(random.Random(7), 8)) == 8
