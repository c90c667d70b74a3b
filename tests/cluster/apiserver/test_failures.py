"""Values in refusals look as they do in manifests."""

from __future__ import annotations

from typing import Any

import pytest

from pybrix.cluster.apiserver.failures import bad_request, invalid_value, no_such_path, not_found, status_body


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"app": "é", "n": None}, '{"app":"é","n":null}'),
        (["a", True], '["a",true]'),
        ("a", '"a"'),
        (5, "5"),
        (True, "true"),
    ],
)
def test_values_are_json(value: Any, shown: str) -> None:
    assert invalid_value("spec.selector", value, "no").message == f"Invalid value: {shown}: no"


def test_every_not_found_has_details() -> None:
    assert status_body(no_such_path())["details"] == {}
    assert status_body(not_found("pods", "", "web-0"))["details"] == {"name": "web-0", "kind": "pods"}
    assert "details" not in status_body(bad_request("no"))
