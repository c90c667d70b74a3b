"""What is installed is what a cluster takes, with no more rights than the components say that they use."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import click
import pytest
import yaml

from pybrix.api.config import ControllersConfiguration, GatewayConfiguration, RedisConfiguration
from pybrix.api.configuration import parse_document
from pybrix.base.errors import UsageError
from pybrix.cli.main import cli
from pybrix.install.manifests import Parts, Rights, render
from pybrix.install.rbac import within_namespaces
from pybrix.install.rights import collect_rights
from pybrix.install.settings import resolve
from pybrix.install.verification import check_configurations
from pybrix.kube.permissions import Permission

CHOICES = [
    pytest.param((), id="nothing-chosen"),
    pytest.param(("gateway.replicas=1", "networkPolicies.enabled=false"), id="little"),
    pytest.param(("gateway.namespaces=a,b", "controllers.namespaces=b", "gateway.tls.secretName=tls"), id="namespaces"),
    pytest.param(("redis.passwordSecret=own", f"image.digest=sha256:{'0' * 64}"), id="own-password"),
    pytest.param(("redis.storage.size=2Gi", "gateway.adminTokenSecret=admin"), id="disk-and-users"),
    pytest.param(
        ("redis.address=r:1", "redis.passwordSecret=own", "redis.tls.enabled=true", "redis.tls.caSecret=ca"),
        id="own-redis",
    ),
]
CLUSTER_WIDE = {
    "Namespace",
    "CustomResourceDefinition",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ClusterRole",
    "ClusterRoleBinding",
}
LABELS = {f"app.kubernetes.io/{name}" for name in ("name", "instance", "part-of", "version", "managed-by")}
DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")


def documents(*choices: str, **parts: bool) -> list[Any]:
    return render(resolve((), choices), collect_rights(), namespace="pybrix-system", parts=Parts(**parts))


def of_kind(kind: str, found: list[Any]) -> dict[str, Any]:
    return {each["metadata"]["name"]: each for each in found if each["kind"] == kind}


def pod_specs(found: list[Any]) -> Iterator[tuple[str, Any]]:
    for name, deployment in of_kind("Deployment", found).items():
        yield name, deployment["spec"]["template"]["spec"]


def containers(spec: Any) -> list[Any]:
    return [*spec.get("initContainers", []), *spec["containers"]]


def test_rendering_twice_gives_the_same_text() -> None:
    assert yaml.safe_dump_all(documents()) == yaml.safe_dump_all(documents())


@pytest.mark.parametrize("choices", CHOICES)
def test_every_document_says_what_it_is(choices: tuple[str, ...]) -> None:
    seen = set()
    for each in documents(*choices):
        metadata = each["metadata"]
        assert each["apiVersion"]
        assert ("namespace" not in metadata) == (each["kind"] in CLUSTER_WIDE), each
        if each["kind"].startswith(("Role", "ClusterRole")):
            # Names of roles may be any path segment.
            assert re.fullmatch(r"[^/%]+", metadata["name"])
        else:
            assert DNS_SUBDOMAIN.fullmatch(metadata["name"]), metadata["name"]
        if each["kind"] != "CustomResourceDefinition":
            assert set(metadata["labels"]) >= LABELS, metadata
            assert all(LABEL_VALUE.fullmatch(value) for value in metadata["labels"].values())
        seen.add((each["kind"], metadata.get("namespace"), metadata["name"]))
    assert len(seen) == len(documents(*choices))


def test_parts_are_left_out_on_demand() -> None:
    assert {each["kind"] for each in documents(has_namespace=False, has_components=False)} == {
        "CustomResourceDefinition",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    }
    without = {each["kind"] for each in documents(has_crds=False)}
    assert "Deployment" in without
    assert "CustomResourceDefinition" not in without


def test_the_namespace_holds_pods_to_the_restricted_standard() -> None:
    labels = of_kind("Namespace", documents())["pybrix-system"]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("choices", CHOICES)
def test_every_container_passes_the_restricted_standard(choices: tuple[str, ...]) -> None:
    for name, spec in pod_specs(documents(*choices)):
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        allowed = {"configMap", "emptyDir", "projected", "secret", "persistentVolumeClaim"}
        assert all(set(volume) - {"name"} <= allowed for volume in spec["volumes"])
        for container in containers(spec):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, f"{name}/{container['name']}"
            assert set(container["resources"]) == {"requests", "limits"}


@pytest.mark.parametrize("choices", CHOICES)
def test_volumes_ports_and_accounts_that_are_named_exist(choices: tuple[str, ...]) -> None:
    found = documents(*choices)
    for name, spec in pod_specs(found):
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        assert len(volumes) == len(spec["volumes"])
        for container in containers(spec):
            ports = {port["name"] for port in container.get("ports", [])}
            assert all(mount["name"] in volumes for mount in container["volumeMounts"])
            for probe in ("livenessProbe", "readinessProbe"):
                action = container.get(probe, {})
                port = (action.get("httpGet") or action.get("tcpSocket") or {}).get("port")
                assert port is None or port in ports, f"{name}/{container['name']}"
        for volume in volumes.values():
            if "configMap" in volume:
                assert volume["configMap"]["name"] in of_kind("ConfigMap", found)
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in of_kind("PersistentVolumeClaim", found)
        account = spec.get("serviceAccountName")
        assert account is None or account in of_kind("ServiceAccount", found)
    for service in of_kind("Service", found).values():
        targets = _ports_behind(service, found)
        assert all(port["targetPort"] in targets for port in service["spec"]["ports"])


def _ports_behind(service: Any, found: list[Any]) -> set[str]:
    wanted = service["spec"]["selector"].items()
    return {
        port["name"]
        for deployment in of_kind("Deployment", found).values()
        if wanted <= deployment["spec"]["template"]["metadata"]["labels"].items()
        for container in containers(deployment["spec"]["template"]["spec"])
        for port in container.get("ports", [])
    }


@pytest.mark.parametrize("choices", CHOICES)
def test_selectors_find_the_pods_they_are_for(choices: tuple[str, ...]) -> None:
    found = documents(*choices)
    pods = [each["spec"]["template"]["metadata"]["labels"] for each in of_kind("Deployment", found).values()]
    for name, deployment in of_kind("Deployment", found).items():
        own = deployment["spec"]["selector"]["matchLabels"]
        assert own.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
        assert sum(own.items() <= labels.items() for labels in pods) == 1, name
    for budget in of_kind("PodDisruptionBudget", found).values():
        assert sum(budget["spec"]["selector"]["matchLabels"].items() <= labels.items() for labels in pods) == 1
    for name, policy in of_kind("NetworkPolicy", found).items():
        matched = sum(policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items() for labels in pods)
        assert matched == (len(pods) if name == "pybrix-default-deny" else 1)


def granted(found: list[Any], account: str) -> dict[tuple[str, str, str, str], set[str]]:
    """Return (where, group, resource, names) -> verbs of a service account, by following its bindings."""
    rights: dict[tuple[str, str, str, str], set[str]] = defaultdict(set)
    roles = {(r["kind"], r["metadata"].get("namespace", ""), r["metadata"]["name"]): r for r in found if "rules" in r}
    for binding in found:
        if binding["kind"] not in ("RoleBinding", "ClusterRoleBinding"):
            continue
        if account not in {subject["name"] for subject in binding["subjects"]}:
            continue
        where = binding["metadata"].get("namespace", "")
        reference = binding["roleRef"]
        role_place = where if reference["kind"] == "Role" else ""
        for rule in roles[reference["kind"], role_place, reference["name"]]["rules"]:
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    rights[where, group, resource, ",".join(rule.get("resourceNames", ()))] |= set(rule["verbs"])
    return dict(rights)


def declared(where: str, permissions: tuple[Permission, ...]) -> dict[tuple[str, str, str, str], set[str]]:
    rights: dict[tuple[str, str, str, str], set[str]] = defaultdict(set)
    for each in permissions:
        for resource in each.resources:
            rights[where, each.group, resource, ",".join(sorted(each.names))] |= set(each.verbs)
    return dict(rights)


def test_each_account_may_do_exactly_what_its_component_declares() -> None:
    found, rights = documents(), collect_rights()
    home = "pybrix-system"
    assert granted(found, "pybrix-controllers") == declared("", rights.controllers) | declared(home, rights.election)
    assert granted(found, "pybrix-gateway") == declared("", rights.gateway)
    assert granted(found, "pybrix-redis") == declared(home, rights.password)


def test_with_namespaces_there_is_no_right_elsewhere() -> None:
    found, rights = documents("gateway.namespaces=a,b", "controllers.namespaces=c"), collect_rights()
    assert not of_kind("ClusterRole", found)
    assert not of_kind("ClusterRoleBinding", found)
    assert granted(found, "pybrix-gateway") == declared("a", rights.gateway) | declared("b", rights.gateway)
    # Nodes are in no namespace: a Role cannot speak of them.
    assert ("c", "", "nodes", "") not in granted(found, "pybrix-controllers")
    assert granted(found, "pybrix-controllers") == (
        declared("c", within_namespaces(rights.controllers)) | declared("pybrix-system", rights.election)
    )


@pytest.mark.parametrize("choices", CHOICES)
def test_no_rule_has_a_wildcard_or_reaches_for_more_rights(choices: tuple[str, ...]) -> None:
    for each in documents(*choices):
        for rule in each.get("rules", ()) if "Role" in each["kind"] else ():
            words = [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            assert not {"*", "escalate", "bind", "impersonate"} & set(words), each["metadata"]["name"]
            assert rule["verbs"]
            assert rule["resources"]


def test_only_containers_that_ask_the_api_have_a_token() -> None:
    found = documents()
    assert all(each["automountServiceAccountToken"] is False for each in of_kind("ServiceAccount", found).values())
    with_token = set()
    for name, spec in pod_specs(found):
        assert spec["automountServiceAccountToken"] is False
        for container in containers(spec):
            if any(mount["name"] == "kube-api-access" for mount in container["volumeMounts"]):
                with_token.add(f"{name}/{container['name']}")
    assert with_token == {"pybrix-controllers/controllers", "pybrix-gateway/brain", "pybrix-redis/password"}


def test_the_brain_outlives_envoy_and_the_grace_covers_the_drain() -> None:
    found = documents("gateway.configuration.drainTimeoutS=90", "gateway.endpointRemovalS=10")
    spec = dict(pod_specs(found))["pybrix-gateway"]
    assert spec["initContainers"][0]["restartPolicy"] == "Always"
    assert spec["terminationGracePeriodSeconds"] >= 90 + 10
    assert spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "10"]


def test_a_rollout_takes_no_gateway_away_before_its_successor_serves() -> None:
    found = documents("gateway.replicas=3", "gateway.configuration.listenerDrainS=7")
    deployment = next(
        each for each in found if each["kind"] == "Deployment" and each["metadata"]["name"] == "pybrix-gateway"
    )
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert deployment["spec"]["minReadySeconds"] > 0
    spec = deployment["spec"]["template"]["spec"]
    (brain,), (envoy,) = spec["initContainers"], spec["containers"]
    # Ready means that Envoy answers, and Envoy starts only after a brain that has caught up.
    assert brain["startupProbe"]["httpGet"]["path"] == "/readyz"
    assert envoy["readinessProbe"]["httpGet"]["path"] == "/healthz"
    assert spec["terminationGracePeriodSeconds"] >= 10 + 7 + 30 + 10
    (budget,) = [
        each for each in found if each["kind"] == "PodDisruptionBudget" and each["metadata"]["name"] == "pybrix-gateway"
    ]
    assert budget["spec"]["maxUnavailable"] == 1
    assert (
        budget["spec"]["selector"]["matchLabels"].items()
        <= deployment["spec"]["template"]["metadata"]["labels"].items()
    )


def test_a_changed_configuration_rolls_the_pods_that_read_it_and_no_others() -> None:
    def hashes(*choices: str) -> dict[str, str]:
        return {
            name: deployment["spec"]["template"]["metadata"]["annotations"]["pybrix.ai/configuration-hash"]
            for name, deployment in of_kind("Deployment", documents(*choices)).items()
        }

    before, after = hashes(), hashes("gateway.configuration.routingStrategy=random")
    assert {name for name in before if before[name] != after[name]} == {"pybrix-gateway"}


def test_the_components_read_the_configuration_that_they_are_given() -> None:
    found = documents("controllers.namespaces=a", "controllers.configuration.defaultConcurrency=9")
    check_configurations(found)
    text = of_kind("ConfigMap", found)["pybrix-controllers"]["data"]["controllers.yaml"]
    config = parse_document(text, "ConfigMap", ControllersConfiguration)
    assert (config.namespaces, config.default_concurrency, config.health_address) == (["a"], 9, "0.0.0.0")
    assert (config.leader_election.namespace, config.leader_election.name) == ("pybrix-system", "pybrix-controllers")


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ("gateway.configuration.routingStrategy=fastest", "gateway.configuration.*routingStrategy.*'fastest'"),
        ("controllers.configuration.controllers=nobody", "controllers.configuration.*'nobody'"),
        ("controllers.configuration.concurrency.nobody=2", "controllers.configuration.*nobody"),
    ],
)
def test_a_configuration_that_its_component_would_refuse_is_refused_here(choice: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_configurations(documents(choice))


@pytest.mark.parametrize("choices", CHOICES)
def test_the_arguments_of_our_containers_are_commands_of_ours(choices: tuple[str, ...]) -> None:
    checked = []
    for _, spec in pod_specs(documents(*choices)):
        for container in containers(spec):
            if "command" in container:
                continue
            command: click.Command = cli
            args = container["args"]
            while isinstance(command, click.Group):
                name, *args = args
                found = command.get_command(click.Context(command), name)
                assert found is not None, name
                command = found
            # Parsing raises where an option does not exist or a value does not fit.
            command.make_context("pybrix", args)
            checked.append(container["name"])
    assert {"controllers", "brain", "envoy"} <= set(checked)


def test_redis_comes_with_a_second_gateway_and_never_with_a_password_in_the_output() -> None:
    assert "pybrix-redis" not in of_kind("Deployment", documents("gateway.replicas=1"))
    assert "pybrix-redis" not in of_kind("Deployment", documents("redis.address=redis:6379"))
    secret = of_kind("Secret", documents())["pybrix-redis"]
    assert not {"data", "stringData"} & set(secret)
    own = documents("redis.passwordSecret=own")
    assert not of_kind("Secret", own)
    assert "pybrix-redis" not in of_kind("ServiceAccount", own)
    reference = dict(pod_specs(own))["pybrix-redis"]["containers"][0]["env"][0]["valueFrom"]["secretKeyRef"]
    assert reference == {"name": "own", "key": "password"}


def gateway_configuration(found: list[Any]) -> GatewayConfiguration:
    text = of_kind("ConfigMap", found)["pybrix-gateway"]["data"]["gateway.yaml"]
    return parse_document(text, "ConfigMap", GatewayConfiguration)


def mounted(found: list[Any], container_name: str) -> dict[str, Any]:
    """Return path of the mount -> volume of a container of the gateway."""
    spec = dict(pod_specs(found))["pybrix-gateway"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    (container,) = [each for each in containers(spec) if each["name"] == container_name]
    return {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}


@pytest.mark.parametrize(
    ("choices", "want"),
    [
        pytest.param(("gateway.replicas=1",), RedisConfiguration(), id="none"),
        pytest.param(
            ("gateway.replicas=1", "redis.passwordSecret=own"), RedisConfiguration(), id="a-password-of-nothing"
        ),
        pytest.param(
            (),
            RedisConfiguration(address="pybrix-redis:6379", password_path="/etc/pybrix/redis/password"),
            id="installed",
        ),
        pytest.param(
            ("gateway.replicas=1", "redis.storage.size=1Gi"),
            RedisConfiguration(address="pybrix-redis:6379", password_path="/etc/pybrix/redis/password"),
            id="installed-for-its-disk",
        ),
        pytest.param(
            ("redis.tls.enabled=true", "redis.tls.caSecret=ca"),
            RedisConfiguration(address="pybrix-redis:6379", password_path="/etc/pybrix/redis/password"),
            id="installed-has-no-tls",
        ),
        pytest.param(("redis.address=r.example:6380",), RedisConfiguration(address="r.example:6380"), id="own"),
        pytest.param(
            (
                *("redis.address=r.example:6380", "redis.passwordSecret=own", "redis.tls.enabled=true"),
                *("gateway.configuration.redis.username=pybrix", "gateway.configuration.redis.keyPrefix=a:"),
            ),
            RedisConfiguration(
                address="r.example:6380",
                username="pybrix",
                password_path="/etc/pybrix/redis/password",
                is_tls=True,
                key_prefix="a:",
            ),
            id="own-with-a-password-and-tls",
        ),
        pytest.param(
            ("redis.address=r.example:6380", "redis.tls.enabled=true", "redis.tls.caSecret=ca"),
            RedisConfiguration(address="r.example:6380", is_tls=True, tls_ca_path="/etc/pybrix/redis-ca/ca.crt"),
            id="own-with-its-ca",
        ),
    ],
)
def test_gateways_are_told_where_redis_is_and_find_what_they_need_for_it(
    choices: tuple[str, ...], want: RedisConfiguration
) -> None:
    found = documents(*choices)
    assert gateway_configuration(found).redis == want
    brain, envoy = mounted(found, "brain"), mounted(found, "envoy")
    assert ("/etc/pybrix/redis" in brain) == bool(want.password_path)
    assert ("/etc/pybrix/redis-ca" in brain) == bool(want.tls_ca_path)
    assert not any("redis" in path for path in envoy)


def test_gateways_start_before_their_password_is_made_but_not_without_one_of_yours() -> None:
    item = {"key": "password", "path": "password"}
    made = mounted(documents(), "brain")["/etc/pybrix/redis"]["secret"]
    assert made == {"secretName": "pybrix-redis", "items": [item], "defaultMode": 0o440, "optional": True}
    yours = mounted(documents("redis.address=r:1", "redis.passwordSecret=own"), "brain")["/etc/pybrix/redis"]["secret"]
    assert yours == {"secretName": "own", "items": [item], "defaultMode": 0o440}


def test_redis_forgets_nothing_by_itself_and_has_a_disk_on_demand() -> None:
    found = documents()
    lines = of_kind("ConfigMap", found)["pybrix-redis"]["data"]["redis.conf"].splitlines()
    assert {'appendonly "yes"', 'maxmemory "256mb"', 'maxmemory-policy "noeviction"'} <= set(lines)
    assert not of_kind("PersistentVolumeClaim", found)
    assert {"name": "data", "emptyDir": {}} in dict(pod_specs(found))["pybrix-redis"]["volumes"]
    stored = documents("redis.storage.size=2Gi", "redis.storage.className=fast")
    assert of_kind("PersistentVolumeClaim", stored)["pybrix-redis"]["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "fast",
        "resources": {"requests": {"storage": "2Gi"}},
    }
    claimed = {"name": "data", "persistentVolumeClaim": {"claimName": "pybrix-redis"}}
    assert claimed in dict(pod_specs(stored))["pybrix-redis"]["volumes"]
    by_default = of_kind("PersistentVolumeClaim", documents("redis.storage.size=2Gi"))["pybrix-redis"]
    assert "storageClassName" not in by_default["spec"]


def test_users_have_an_api_inside_the_cluster_where_there_is_an_admin_token() -> None:
    without = documents()
    assert "pybrix-gateway-users" not in of_kind("Service", without)
    assert (gateway_configuration(without).identity.users_port, "/etc/pybrix/admin" in mounted(without, "brain")) == (
        0,
        False,
    )
    found = documents("gateway.adminTokenSecret=admin", "gateway.usersPort=80")
    identity = gateway_configuration(found).identity
    assert (identity.users_address, identity.users_port) == ("0.0.0.0", 8090)
    assert identity.admin_token_path == "/etc/pybrix/admin/token"
    assert mounted(found, "brain")["/etc/pybrix/admin"]["secret"]["secretName"] == "admin"
    assert "/etc/pybrix/admin" not in mounted(found, "envoy")
    service = of_kind("Service", found)["pybrix-gateway-users"]["spec"]
    assert (service["type"], service["ports"][0]["port"]) == ("ClusterIP", 80)
    # With a public gateway, too.
    public = documents("gateway.adminTokenSecret=admin", "gateway.service.type=LoadBalancer")
    assert of_kind("Service", public)["pybrix-gateway-users"]["spec"]["type"] == "ClusterIP"
    explained = gateway_configuration(documents("gateway.adminTokenSecret=admin", "gateway.usersPort=0")).identity
    assert (explained.users_port, explained.admin_token_path) == (0, "/etc/pybrix/admin/token")


def test_identity_and_limits_are_what_was_chosen() -> None:
    chosen = documents(
        "gateway.configuration.identity.isApiKeyRequired=true", "gateway.configuration.limits.defaultRpm=7"
    )
    config = gateway_configuration(chosen)
    assert (config.identity.is_api_key_required, config.limits.default_rpm) == (True, 7)


@pytest.mark.parametrize(
    ("choice", "instead"),
    [
        ("gateway.configuration.redis.address=r:1", "redis.address"),
        ("gateway.configuration.identity.usersPort=1", "gateway.usersPort"),
    ],
)
def test_what_the_installation_decides_is_set_elsewhere(choice: str, instead: str) -> None:
    with pytest.raises(UsageError, match="decided by the installation") as refused:
        documents(choice)
    assert instead in str(refused.value)


def test_tls_comes_from_the_secret() -> None:
    found = documents("gateway.tls.secretName=cert")
    spec = dict(pod_specs(found))["pybrix-gateway"]
    envoy = spec["containers"][0]
    assert {"name": "tls", "mountPath": "/etc/pybrix/tls", "readOnly": True} in envoy["volumeMounts"]
    assert envoy["readinessProbe"]["httpGet"]["scheme"] == "HTTPS"
    assert "tls.crt" in of_kind("ConfigMap", found)["pybrix-gateway"]["data"]["gateway.yaml"]
    assert of_kind("Service", found)["pybrix-gateway"]["spec"]["ports"][0]["name"] == "https"


def test_nothing_talks_to_anyone_unless_a_policy_says_so() -> None:
    policies = of_kind("NetworkPolicy", documents("gateway.namespaces=team-a"))
    assert set(policies["pybrix-default-deny"]["spec"]) == {"podSelector", "policyTypes"}
    for policy in policies.values():
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    engines = [rule for rule in policies["pybrix-gateway"]["spec"]["egress"] if "namespaceSelector" in str(rule)]
    assert [peer["namespaceSelector"]["matchExpressions"][0]["values"] for peer in engines[0]["to"]] == [["team-a"]]
    assert not of_kind("NetworkPolicy", documents("networkPolicies.enabled=false"))


def ports_of(rules: list[Any], peers: Any) -> list[list[int] | None]:
    """Return the ports of the rules with these peers; None for any port."""
    found = [rule for rule in rules if rule.get("to", rule.get("from")) == peers]
    return [[port["port"] for port in rule["ports"]] if "ports" in rule else None for rule in found]


def test_gateways_reach_engines_on_any_port_and_their_redis_on_its_own() -> None:
    def egress(*choices: str) -> list[Any]:
        rules: list[Any] = of_kind("NetworkPolicy", documents(*choices))["pybrix-gateway"]["spec"]["egress"]
        return rules

    engines = {"matchExpressions": [{"key": "model.aibrix.ai/name", "operator": "Exists"}]}
    # Requests and metrics: a label of the pod says the port.
    assert ports_of(egress(), [{"namespaceSelector": {}, "podSelector": engines}]) == [None]
    redis = {"app.kubernetes.io/name": "pybrix-redis", "app.kubernetes.io/instance": "pybrix"}
    assert ports_of(egress(), [{"podSelector": {"matchLabels": redis}}]) == [[6379]]
    assert [6380] in ports_of(egress("redis.address=r:6380"), None)
    own = [{"ipBlock": {"cidr": "10.1.0.0/16"}}]
    narrowed = egress("redis.address=r:6380", "networkPolicies.redis=[{ipBlock: {cidr: 10.1.0.0/16}}]")
    assert ports_of(narrowed, own) == [[6380]]
    assert [6380] not in ports_of(narrowed, None)
    assert egress("networkPolicies.gatewayEgress=[{ports: [{port: 4318}]}]")[-1] == {"ports": [{"port": 4318}]}


def test_controllers_reach_metadata_servers_that_are_made_and_those_that_a_rule_names() -> None:
    def egress(*choices: str) -> list[Any]:
        rules: list[Any] = of_kind("NetworkPolicy", documents(*choices))["pybrix-controllers"]["spec"]["egress"]
        return rules

    labels = ("kvcache.aibrix.ai/role", "kvcache.orchestration.aibrix.ai/role")
    made = [{"namespaceSelector": {}, "podSelector": {"matchLabels": {label: "metadata"}}} for label in labels]
    assert ports_of(egress(), made) == [[2379, 6379]]
    assert egress("networkPolicies.controllersEgress=[{ports: [{port: 2379}]}]")[-1] == {"ports": [{"port": 2379}]}


def test_the_api_for_users_is_open_to_whom_it_is_meant_for() -> None:
    def ingress(*choices: str) -> list[Any]:
        found = documents("gateway.adminTokenSecret=admin", *choices)
        rules: list[Any] = of_kind("NetworkPolicy", found)["pybrix-gateway"]["spec"]["ingress"]
        return rules

    assert [8090] in ports_of(ingress(), [{"namespaceSelector": {}}])
    assert ports_of(ingress("networkPolicies.administrators=[{podSelector: {}}]"), [{"podSelector": {}}]) == [[8090]]
    assert "8090" not in str(ingress("gateway.usersPort=0"))


def test_rules_join_verbs_and_are_in_a_stable_order() -> None:
    twice = (Permission("", ("pods",), ("list",)), Permission("", ("pods",), ("watch", "list")))
    rights = Rights(controllers=twice, election=(), gateway=twice[::-1], password=())
    found = render(resolve((), ()), rights, namespace="x", parts=Parts(has_crds=False))
    roles = of_kind("ClusterRole", found)
    want = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]}]
    assert roles["pybrix:x:controllers"]["rules"] == want
    assert roles["pybrix:x:gateway"]["rules"] == want
