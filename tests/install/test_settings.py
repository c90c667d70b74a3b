"""Values: what is chosen wins over the defaults, and a mistake is told by its key."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.base.errors import UsageError
from pybrix.install.settings import image_settings, resolve
from pybrix.install.values import InstallConfiguration, to_document


def look(values: dict[str, Any], path: str) -> Any:
    found: Any = values
    for part in path.split("."):
        found = found[part]
    return found


def test_nothing_chosen_is_the_defaults() -> None:
    assert resolve((), ()) == to_document(InstallConfiguration())


@pytest.mark.parametrize(
    ("setting", "path", "want"),
    [
        ("gateway.replicas=5", "gateway.replicas", 5),
        ("gateway.namespaces=a,b", "gateway.namespaces", ["a", "b"]),
        ("gateway.namespaces=[a, b]", "gateway.namespaces", ["a", "b"]),
        ("gateway.namespaces=", "gateway.namespaces", []),
        ("networkPolicies.enabled=false", "networkPolicies.enabled", False),
        ("image.tag=1", "image.tag", "1"),
        ("gateway.brainResources.requests.cpu=2", "gateway.brainResources.requests.cpu", "2"),
        ("networkPolicies.apiServerPorts=6443", "networkPolicies.apiServerPorts", [6443]),
        ("gateway.configuration.drainTimeoutS=60", "gateway.configuration.drainTimeoutS", 60.0),
        ("controllers.configuration.concurrency.podset=3", "controllers.configuration.concurrency.podset", 3),
        ("gateway.tolerations=[{key: a}]", "gateway.tolerations", [{"key": "a"}]),
    ],
)
def test_a_setting_is_read_by_the_type_of_its_key(setting: str, path: str, want: object) -> None:
    assert look(resolve((), (setting,)), path) == want


def test_a_dot_within_a_key_is_escaped() -> None:
    values = resolve((), ("gateway.podAnnotations.example\\.com/a=b=c",))
    assert values["gateway"]["podAnnotations"] == {"example.com/a": "b=c"}


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("gateway.replcas=3", "did you mean gateway.replicas"),
        ("gatway.replicas=3", "did you mean gateway"),
        ("gateway.replicas=many", "gateway.replicas: 'many' is not a whole number from 1 to 100"),
        ("gateway.replicas=0", "gateway.replicas: 0 is not a whole number from 1 to 100"),
        ("gateway.service.type=Ingress", "type: 'Ingress' is none of ClusterIP, NodePort, LoadBalancer"),
        ("gateway.service.type=Loadbalancer", "did you mean LoadBalancer"),
        ("sidecarInjection.apiVersion=v9", "sidecarInjection.apiVersion: 'v9' is none of '', v1, v1beta1, v1alpha1"),
        ("kind=x", "kind: 'x' is none of InstallConfiguration"),
        ("redis.resources.limits.cpu=much", "redis.resources.limits.cpu: 'much' is not text that matches"),
        ("controllers.configuration.concurrency=3", "concurrency: 3 is not a mapping"),
        ("networkPolicies.enabled=maybe", "networkPolicies.enabled: 'maybe' is not true or false"),
        ("networkPolicies.apiServerCidrs=foo", r"apiServerCidrs\[0\]: 'foo' is no address range"),
        ("networkPolicies.apiServerCidrs=10.0.0.1/32,10.0.0.1", r"apiServerCidrs\[1\]: '10.0.0.1' is no"),
        ("networkPolicies.apiServerCidrs=10.0.0.0/255.0.0.0", "is no address range"),
        ("gateway.service.loadBalancerSourceRanges=::/129", "is no address range"),
        ("networkPolicies.clients=[{ipBlock: {cidr: x}}]", r"clients\[0\].ipBlock.cidr: 'x' is no address range"),
        ("networkPolicies.clients=[{ipBlock: {cidr: 10.0.0.0/8, except: [z]}}]", r"except\[0\]: 'z'"),
        pytest.param("gateway.tolerations=" + "[" * 100_000, "nested deeper", id="deep"),
        ("gateway.tolerations=[{a: 1, a: 2}]", "a is there twice|duplicate|twice"),
        ("gateway.namespaces=a,B", r"gateway.namespaces\[1\]"),
        ("gateway.configuration.port=9", "decided by the installation.*gateway.service.port"),
        ("gateway.configuration.tlsCertificatePath=/x", "decided by the installation.*gateway.tls.secretName"),
        ("gateway.replicas.x=1", "gateway.replicas is no mapping"),
        ("gateway.tolerations=[", "is no value"),
        ("gateway.replicas", "is no key=value"),
        ("image.repository=UPPER CASE", "image.repository"),
    ],
)
def test_a_mistake_names_its_key(setting: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        resolve((), (setting,))


def test_files_are_merged_in_order_and_settings_win() -> None:
    first = ("a.yaml", "gateway: {replicas: 3, namespaces: [x, y], brainResources: {requests: {cpu: '1'}}}")
    second = ("b.yaml", "gateway: {namespaces: [z]}")
    values = resolve((first, second), ("gateway.replicas=4",))
    assert values["gateway"]["replicas"] == 4
    assert values["gateway"]["namespaces"] == ["z"]
    # Maps are merged, so memory keeps its default; null takes an entry out.
    assert values["gateway"]["brainResources"]["requests"] == {"cpu": "1", "memory": "256Mi"}
    assert (
        resolve((("c.yaml", "redis: {resources: {limits: {memory: null}}}"),), ())["redis"]["resources"]["limits"] == {}
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gateway: [", "v.yaml:2:1: not valid YAML"),
        ("gateway: {replicas: 1}\ngateway: {replicas: 2}", "v.yaml:2:1: "),
        ("a: 1\n---\nb: 1", "2 documents"),
        pytest.param("gateway: " + "[" * 500_000, "v.yaml:1:.*nested deeper than", id="deep"),
        ("- 1", "v.yaml: a list"),
        ("gateway: {replicsa: 1}", "v.yaml: gateway.replicsa is no value.*gateway.replicas"),
        ("gateway: 3", "gateway: 3 is not a mapping"),
        (
            "apiVersion: config.pybrix.ai/v2",
            "apiVersion: 'config.pybrix.ai/v2' is none of config.pybrix.ai/v1alpha1; did you mean",
        ),
        ("gateway: {configuration: {address: 0.0.0.0}}", "decided by the installation"),
    ],
)
def test_a_mistake_in_a_file_is_told(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        resolve((("v.yaml", text),), ())


def test_all_values_that_are_printed_are_taken_again() -> None:
    values = resolve((), ("gateway.replicas=7", "gateway.nodeSelector.a=b"))
    assert (
        resolve((("printed", str(values).replace("'", '"').replace("True", "true").replace("False", "false")),), ())
        == values
    )


@given(st.text(max_size=60))
def test_any_text_is_a_value_or_a_plain_error(setting: str) -> None:
    try:
        values = resolve((), (setting,))
    except UsageError:
        return
    assert set(values) == set(to_document(InstallConfiguration()))


@pytest.mark.parametrize(
    ("reference", "want"),
    [
        ("a/b", ("a/b", None, "")),
        ("registry:5000/a/b", ("registry:5000/a/b", None, "")),
        ("registry:5000/a/b:1.2", ("registry:5000/a/b", "1.2", "")),
        (f"a/b:1@sha256:{'f' * 64}", ("a/b", "1", f"sha256:{'f' * 64}")),
    ],
)
def test_an_image_reference_is_taken_apart(reference: str, want: tuple[str, str | None, str]) -> None:
    image = resolve((), image_settings(reference))["image"]
    default = InstallConfiguration().image.tag
    assert (image["repository"], image["tag"], image["digest"]) == (want[0], want[1] or default, want[2])


@pytest.mark.parametrize("reference", ["", ":1", "a@"])
def test_what_is_no_image_reference_is_refused(reference: str) -> None:
    with pytest.raises(UsageError, match="no image reference"):
        image_settings(reference)
