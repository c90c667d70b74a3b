"""Environment, arguments and the downward API."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.api.core import ConfigMap, Secret
from pybrix.api.meta import ObjectMeta
from pybrix.cluster.nodeagent.env import ConfigError, expand, inherited_environment, render_environment
from tests.support.pods import make_container, make_pod

CONFIGMAPS = {"cm": ConfigMap(metadata=ObjectMeta(name="cm"), data={"color": "blue", "my-key": "v"})}
SECRETS = {"s": Secret(metadata=ObjectMeta(name="s"), data={"token": base64.b64encode(b"hunter2").decode()})}


def environment(*env: dict[str, Any], env_from: list[dict[str, Any]] | None = None, **container: Any) -> dict[str, str]:
    pod = make_pod(
        "web-0",
        make_container(env=list(env), envFrom=env_from or [], **container),
        labels={"app": "web"},
        annotations={"example.com/a b": "note"},
        serviceAccountName="",
    )
    return render_environment(
        pod,
        pod.spec.containers[0],
        pod_ip="127.65.0.9",
        host_ip="127.0.0.1",
        configmaps=CONFIGMAPS,
        secrets=SECRETS,
        capacity={"cpu": "4", "memory": "8Gi"},
    )


def field(path: str) -> dict[str, Any]:
    return {"name": "X", "valueFrom": {"fieldRef": {"fieldPath": path}}}


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("plain", "plain"),
        ("$(A)", "1"),
        ("x$(A)y$(B)", "x1y2"),
        ("$(MISSING)", "$(MISSING)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$A ${A} $", "$A ${A} $"),
        ("$(A", "$(A"),
    ],
)
def test_expansion(text: str, want: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == want


@given(st.text())
def test_text_without_a_dollar_sign_is_never_changed(text: str) -> None:
    plain = text.replace("$", "")
    assert expand(plain, {"A": "1"}) == plain


@pytest.mark.parametrize(
    ("path", "want"),
    [
        ("metadata.name", "web-0"),
        ("metadata.namespace", "default"),
        ("metadata.uid", "uid-1"),
        ("metadata.labels['app']", "web"),
        ("metadata.annotations['example.com/a b']", "note"),
        ("metadata.labels['none']", ""),
        ("spec.nodeName", "node-1"),
        ("spec.serviceAccountName", "default"),
        ("status.podIP", "127.65.0.9"),
        ("status.hostIP", "127.0.0.1"),
    ],
)
def test_field_references(path: str, want: str) -> None:
    assert environment(field(path)) == {"X": want}


@pytest.mark.parametrize(
    ("resource", "divisor", "want"),
    [
        ("limits.cpu", "0", "2"),
        ("limits.cpu", "1m", "1500"),
        ("requests.memory", "1Mi", "256"),
        ("limits.memory", "1Gi", "8"),
        ("requests.cpu", "0", "0"),
    ],
)
def test_resource_references(resource: str, divisor: str, want: str) -> None:
    ref = {"name": "X", "valueFrom": {"resourceFieldRef": {"resource": resource, "divisor": divisor}}}
    resources = {"limits": {"cpu": "1500m"}, "requests": {"memory": "256Mi"}}
    assert environment(ref, resources=resources) == {"X": want}


def test_later_values_see_earlier_ones_and_win_over_env_from() -> None:
    got = environment(
        {"name": "color", "value": "red"},
        {"name": "BOTH", "value": "$(color)-$(P_token)"},
        env_from=[{"configMapRef": {"name": "cm"}}, {"prefix": "P_", "secretRef": {"name": "s"}}],
    )
    assert got == {"color": "red", "my-key": "v", "P_token": "hunter2", "BOTH": "red-hunter2"}


def test_keys_of_configmaps_and_secrets() -> None:
    got = environment(
        {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "color"}}},
        {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "token"}}},
        {"name": "O", "valueFrom": {"secretKeyRef": {"name": "none", "key": "k", "optional": True}}},
    )
    assert got == {"C": "blue", "S": "hunter2"}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"configMapKeyRef": {"name": "none", "key": "k"}}, 'configmap "none" not found'),
        ({"configMapKeyRef": {"name": "cm", "key": "k"}}, "couldn't find key k in ConfigMap default/cm"),
        ({"secretKeyRef": {"name": "none", "key": "k"}}, 'secret "none" not found'),
        ({"secretKeyRef": {"name": "s", "key": "k"}}, "couldn't find key k in Secret default/s"),
        ({"fieldRef": {"fieldPath": "spec.containers"}}, "unsupported fieldPath: spec.containers"),
        ({"resourceFieldRef": {"resource": "limits.cpu", "containerName": "no"}}, "container no not found"),
    ],
)
def test_a_missing_source_is_named(source: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        environment({"name": "X", "valueFrom": source})


@pytest.mark.parametrize("source", [{"configMapRef": {"name": "none"}}, {"secretRef": {"name": "none"}}])
def test_a_missing_env_from_is_named_unless_optional(source: dict[str, dict[str, Any]]) -> None:
    with pytest.raises(ConfigError, match="not found"):
        environment(env_from=[source])
    optional = {kind: ref | {"optional": True} for kind, ref in source.items()}
    assert environment(env_from=[optional]) == {}


def test_pods_inherit_places_and_no_secrets() -> None:
    got = inherited_environment({"PATH": "/bin", "HOME": "/h", "AWS_SECRET": "x", "https_proxy": "p"}, "/venv/bin")
    assert got == {"PATH": "/venv/bin:/bin", "HOME": "/h", "https_proxy": "p"}
