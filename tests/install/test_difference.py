"""A diff shows what a manifest would change, nothing that the server keeps itself, and no secret."""

from __future__ import annotations

import json
from typing import Any

from pybrix.install.difference import difference


def text(obj: dict[str, Any]) -> str:
    return json.dumps(obj, indent=1)


def config_map(value: str, **metadata: Any) -> dict[str, Any]:
    return {"kind": "ConfigMap", "metadata": {"namespace": "n", "name": "c", **metadata}, "data": {"k": value}}


def test_what_only_the_server_changes_is_no_difference() -> None:
    live = config_map("a", resourceVersion="5", uid="u", generation=1, managedFields=[1]) | {"status": {"x": 1}}
    assert difference(live, config_map("a", resourceVersion="6"), text) == ""


def test_a_change_is_a_unified_diff_under_the_objects_name() -> None:
    shown = difference(config_map("a"), config_map("b"), text)
    assert "--- live/ConfigMap/n/c" in shown
    assert "+++ merged/ConfigMap/n/c" in shown
    assert '-  "k": "a"' in shown
    assert '+  "k": "b"' in shown


def test_a_new_object_is_all_added() -> None:
    shown = difference(None, config_map("a"), text)
    assert all(line.startswith(("+", "---", "@@")) for line in shown.splitlines())


def test_values_of_secrets_are_hidden_and_a_change_of_one_is_not() -> None:
    def secret(value: str, label: str = "x") -> dict[str, Any]:
        return {"kind": "Secret", "metadata": {"name": "s", "labels": {"l": label}}, "data": {"password": value}}

    changed = difference(secret("b2xk"), secret("bmV3"), text)
    assert "b2xk" not in changed
    assert "bmV3" not in changed
    assert "*** (before)" in changed
    assert "*** (after)" in changed
    relabelled = difference(secret("b2xk"), secret("b2xk", "y"), text)
    assert "b2xk" not in relabelled
    created = difference(None, secret("bmV3"), text)
    assert "bmV3" not in created


def test_the_order_of_keys_is_no_difference() -> None:
    live = config_map("a") | {"spec": {"list": [{"x": 1, "y": 2}], "other": 1}}
    merged = config_map("b") | {"spec": {"other": 1, "list": [{"y": 2, "x": 1}]}}
    changed = [line for line in difference(live, merged, text).splitlines() if line[:1] in "+-"]
    assert changed[2:] == ['-  "k": "a"', '+  "k": "b"']
