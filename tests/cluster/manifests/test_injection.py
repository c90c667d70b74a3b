"""Sidecars put into text: what is there stays as it is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pybrix.api.sidecar import CONTAINER, injected
from pybrix.cluster.manifests.injection import inject_text, to_yaml
from pybrix.cluster.manifests.reading import read_text
from tests.support.injections import deployment, storm_service, workloads

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
TEXT = """\
# The chat model.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: chat   # its name
  annotations:
    model.aibrix.ai/sidecar-injection: "true"
spec:
  selector: {matchLabels: {app: chat}}
  template:
    metadata:
      labels: {app: chat}
    spec:
      containers:
      # The engine.
      - name: engine   # first
        image: vllm/vllm-openai
        args: ["--model", x]
      - {name: proxy, image: envoy}   # in brackets
      # That is all.
"""


def documents(text: str) -> list[Any]:
    read = read_text(text)
    assert read.problems == []
    return [node.to_value() for node in read.documents]


def test_comments_and_formatting_stay() -> None:
    done = inject_text(TEXT, "pybrix:1")
    assert (done.subjects, done.is_rewritten) == (("Deployment/chat",), False)
    assert documents(done.text) == [injected(value, "pybrix:1") for value in documents(TEXT)]
    left = iter(done.text.splitlines())
    for line in TEXT.splitlines():
        # Every line is there, in its order; what is in brackets gets longer.
        assert any(line == found or ("{name: proxy" in line and "{name: proxy" in found) for found in left), line
    assert "      # The engine.\n      - name: engine   # first\n" in done.text
    assert "}   # in brackets" in done.text


def test_twice_is_once() -> None:
    once = inject_text(TEXT).text
    again = inject_text(once)
    assert (again.text, again.subjects) == (once, ())


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.yaml")), ids=lambda p: p.name)
def test_manifests_that_do_not_ask_stay_as_they_are(path: Path) -> None:
    text = path.read_text()
    assert inject_text(text).text == text


WRITINGS: list[tuple[str, str]] = [
    (
        "indented lists",
        TEXT.replace("      - ", "        - ")
        .replace("        image", "          image")
        .replace("        args", "          args"),
    ),
    ("no newline at the end", TEXT.rstrip("\n").rpartition("\n")[0]),
    ("DOS lines", TEXT.replace("\n", "\r\n")),
    ("several documents", f"---\n{TEXT}---\na: 1\n...\n---\n{TEXT}"),
    (
        "volumes that are there",
        TEXT.replace(
            "      # That is all.", "      volumes:\n      - name: data\n        emptyDir: {}\n      dnsPolicy: Default"
        ),
    ),
    ("empty volumes", TEXT.replace("      # That is all.", "      volumes: []")),
    (
        "mounts that are there",
        TEXT.replace(
            '        args: ["--model", x]',
            "        volumeMounts:\n        - {name: d, mountPath: /d}\n        args: [x]",
        ),
    ),
    (
        "a text block at the end",
        TEXT.replace('args: ["--model", x]', "args:\n        - |\n          one\n          two"),
    ),
    ("a text block that keeps lines", TEXT.replace('args: ["--model", x]', "args:\n        - |+\n          one\n\n")),
    ("long plain text", TEXT.replace('args: ["--model", x]', "args:\n        - one\n          two")),
    ("quoted text over lines", TEXT.replace('args: ["--model", x]', 'args:\n        - "one\n          two"')),
    (
        "blank lines and comments between",
        TEXT.replace("        image: vllm", "\n        # what runs\n\n        image: vllm"),
    ),
    ("JSON", json.dumps(deployment(), indent=2)),
    ("JSON in one line", json.dumps(storm_service())),
    ("a list", to_yaml([{"apiVersion": "v1", "kind": "List", "items": [deployment(), storm_service()]}])),
    ("a JSON list", json.dumps({"apiVersion": "v1", "kind": "List", "items": [deployment(), storm_service()]})),
]


@pytest.mark.parametrize(("what", "text"), WRITINGS, ids=[what for what, _ in WRITINGS])
def test_every_way_to_write_is_edited_in_place(what: str, text: str) -> None:
    done = inject_text(text)
    assert not done.is_rewritten
    assert done.subjects
    assert CONTAINER in done.text
    got = documents(done.text)
    for before, after in zip(documents(text), got, strict=True):
        if before.get("kind") == "List":
            assert after["items"] == [injected(item) for item in before["items"]]
        else:
            assert after == injected(before)


@pytest.mark.parametrize(
    "text",
    [
        TEXT.replace("      - {name", "      - &e {name").replace("      # That is all.", "      - *e"),
        TEXT.replace("      - name: engine   # first\n        image", "      -\n        name: engine\n        image"),
        TEXT.replace("{name: proxy, image: envoy}", "{name: proxy, image: envoy,}"),
    ],
    ids=["shared anchor", "a dash alone", "a comma at the end"],
)
def test_what_cannot_be_edited_is_written_anew(text: str) -> None:
    done = inject_text(text)
    assert done.is_rewritten
    assert documents(done.text) == [injected(value) for value in documents(text)]


@given(
    objects=st.lists(workloads(), min_size=1, max_size=3),
    style=st.sampled_from(["block", "flow", "mixed", "json", "indented"]),
)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_text_and_object_agree(objects: list[dict[str, Any]], style: str) -> None:
    match style:
        case "json":
            text = "\n".join(json.dumps(one) for one in objects)
        case "indented":
            text = to_yaml(objects)
        case _:
            flow = {"block": False, "flow": True, "mixed": None}[style]
            text = yaml.safe_dump_all(objects, default_flow_style=flow, sort_keys=False)
    done = inject_text(text)
    assert documents(done.text) == [injected(one) for one in objects]
    assert inject_text(done.text).text == done.text
    if style != "mixed":
        assert not done.is_rewritten
