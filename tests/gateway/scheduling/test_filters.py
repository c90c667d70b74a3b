"""The header `external-filter`."""

from __future__ import annotations

import pytest

from pybrix.api.selectors import Selector
from pybrix.gateway.scheduling.filters import LabelFilter, parse_filter
from tests.support.gateway import make_endpoint, make_request, make_signals


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("env=prod", "", id="equal"),
        pytest.param("env in (prod, dev),tier", "", id="a set, and a key that exists"),
        pytest.param("env!=prod", "env is 'prod', asked for is env notin (prod)", id="not equal"),
        pytest.param("env=prod,zone=a", "it has no label zone, asked for is zone in (a)", id="a label that is missing"),
        pytest.param("!tier", "tier is '1', asked for is !tier", id="a key that must not exist"),
    ],
)
def test_labels_match_or_the_first_that_does_not_is_named(text: str, why: str) -> None:
    endpoint = make_endpoint("a", labels={"env": "prod", "tier": "1"})
    selector = parse_filter(text)
    assert isinstance(selector, Selector)
    request = make_request(selector=selector)
    assert LabelFilter().why_excluded(request, endpoint, make_signals()) == why


def test_without_the_header_every_endpoint_stays() -> None:
    assert LabelFilter().why_excluded(make_request(), make_endpoint("a"), make_signals()) == ""


@pytest.mark.parametrize("text", ["env=prod,,", "a b", "env in prod", "x" * 1025])
def test_what_is_no_selector_is_told(text: str) -> None:
    assert isinstance(parse_filter(text), str)
