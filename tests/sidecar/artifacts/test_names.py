"""Names from listings and archives stay below the artifact's directory."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.sidecar.artifacts.errors import ListingHostile
from pybrix.sidecar.artifacts.names import (
    checked_path,
    checked_paths,
    is_adapter_name,
    is_model_name,
    is_secret_name,
)

HOSTILE = [
    "",
    "/etc/passwd",
    "../x",
    "a/../../x",
    "a//b",
    "a/./b",
    "a/",
    "..",
    "a\\..\\b",
    "a\0b",
    "a\nb",
    "a/\x1b[31m",
    ".pybrix-artifact.json",
    "x" * 256,
    "a/" * 600 + "b",
    "\ud800",
]


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_hostile_names_are_refused(name: str) -> None:
    with pytest.raises(ListingHostile) as refusal:
        checked_path(name)
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize("name", ["a", "a/b.json", ".config", "a b", "ä/ö", "a..b", "...", "-rf"])
def test_plain_names_are_kept(name: str) -> None:
    assert checked_path(name) == name


@given(st.text(alphabet=st.sampled_from("./ab\\\0~"), max_size=30))
def test_what_passes_stays_below(name: str) -> None:
    try:
        path = PurePosixPath("/root/artifact") / checked_path(name)
    except ListingHostile:
        return
    assert path.is_relative_to("/root/artifact")
    assert ".." not in path.parts


@pytest.mark.parametrize(
    "names",
    [["a", "a"], ["a", "./a"], ["a", "a/b"], ["a/b", "a/b/c/d"], [str(i) for i in range(10_001)]],
    ids=["twice", "twice by dots", "file and directory", "deep", "too many"],
)
def test_listings_that_contradict_themselves_are_refused(names: list[str]) -> None:
    with pytest.raises(ListingHostile):
        checked_paths(names)


def test_names_as_kubernetes_allows_them() -> None:
    for name in ("a", "my.lora", "a-b.c-d", "x" * 253, "A_b"):
        assert is_adapter_name(name)
    for name in ("", ".a", "-a", "a/b", "x" * 254, "a b", "a\n"):
        assert not is_adapter_name(name)
    assert is_secret_name("my-secret.v1")
    for name in ("../x", "a/b", "", "A", "..data", "a..b"):
        assert not is_secret_name(name)
    assert is_model_name("Qwen2.5-7B")
    for name in ("..", ".pybrix-work", "a/b", ""):
        assert not is_model_name(name)
