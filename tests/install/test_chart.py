"""The Helm chart and `pybrix install` are the same installation, whatever the values."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import pybrix
from pybrix.install.chart import render_chart, value_rows
from pybrix.install.manifests import Parts, render
from pybrix.install.rights import collect_rights
from pybrix.install.settings import resolve
from pybrix.install.values import InstallConfiguration, to_document
from tests.support.gotemplate import GoTemplate

CHOICES = [
    pytest.param((), id="nothing-chosen"),
    pytest.param(("gateway.replicas=1",), id="one-gateway-without-redis"),
    pytest.param(("gateway.namespaces=a,b", "controllers.namespaces=c"), id="some-namespaces"),
    pytest.param(
        ("gateway.tls.secretName=tls", "gateway.service.type=LoadBalancer", "gateway.service.port=443"), id="tls"
    ),
    pytest.param(("redis.passwordSecret=own",), id="redis-with-a-password-of-ones-own"),
    pytest.param(("redis.address=redis.example.com:6379", "networkPolicies.apiServerCidrs=10.0.0.0/8"), id="own-redis"),
    pytest.param(
        (
            "redis.address=redis.example.com:6380",
            "redis.passwordSecret=own",
            "redis.tls.enabled=true",
            "redis.tls.caSecret=ca",
            "gateway.configuration.redis.database=3",
            "networkPolicies.redis=[{ipBlock: {cidr: 10.1.0.0/16}}]",
        ),
        id="own-redis-with-tls",
    ),
    pytest.param(("gateway.replicas=1", "redis.storage.size=2Gi", "redis.storage.className=fast"), id="disk"),
    pytest.param(
        (
            "gateway.adminTokenSecret=admin",
            "gateway.configuration.identity.isApiKeyRequired=true",
            "gateway.configuration.limits.defaultRpm=7",
            "networkPolicies.administrators=[{podSelector: {}}]",
            "networkPolicies.gatewayEgress=[{ports: [{port: 4318}]}]",
            "networkPolicies.controllersEgress=[{ports: [{port: 2379}]}]",
        ),
        id="users",
    ),
    pytest.param(("gateway.adminTokenSecret=admin", "gateway.usersPort=0"), id="token-without-users"),
    pytest.param(
        ("networkPolicies.enabled=false", "admissionPolicies=false", f"image.digest=sha256:{'a' * 64}"), id="without"
    ),
    pytest.param(("sidecarInjection.apiVersion=v1beta1", "image.tag=7"), id="sidecars"),
    pytest.param(("sidecarInjection.apiVersion=v1", f"image.digest=sha256:{'a' * 64}"), id="sidecars-by-digest"),
    pytest.param(
        (
            "image.pullSecrets=a,b",
            "gateway.podAnnotations.example\\.com/x=1",
            "gateway.nodeSelector.disk=ssd",
            "gateway.tolerations=[{key: gpu, operator: Exists}]",
            "controllers.priorityClassName=high",
            "gateway.configuration.drainTimeoutS=12.5",
            'gateway.service.annotations.note=<&> "quoted"',
            "networkPolicies.clients=[{ipBlock: {cidr: 10.0.0.0/8}}]",
        ),
        id="much-chosen",
    ),
]


@pytest.fixture(scope="module")
def chart() -> dict[str, str]:
    return render_chart(collect_rights())


def installed(values: dict[str, Any]) -> dict[tuple[str, ...], Any]:
    """Return what `pybrix install` prints and Helm renders from templates, by identity."""
    parts = Parts(has_namespace=False)
    documents = render(values, collect_rights(), namespace="serving", parts=parts)
    return by_identity([each for each in documents if each["kind"] != "CustomResourceDefinition"])


def by_identity(documents: list[Any]) -> dict[tuple[str, ...], Any]:
    found: dict[tuple[str, ...], Any] = {}
    for document in documents:
        metadata = document["metadata"]
        metadata["labels"].pop("app.kubernetes.io/managed-by")
        found[document["kind"], metadata.get("namespace", ""), metadata["name"]] = document
    assert len(found) == len(documents), "two documents of one name"
    return found


@pytest.mark.parametrize("choices", CHOICES)
def test_the_templates_say_what_install_prints(choices: tuple[str, ...], chart: dict[str, str]) -> None:
    values = resolve((), choices)
    helm = GoTemplate(values, {"Name": "pybrix", "Namespace": "serving", "Service": "Helm"})
    helm.define(chart["templates/_helpers.tpl"])
    texts = [helm.render(text) for name, text in chart.items() if name.startswith("templates/") and "yaml" in name]
    documents = [each for text in texts for each in yaml.safe_load_all(text) if each is not None]
    assert by_identity(documents) == installed(values)


@pytest.mark.skipif(shutil.which("helm") is None, reason="helm is not on PATH")
@pytest.mark.parametrize("choices", CHOICES)
def test_helm_itself_renders_what_install_prints(
    choices: tuple[str, ...], chart: dict[str, str], tmp_path: Path
) -> None:
    values = resolve((), choices)
    for name, text in chart.items():
        (tmp_path / "chart" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "chart" / name).write_text(text)
    (tmp_path / "values.json").write_text(json.dumps(values))
    where = ("--namespace", "serving", "--kube-version", "1.30.0")
    rendered = subprocess.run(
        ["helm", "template", "pybrix", tmp_path / "chart", *where, "--values", tmp_path / "values.json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert rendered.returncode == 0, rendered.stderr
    assert by_identity([each for each in yaml.safe_load_all(rendered.stdout) if each]) == installed(values)


def test_values_yaml_holds_the_defaults_and_says_what_each_means(chart: dict[str, str]) -> None:
    text = chart["values.yaml"]
    assert yaml.safe_load(text) == to_document(InstallConfiguration())
    assert all(meaning for _, _, meaning in value_rows()), "a value without a docstring"


def test_the_schema_knows_every_value_and_no_other(chart: dict[str, str]) -> None:
    schema = json.loads(chart["values.schema.json"])

    def walk(node: dict[str, Any], value: Any, path: str) -> None:
        if "properties" not in node:
            return
        assert node["additionalProperties"] is False
        assert set(node["properties"]) - {"global"} == set(value), path
        for key, inner in node["properties"].items():
            if key != "global":
                walk(inner, value[key], f"{path}.{key}")

    walk(schema, to_document(InstallConfiguration()), "$")
    assert schema["properties"]["gateway"]["properties"]["replicas"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 100,
        "description": "Pods; all of them serve.",
    }


def test_every_value_that_a_template_names_exists(chart: dict[str, str]) -> None:
    known = to_document(InstallConfiguration())
    for name, text in chart.items():
        for path in re.findall(r"\$\.Values\.([A-Za-z0-9.]+)", text) if name.startswith("templates/") else ():
            found: Any = known
            for part in path.split("."):
                assert part in found, f"{name}: {path}"
                found = found[part]


def test_the_chart_is_of_this_version_and_brings_every_definition(chart: dict[str, str]) -> None:
    head = yaml.safe_load(chart["Chart.yaml"])
    assert (head["version"], head["appVersion"]) == (pybrix.__version__, pybrix.__version__)
    assert sum(name.startswith("crds/") for name in chart) == 10
