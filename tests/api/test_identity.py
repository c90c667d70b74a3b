from __future__ import annotations

import pytest

from pybrix.api.core import Pod
from pybrix.api.identity import ObjectKey
from pybrix.api.meta import ObjectMeta


def test_prints_namespace_and_name() -> None:
    assert str(ObjectKey("prod", "web")) == "prod/web"
    assert str(ObjectKey("", "node-1")) == "node-1"


@pytest.mark.parametrize("key", [ObjectKey("prod", "web"), ObjectKey("", "node-1")], ids=str)
def test_parses_what_it_prints(key: ObjectKey) -> None:
    assert ObjectKey.parse(str(key)) == key


@pytest.mark.parametrize("text", ["", "/", "a/", "/b", "a/b/c"])
def test_refuses_other_text(text: str) -> None:
    with pytest.raises(ValueError, match="is not namespace/name"):
        ObjectKey.parse(text)


def test_pods_of_one_name_in_two_namespaces_have_two_keys() -> None:
    here = Pod(metadata=ObjectMeta(namespace="a", name="engine"))
    there = Pod(metadata=ObjectMeta(namespace="b", name="engine"))
    assert here.key != there.key
