"""Filters: which endpoints a request may go to at all. Pure."""

from __future__ import annotations

from functools import lru_cache

from pybrix.api.selectors import Selector, parse_label_selector
from pybrix.gateway.framework.signals import Signals
from pybrix.gateway.framework.types import Endpoint, InferenceRequest

MAX_FILTER_CHARS = 1024
_CACHED = 1024


@lru_cache(_CACHED)
def parse_filter(text: str) -> Selector | str:
    """Return the selector of an `external-filter`, or what is wrong with it."""
    if len(text) > MAX_FILTER_CHARS:
        return f"it is longer than {MAX_FILTER_CHARS} characters"
    try:
        return parse_label_selector(text)
    except ValueError as err:
        return str(err)


class LabelFilter:
    """Keeps the endpoints whose pod's labels match the header `external-filter`."""

    name = "external-filter"

    def why_excluded(self, request: InferenceRequest, endpoint: Endpoint, signals: Signals) -> str:
        selector = request.selector
        if selector is None or selector.matches(endpoint.labels):
            return ""
        missed = next(each for each in selector.requirements if not each.matches(endpoint.labels))
        value = endpoint.labels.get(missed.key)
        has = f"{missed.key} is {value!r}" if value is not None else f"it has no label {missed.key}"
        return f"{has}, asked for is {missed}"
