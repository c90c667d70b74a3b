"""What validation says to mistakes: the line, the rule, the field, and what to write instead."""

from __future__ import annotations

import copy
import json
import random
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pybrix.api.crds import render_crds
from pybrix.api.policies import render_policies
from pybrix.api.scheme import CUSTOM_KINDS
from pybrix.base.clock import SystemClock
from pybrix.cluster.apiserver.catalog import Catalog
from pybrix.cluster.apiserver.objects import Objects
from pybrix.cluster.apiserver.options import WriteOptions
from pybrix.cluster.store.store import Store
from pybrix.cluster.validate.findings import RULES, Severity
from pybrix.kube.errors import StatusError
from tests.support.definitions import API_VERSION, definition, spec_schema
from tests.support.manifests import example
from tests.support.validating import findings, marked, validate

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"

HEAD = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"
DEPLOYMENT = """
    apiVersion: apps/v1
    kind: Deployment
    metadata:
      name: chat
    spec:
      replicas: 1
      selector:
        matchLabels: {app: chat}
      template:
        metadata:
          labels: {app: chat}
        spec:
          containers:
            - name: engine
              image: vllm/vllm-openai
              ports:
                - containerPort: 8000
"""
STORM = """
    apiVersion: orchestration.aibrix.ai/v1alpha1
    kind: StormService
    metadata:
      name: chat
    spec:
      replicas: 1
      selector:
        matchLabels: {app: chat}
      template:
        metadata:
          labels: {app: chat}
        spec:
          roles:
            - name: prefill
              replicas: 1
              template:
                metadata:
                  labels: {app: chat}
                spec:
                  containers:
                    - name: engine
                      image: vllm/vllm-openai
"""
SCALER = """
    apiVersion: autoscaling.aibrix.ai/v1alpha1
    kind: PodAutoscaler
    metadata:
      name: chat
      annotations:
        autoscaling.aibrix.ai/scale-to-zero: "true"
    spec:
      scaleTargetRef:
        kind: Deployment
        name: chat
      minReplicas: 1
      maxReplicas: 3
      scalingStrategy: APA
      metricsSources:
        - metricSourceType: pod
          protocolType: http
          port: "8000"
          path: /metrics
          targetMetric: num_requests_running
          targetValue: "8"
"""
ADAPTER = """
    apiVersion: model.aibrix.ai/v1alpha1
    kind: ModelAdapter
    metadata:
      name: support
    spec:
      baseModel: chat
      podSelector:
        matchLabels: {app: chat}
      artifactURL: huggingface://team/lora
"""

# Manifest, text in it, what stands there instead, rule, field path, a word of the message or the remedy.
MISTAKES: list[tuple[str, str, str, str, str, str]] = [
    (DEPLOYMENT, "replicas: 1", "replcas: 1 #!", "unknown-field", "spec.replcas", "did you mean replicas?"),
    (DEPLOYMENT, "replicas: 1", "Replicas: 1 #!", "unknown-field", "spec.Replicas", "did you mean replicas?"),
    (DEPLOYMENT, "replicas: 1", "containers: [] #!", "unknown-field", "spec.containers", "unknown field"),
    (DEPLOYMENT, "replicas: 1", "matchLabels: {} #!", "unknown-field", "spec.matchLabels", "belongs to selector"),
    (
        DEPLOYMENT,
        "image: vllm/vllm-openai",
        "image: i\n              restartPolicy: Always\n              dnsPolicy: Default #!",
        "unknown-field",
        "spec.template.spec.containers[0].dnsPolicy",
        "belongs to spec.template.spec",
    ),
    (DEPLOYMENT, "replicas: 1", 'replicas: "1" #!', "wrong-type", "spec.replicas", "without quotes"),
    (DEPLOYMENT, "replicas: 1", "replicas: 1.5 #!", "wrong-type", "spec.replicas", "number 1.5"),
    (DEPLOYMENT, "replicas: 1", "replicas: -1 #!", "invalid-value", "spec.replicas", "greater than or equal to 0"),
    (DEPLOYMENT, "name: chat", "name: Chat #!", "invalid-value", "metadata.name", "lower case"),
    (DEPLOYMENT, "name: chat", "labels: {v: 1.5} #!\n      name: chat", "wrong-type", "metadata.labels.v", '"1.5"'),
    (DEPLOYMENT, "name: chat", "labels: {v: on} #!\n      name: chat", "wrong-type", "metadata.labels.v", '"true"'),
    (
        DEPLOYMENT,
        "name: chat",
        "namespace: Not_One #!\n      name: chat",
        "invalid-value",
        "metadata.namespace",
        "lower case",
    ),
    (DEPLOYMENT, "metadata:\n      name: chat", "metadata: {} #!", "missing", "metadata.name", "generateName"),
    (
        DEPLOYMENT,
        "labels: {app: chat}",
        "labels: {app: other} #!",
        "invalid-value",
        "spec.template.metadata.labels",
        "does not match",
    ),
    (
        DEPLOYMENT,
        "selector:\n        matchLabels: {app: chat}",
        "selector: {} #!",
        "missing",
        "spec.selector",
        "Required",
    ),
    (
        DEPLOYMENT,
        "image: vllm/vllm-openai",
        "image: ' i' #!",
        "invalid-value",
        "spec.template.spec.containers[0].image",
        "whitespace",
    ),
    (
        DEPLOYMENT,
        "containerPort: 8000",
        "containerPort: 80000 #!",
        "invalid-value",
        "spec.template.spec.containers[0].ports[0].containerPort",
        "65535",
    ),
    (DEPLOYMENT, "replicas: 1", "replicas: 1\n      replicas: 2 #!", "duplicate-key", "", "twice"),
    (DEPLOYMENT, "kind: Deployment", "kind: Deploymnt #!", "unknown-kind", "kind", "did you mean Deployment?"),
    (DEPLOYMENT, "apiVersion: apps/v1\n    kind: D", "apiVersion: v1\n    kind: D", "unknown-kind", "kind", "apps/v1"),
    (
        DEPLOYMENT,
        "apps/v1\n    kind: Deployment",
        "apps/v1beta1\n    kind: Deployment #!",
        "unknown-kind",
        "kind",
        "known: apps/v1",
    ),
    (STORM, "name: prefill", "nam: prefill #!", "unknown-field", "spec.template.spec.roles[0].nam", "mean name?"),
    (STORM, "replicas: 1", "replicas: -1 #!", "invalid-value", "spec.replicas", "greater than or equal to 0"),
    (STORM, "name: chat", f"name: {'c' * 64} #!", "too-long", "metadata.name", "63"),
    (
        STORM,
        "          - name: prefill",
        f"          - podGroupSize: 2\n              name: {'p' * 30}",
        "invalid-value",
        "metadata.name",
        "pod names are made of both",
    ),
    (
        STORM,
        "matchLabels: {app: chat}",
        "matchLabels: {app: x}\n        # the selector above #",
        "invalid-value",
        "spec.selector",
        "match",
    ),
    (
        STORM,
        "containers:\n",
        "contianers: [] #!\n                  containers:\n",
        "pod-template",
        "spec.template.spec.roles[0].template.spec.contianers",
        "did you mean containers?",
    ),
    (
        STORM,
        "image: vllm/vllm-openai",
        "image: i\n                    - name: engine #!\n                      image: j",
        "pod-template",
        "spec.template.spec.roles[0].template.spec.containers[1].name",
        "Duplicate value",
    ),
    (SCALER, "APA", "apa #!", "unsupported-value", "spec.scalingStrategy", "did you mean APA?"),
    (SCALER, "maxReplicas: 3", "maxReplicas: 0 #!", "invalid-value", "spec.maxReplicas", "greater than or equal to 1"),
    (SCALER, "minReplicas: 1", "minReplicas: 9", "invalid-value", "spec.maxReplicas", "at least minReplicas"),
    (
        SCALER,
        'port: "8000"',
        "port: 8000 #!",
        "wrong-type",
        "spec.metricsSources[0].port",
        'in quotes it is a string: "8000"',
    ),
    (
        SCALER,
        'targetValue: "8"',
        "targetValue: many #!",
        "invalid-value",
        "spec.metricsSources[0].targetValue",
        "number",
    ),
    (
        SCALER,
        '"true"',
        '"maybe" #!',
        "policy",
        "metadata.annotations[autoscaling.aibrix.ai/scale-to-zero]",
        'must be "true" or "false"',
    ),
    (
        SCALER,
        "        name: chat\n      min",
        "      min",
        "invalid-value",
        "spec.scaleTargetRef.name",
        "name of the workload",
    ),
    (
        ADAPTER,
        "huggingface://team/lora",
        "{huggingface: lora} #!",
        "wrong-type",
        "spec.artifactURL",
        "must be of type string",
    ),
    (
        ADAPTER,
        "huggingface://team/lora",
        "hugingface://t/l #!",
        "invalid-value",
        "spec.artifactURL",
        "must be an absolute",
    ),
    (
        ADAPTER,
        "matchLabels: {app: chat}",
        "matchLabels: {} #",
        "invalid-value",
        "spec.podSelector",
        "at least one label",
    ),
    (ADAPTER, "kind: ModelAdapter", "kind: ModelAdaptor #!", "unknown-kind", "kind", "did you mean ModelAdapter?"),
    (
        ADAPTER,
        "model.aibrix.ai/v1alpha1",
        "model.aibrix.ai/v1",
        "unknown-kind",
        "kind",
        "known: model.aibrix.ai/v1alpha1",
    ),
]


@pytest.mark.parametrize(
    ("manifest", "right", "wrong", "rule", "path", "word"),
    MISTAKES,
    ids=[f"{right.strip()[:30]} -> {wrong.strip()[:30]}" for _, right, wrong, *_ in MISTAKES],
)
def test_mistake_is_found(manifest: str, right: str, wrong: str, rule: str, path: str, word: str) -> None:
    assert manifest.count(right) >= 1
    text = marked(manifest.replace(right, wrong, 1))
    assert findings(marked(manifest).text) == ()
    found = findings(text.text)
    hits = [f for f in found if f.rule == rule and f.path == path and word in f.sentence()]
    assert hits, found
    assert {f.rule for f in found} <= set(RULES)
    if text.lines:
        assert [f.line for f in hits] == [text.lines[-1]]


def test_all_mistakes_of_all_documents_are_found() -> None:
    text = marked(f"""{DEPLOYMENT.replace("replicas: 1", "replcas: 1 #!").replace("8000", "x #!")}
    ---
{SCALER.replace("maxReplicas: 3", "maxReplicas: many #!").replace("APA", "apa #!")}""")
    report = validate(text.text)
    assert [f.line for f in report.findings] == list(text.lines)
    assert (report.objects, report.errors, report.is_valid) == (2, 4, False)


@pytest.mark.parametrize("name", sorted(str(p.relative_to(EXAMPLES)) for p in EXAMPLES.rglob("*.yaml")))
def test_examples_are_valid(name: str) -> None:
    report = validate((EXAMPLES / name).read_text())
    assert report.findings == ()
    assert report.objects >= 1


def test_what_pybrix_prints_is_valid() -> None:
    printed = [*render_crds(), *render_policies()]
    report = validate(yaml.safe_dump_all(printed))
    assert (report.findings, report.objects) == ((), len(printed))


def test_kinds_that_files_define_are_known_in_all_of_them() -> None:
    widget = f"apiVersion: {API_VERSION}\nkind: Widget\nmetadata: {{name: w}}\nspec:\n  size: text\n"
    crd = yaml.safe_dump(definition(spec_schema({"size": {"type": "integer"}})))
    (found,) = validate(widget, crd).findings
    assert (found.path, found.rule, found.line) == ("spec.size", "wrong-type", 5)


def test_definition_that_is_wrong_defines_nothing() -> None:
    crd = definition({"type": "object", "properties": {"spec": {"type": "strange"}}})
    found = findings(yaml.safe_dump(crd))
    assert any(f.path.endswith("properties[spec].type") for f in found), found


def test_unknown_kind_is_a_warning_and_strictly_an_error() -> None:
    text = "apiVersion: example.com/v1\nkind: Thing\nmetadata: {name: x}\nspec: {any: thing}\n"
    (lenient,), (strict,) = findings(text), findings(text, is_strict=True)
    assert (lenient.severity, strict.severity) == (Severity.WARNING, Severity.ERROR)
    assert (lenient.line, lenient.rule) == (2, "unknown-kind")


def test_lists_are_checked_item_by_item() -> None:
    text = marked("""
        apiVersion: v1
        kind: List
        items:
          - {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}
          - apiVersion: v1
            kind: ConfigMap
            metadata:
              nam: b #!
          - 7 #!
    """)
    report = validate(text.text)
    assert report.objects == 2
    assert {f.line for f in report.findings if f.rule != "missing"} == set(text.lines)


def test_object_given_twice_is_a_warning() -> None:
    (found,) = validate(HEAD, HEAD.replace("v1\n", "v1\n\n")).findings
    assert (found.file, found.line, found.rule, found.severity) == ("m.yaml1", 4, "duplicate-object", Severity.WARNING)
    assert "m.yaml on line 1" in found.message


def test_json_has_places_too() -> None:
    text = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "dta": {}}, indent=2)
    (found,) = findings(text)
    assert (found.line, found.column, found.remedy) == (7, 3, "did you mean data?")


@pytest.mark.parametrize("text", ["- a\n", "just text\n", "7\n", "kind: X\n", "apiVersion: v1\n", "[]"])
def test_what_is_no_object_is_refused(text: str) -> None:
    assert {f.rule for f in findings(text)} == {"not-an-object"}


def test_nothing_at_all_is_valid_but_said() -> None:
    (found,) = validate("", "# a comment\n", "---\n---\n").findings
    assert (found.severity, found.rule) == (Severity.WARNING, "no-objects")


def test_megabyte_of_unknown_fields_gives_a_short_answer() -> None:
    junk = {f"k{i}": [{"x": i}] for i in range(20_000)}
    found = findings(json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, **junk}))
    assert 0 < len(found) <= 60
    assert "more unknown fields" in found[0].message


# The server and validation agree.


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Objects]:
    clock = SystemClock()
    store = Store.open(tmp_path_factory.mktemp("store") / "cluster.db", clock=clock)
    objects = Objects(store, Catalog(), clock=clock, chance=random.Random(1))
    objects.create("namespaces", {"metadata": {"name": "default"}})
    for document in render_crds():
        objects.create("customresourcedefinitions.apiextensions.k8s.io", document)
    for document in render_policies():
        plural = "policies" if document["kind"].endswith("Policy") else "policybindings"
        objects.create(f"validatingadmission{plural}.admissionregistration.k8s.io", document)
    yield objects
    store.close()


def refusal(server: Objects, document: Any) -> str:
    """Return what the server says to the creation of an object, empty when it takes it."""
    served = next(t for t in server.catalog.types() if t.kind == document["kind"])
    options = WriteOptions(is_dry_run=True, field_validation="Strict")
    try:
        server.create_object(served, "default", copy.deepcopy(document), options)
    except StatusError as err:
        return err.message
    return ""


BASES = [example(cls.gvk.kind) for cls in CUSTOM_KINDS] + [
    *yaml.safe_load_all((EXAMPLES / "quickstart" / "deployment.yaml").read_text()),
    *yaml.safe_load_all((EXAMPLES / "quickstart" / "service.yaml").read_text()),
]
JUNK: st.SearchStrategy[Any] = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        2**40,
        1.5,
        "",
        "x",
        "X y",
        "1",
        "a" * 70,
        [],
        {},
        [None],
        ["a", "a"],
        {"a": {}},
        {"": ""},
        [[{}]],
    ]
)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the steps to every value in an object."""
    steps = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    for step, part in steps:
        yield (*at, step)
        yield from places(part, (*at, step))


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a manifest with one to three changes: a value replaced, dropped, renamed or doubled."""
    document: dict[str, Any] = copy.deepcopy(draw(st.sampled_from(BASES)))
    for _ in range(draw(st.integers(1, 3))):
        known = [p for p in places(document) if p[0] not in ("apiVersion", "kind")]
        if not known:
            break
        *parents, last = draw(st.sampled_from(known))
        node: Any = document
        for step in parents:
            node = node[step]
        match draw(st.sampled_from(["replace", "drop", "rename", "double"])):
            case "replace":
                node[last] = copy.deepcopy(draw(JUNK))
            case "drop":
                del node[last]
            case "rename" if isinstance(node, dict):
                node[str(last)[:-1]] = node.pop(last)
            case "double" if isinstance(node, list):
                node.append(copy.deepcopy(node[last]))
    metadata = document.get("metadata")
    # Which namespaces there are is not in a manifest.
    if isinstance(metadata, dict) and isinstance(metadata.get("namespace"), str) and metadata["namespace"]:
        metadata["namespace"] = "default"
    return document


@given(document=mutated())
@settings(
    max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], deadline=None
)
def test_valid_is_what_the_server_takes(server: Objects, document: dict[str, Any]) -> None:
    report = validate(json.dumps(document))
    said = refusal(server, document)
    assert report.is_valid == (not said), (said, report.findings)


TEXTS = [path.read_text() for path in sorted(EXAMPLES.rglob("*.yaml"))]


@given(
    text=st.sampled_from(TEXTS),
    cuts=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 20), st.text(max_size=6)), min_size=1, max_size=4),
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_no_change_of_a_text_makes_it_fall_over(text: str, cuts: list[tuple[float, int, str]]) -> None:
    for where, length, instead in cuts:
        at = int(where * len(text))
        text = text[:at] + instead + text[at + length :]
    report = validate(text)
    lines = text.count("\n") + text.count("\r") + text.count("\x85") + text.count("\u2028") + text.count("\u2029") + 2
    for finding in report.findings:
        assert finding.message
        assert 1 <= finding.line <= lines
        assert finding.column >= 1


def test_a_version_of_an_object_that_is_to_be_created_is_refused_as_by_the_server() -> None:
    text = marked("""
        apiVersion: v1
        kind: ConfigMap
        metadata:
          name: a
          resourceVersion: "5" #!
    """)
    (found,) = findings(text.text)
    assert (found.line, found.path) == (text.lines[0], "metadata.resourceVersion")


@pytest.mark.parametrize("number", ["9" * 19, "9" * 30, "9" * 400, "-" + "9" * 400, "1e400"])
def test_a_number_that_is_too_large_is_one_error_that_says_so(number: str) -> None:
    text = STORM.replace("replicas: 1", f"replicas: {number}", 1)
    (found,) = [found for found in findings(textwrap.dedent(text)) if "spec.replicas" in found.path]
    assert "64 bits" in str(found)
