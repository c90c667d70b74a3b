"""The extractor of a few series agrees with the full parser on them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from pybrix.engine.prometheus import Sample, extract_samples, extract_sums


@pytest.mark.parametrize(
    ("page", "want"),
    [
        pytest.param(b"", None, id="an empty page"),
        pytest.param(b"x 1\n", 1.0, id="no labels"),
        pytest.param(b"x 1", 1.0, id="no line end"),
        pytest.param(b'x{a="1"} 2\nx{a="2"} 3\n', 5.0, id="several label sets"),
        pytest.param(b"x_total 1\nyx 2\nx:y 3\n", None, id="other names that contain it"),
        pytest.param(b"# HELP x 7\n# TYPE x gauge\nx 1.5e3 1700000000\n", 1500.0, id="comments and a timestamp"),
        pytest.param(b'x{a="}{ x 9"} 4\n', 4.0, id="braces in a label"),
        pytest.param(b'x{a="\\"}"} 4\n', 4.0, id="an escaped quote in a label"),
        pytest.param(b'x{a="1"} 4 # {trace="{1}"} 2\n', 4.0, id="an exemplar"),
        pytest.param(b"x\nx \nx nonsense\nx{a= 1\n", None, id="lines that are no samples"),
        pytest.param(b"x{} 2\n", 2.0, id="empty labels"),
    ],
)
def test_sums_of_a_name(page: bytes, want: float | None) -> None:
    assert extract_sums(page, ["x"]) == ({} if want is None else {"x": want})


def test_infinities_are_values() -> None:
    assert extract_sums(b"x +Inf\n", ["x"]) == {"x": math.inf}


def test_labels_are_unescaped() -> None:
    page = b'x{a="q\\"b\\\\n\\n",b_2="v"} 1\n'
    assert extract_samples(page, "x") == [Sample({"a": 'q"b\\n\n', "b_2": "v"}, 1.0)]


@given(st.dictionaries(st.text(max_size=12), st.floats(allow_nan=False), max_size=5))
def test_it_agrees_with_the_librarys_parser(values: dict[str, float]) -> None:
    registry = CollectorRegistry()
    noise = Gauge("load_extra", "load load{", ["model"], registry=registry)
    gauge = Gauge("load", "what\nload 1 it is", ["model"], registry=registry)
    for label, value in values.items():
        noise.labels(label).set(1)
        gauge.labels(label).set(value)
    page = generate_latest(registry)
    want = [
        Sample(dict(sample.labels), sample.value)
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
        if sample.name == "load"
    ]
    assert extract_samples(page, "load") == want
