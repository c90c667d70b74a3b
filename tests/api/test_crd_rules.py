"""The rules in the definitions: which change of a valid manifest is refused, at which field, with which words."""

from __future__ import annotations

from typing import Any

import pytest

from pybrix.api.kvcache.v1alpha1.kvcachepool import KVCachePool
from pybrix.api.scheme import CUSTOM_KINDS
from tests.support.manifests import DROP, admit, changed, example

KINDS = [cls.gvk.kind for cls in CUSTOM_KINDS]
POD = {"metricSourceType": "pod", "targetMetric": "m", "targetValue": "1"}
FROM_POD = {**POD, "protocolType": "http", "port": "8000", "path": "/metrics"}
DAY = {"name": "day", "startTime": "05:00", "endTime": "18:00", "maxReplicas": 9, "timezone": "Europe/Berlin"}
CONTAINERS = {"containers": [{"name": "c", "image": "i"}]}
LABEL = "spec.template.metadata.labels"


@pytest.mark.parametrize("kind", KINDS)
def test_the_example_is_accepted(kind: str) -> None:
    assert admit(example(kind)) == []


ACCEPTED: list[tuple[str, str, dict[str, Any]]] = [
    ("PodAutoscaler", "no replicas at all at night", {"spec.minReplicas": 0}),
    (
        "PodAutoscaler",
        "an external metric of the metrics API",
        {"spec.metricsSources.0": {**POD, "metricSourceType": "external"}},
    ),
    (
        "PodAutoscaler",
        "cpu of the metrics API",
        {"spec.metricsSources.0": {"metricSourceType": "resource", "targetMetric": "cpu", "targetValue": "0.5"}},
    ),
    (
        "PodAutoscaler",
        "an external metric, whose port nobody reads",
        {"spec.metricsSources.0": {**POD, "metricSourceType": "external", "port": "web"}},
    ),
    ("PodAutoscaler", "windows that only touch", {"spec.schedules.1": {**DAY, "startTime": "06:00"}}),
    (
        "PodAutoscaler",
        "windows at the same hours of other days",
        {"spec.schedules.1": {**DAY, "daysOfWeek": ["sat", "SUN"]}},
    ),
    ("PodAutoscaler", "the windows' defaults", {"spec.observeWindowSeconds": DROP, "spec.panicWindowSeconds": DROP}),
    ("ModelAdapter", "as many pods as there are", {"spec.replicas": DROP}),
    ("ModelAdapter", "five pods", {"spec.replicas": 5}),
    ("ModelAdapter", "a path in the pods", {"spec.artifactURL": "/models/lora"}),
    (
        "ModelAdapter",
        "expressions instead of labels",
        {"spec.podSelector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}},
    ),
    ("ModelClaim", "three pods", {"spec.replicas": 3}),
    ("ModelClaim", "every warm pod", {"spec.podSelector": {}}),
    (
        "KVCache",
        "a policy that the template overrides",
        {"spec.cache": {"imagePullPolicy": "no", "template": {"spec": CONTAINERS}}},
    ),
    ("KVCache", "no metadata", {"spec.metadata": DROP}),
    ("KVCache", "a redis that is made", {"spec.metadata.redis": {"runtime": {"image": "redis:7"}}}),
    ("KVCachePool", "a managed redis", {"spec.metadata": {"managed": {"kind": "redis"}}}),
    ("KVCachePool", "an etcd of three", {"spec.metadata": {"managed": {"replicas": 3}}}),
    ("KVCachePool", "an etcd elsewhere", {"spec.metadata": {"etcd": {"endpoints": ["https://e1:2379", "[::1]:2379"]}}}),
    ("KVCachePool", "a redis elsewhere", {"spec.metadata": {"redis": {"address": "r:6379", "tls": {}}}}),
    (
        "StormService",
        "replicas left to the default",
        {"spec.replicas": DROP, "spec.template.spec.roles.0.replicas": DROP},
    ),
    ("StormService", "one role without a name", {"spec.template.spec.roles.1": {"template": {"spec": CONTAINERS}}}),
    (
        "StormService",
        "names that just fit a pod group",
        {"metadata.name": "s" * 20, "spec.template.spec.roles.0.podGroupSize": 2},
    ),
    (
        "StormService",
        "a selector by expression",
        {"spec.selector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["chat", "x"]}]}},
    ),
    (
        "StormService",
        "templates as Go programs write them",
        {
            "spec.template.metadata.creationTimestamp": None,
            "spec.template.spec.roles.0.template.metadata": {"creationTimestamp": None},
        },
    ),
    ("RoleSet", "no roles", {"spec": DROP}),
    ("RoleSet", "fields of pods that are not listed", {"spec.roles.0.template.spec.dnsPolicy": "None"}),
    ("RayClusterFleet", "no strategy", {"spec.strategy": DROP}),
    ("RayClusterFleet", "fields of Ray that are not listed", {"spec.template.spec.gcsFaultToleranceOptions": {"a": 1}}),
]


@pytest.mark.parametrize(("kind", "what", "changes"), ACCEPTED, ids=[f"{kind}: {what}" for kind, what, _ in ACCEPTED])
def test_accepted(kind: str, what: str, changes: dict[str, Any]) -> None:
    assert admit(changed(example(kind), changes)) == []


REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("PodAutoscaler", {"spec.scaleTargetRef.name": ""}, "spec.scaleTargetRef.name", "name of the workload"),
    ("PodAutoscaler", {"spec.scaleTargetRef.kind": DROP}, "spec.scaleTargetRef.kind", "kind of the workload"),
    ("PodAutoscaler", {"spec.minReplicas": -1}, "spec.minReplicas", "greater than or equal to 0"),
    ("PodAutoscaler", {"spec.maxReplicas": 0}, "spec.maxReplicas", "greater than or equal to 1"),
    ("PodAutoscaler", {"spec.maxReplicas": 1, "spec.schedules": DROP}, "spec.maxReplicas", "at least minReplicas"),
    ("PodAutoscaler", {"spec.scalingStrategy": "VPA"}, "spec.scalingStrategy", 'supported values: "HPA", "KPA", "APA"'),
    ("PodAutoscaler", {"spec.observeWindowSeconds": 0}, "spec.observeWindowSeconds", "greater than or equal to 1"),
    ("PodAutoscaler", {"spec.panicWindowSeconds": 3601}, "spec.panicWindowSeconds", "less than or equal to 3600"),
    ("PodAutoscaler", {"spec.panicWindowSeconds": 121}, "spec.panicWindowSeconds", "not be longer"),
    (
        "PodAutoscaler",
        {"spec.observeWindowSeconds": 59, "spec.panicWindowSeconds": DROP},
        "spec.panicWindowSeconds",
        "default 60",
    ),
    (
        "PodAutoscaler",
        {"spec.scalingStrategy": "HPA", "spec.subTargetSelector": {"roleName": "prefill"}},
        "spec.subTargetSelector",
        "scales a whole workload",
    ),
    ("PodAutoscaler", {"spec.metricsSources": DROP}, "spec.metricsSources", "at least one metric"),
    ("PodAutoscaler", {"spec.metricsSources": []}, "spec.metricsSources", "at least 1 items"),
    *(
        ("PodAutoscaler", {"spec.metricsSources.0.targetValue": text}, "spec.metricsSources[0].targetValue", "number")
        for text in ("many", "-1", "0", "", "1e", "0x10", "1e400", "1e309")
    ),
    *(
        ("PodAutoscaler", {"spec.metricsSources.0": {**FROM_POD, "port": text}}, "spec.metricsSources[0].port", "65535")
        for text in ("0", "65536", "http", "-1", "8000 ", "9" * 30)
    ),
    ("PodAutoscaler", {"spec.metricsSources.0.targetMetric": ""}, "spec.metricsSources[0].targetMetric", "at least 1"),
    *(
        (kind, {"spec.podSelector": {"matchLabels": {"app": text}}}, "spec.podSelector.matchLabels.app", "should match")
        for kind in ("ModelAdapter", "ModelClaim")
        for text in ("a b", "-a", "ä")
    ),
    *(
        (kind, {"spec.podSelector": {"matchLabels": {text: "a"}}}, "spec.podSelector.matchLabels", "a key is a name")
        for kind in ("ModelAdapter", "ModelClaim")
        for text in ("a b", "", "/a", "Example.com/a")
    ),
    (
        "ModelClaim",
        {"spec.podSelector": {"matchExpressions": [{"key": "a b", "operator": "Exists"}]}},
        "spec.podSelector.matchExpressions[0].key",
        "should match",
    ),
    ("KVCache", {"spec.cache.imagePullPolicy": "Sometimes"}, "spec.cache.imagePullPolicy", "must be Always"),
    ("PodAutoscaler", {"spec.metricsSources.0": POD}, "spec.metricsSources[0]", "set protocolType, port and path"),
    (
        "PodAutoscaler",
        {"spec.metricsSources.0": {**POD, "metricSourceType": "domain", "endpoint": "e:80"}},
        "spec.metricsSources[0]",
        "set protocolType and path",
    ),
    (
        "PodAutoscaler",
        {"spec.metricsSources.0": {**POD, "metricSourceType": "resource"}},
        "spec.metricsSources[0].targetMetric",
        "cpu or memory",
    ),
    (
        "PodAutoscaler",
        {"spec.metricsSources.0": {**FROM_POD, "metricSourceType": "resource", "targetMetric": "cpu"}},
        "spec.metricsSources[0]",
        "leave protocolType",
    ),
    ("PodAutoscaler", {"spec.schedules.0.startTime": "24:00"}, "spec.schedules[0].startTime", "should match"),
    ("PodAutoscaler", {"spec.schedules.0.endTime": "00:00"}, "spec.schedules[0].endTime", "crosses midnight"),
    ("PodAutoscaler", {"spec.schedules.0.daysOfWeek": ["Monday"]}, "spec.schedules[0].daysOfWeek[0]", ""),
    ("PodAutoscaler", {"spec.schedules.0.timezone": "not a zone"}, "spec.schedules[0].timezone", "should match"),
    (
        "PodAutoscaler",
        {"spec.schedules.0.minReplicas": DROP, "spec.schedules.0.maxReplicas": DROP},
        "spec.schedules[0]",
        "set at least one",
    ),
    ("PodAutoscaler", {"spec.schedules.0.minReplicas": 5}, "spec.schedules", "not be greater than maxReplicas"),
    (
        "PodAutoscaler",
        {"spec.schedules.0.minReplicas": DROP, "spec.schedules.0.maxReplicas": 1},
        "spec.schedules",
        "counting the spec's own",
    ),
    ("PodAutoscaler", {"spec.schedules.1": DAY}, "spec.schedules", "must not overlap"),
    ("PodAutoscaler", {"spec.schedules.1": {**DAY, "daysOfWeek": ["FRI"]}}, "spec.schedules", "must not overlap"),
    (
        "PodAutoscaler",
        {"spec.schedules.1": {**DAY, "startTime": "07:00", "timezone": "UTC"}},
        "spec.schedules",
        "same timezone",
    ),
    (
        "PodAutoscaler",
        {"spec.schedules.1": {**DAY, "name": "night", "startTime": "07:00"}},
        "spec.schedules[1]",
        "Duplicate",
    ),
    ("PodAutoscaler", {"spec": DROP}, "spec", "Required"),
    *(
        ("ModelAdapter", {"spec.artifactURL": text}, "spec.artifactURL", "must be an absolute path or start with")
        for text in ("", "hugingface://a/b", "org/model", "s3://", "s3://a b", "ftp://a/b")
    ),
    ("ModelAdapter", {"spec.replicas": 0}, "spec.replicas", "greater than or equal to 1"),
    ("ModelAdapter", {"spec.podSelector": {}}, "spec.podSelector", "at least one label"),
    ("ModelAdapter", {"metadata.name": "v1.lora"}, "metadata.name", "should match"),
    (
        "ModelAdapter",
        {"spec.podSelector": {"matchExpressions": [{"key": "a", "operator": "Equals"}]}},
        "spec.podSelector.matchExpressions[0].operator",
        "In, NotIn, Exists or DoesNotExist",
    ),
    (
        "ModelAdapter",
        {"spec.podSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}},
        "spec.podSelector.matchExpressions[0].values",
        "need values",
    ),
    ("ModelClaim", {"spec.engine": "tgi"}, "spec.engine", "supported values"),
    ("ModelClaim", {"spec.replicas": 0}, "spec.replicas", "greater than or equal to 1"),
    ("KVCache", {"spec.metadata": {}}, "spec.metadata", "needs etcd or redis"),
    ("KVCache", {"spec.metadata": {"etcd": {}}}, "spec.metadata.etcd", "set runtime to run a server"),
    (
        "KVCache",
        {"spec.metadata.redis.externalConnection.address": "redis"},
        "spec.metadata.redis.externalConnection.address",
        "host:port",
    ),
    (
        "KVCache",
        {"spec.metadata.redis.externalConnection.passwordSecretRef": "a/b/c"},
        "spec.metadata.redis.externalConnection.passwordSecretRef",
        "should match",
    ),
    ("KVCache", {"spec.service.type": "clusterip"}, "spec.service.type", "must be ClusterIP, NodePort"),
    ("KVCache", {"spec.service.ports": []}, "spec.service.ports", "at least 1"),
    ("KVCache", {"spec.cache.replicas": -1}, "spec.cache.replicas", "greater than or equal to 0"),
    ("KVCachePool", {"spec.metadata": {}}, "spec.metadata", "exactly one"),
    (
        "KVCachePool",
        {"spec.metadata": {"managed": {}, "redis": {"address": "r:6379"}}},
        "spec.metadata",
        "exactly one",
    ),
    ("KVCachePool", {"spec.metadata": {"managed": {"replicas": 2}}}, "spec.metadata.managed.replicas", "odd"),
    (
        "KVCachePool",
        {"spec.metadata": {"managed": {"kind": "redis", "replicas": 3}}},
        "spec.metadata.managed.replicas",
        "one replica",
    ),
    ("KVCachePool", {"spec.metadata": {"etcd": {"endpoints": []}}}, "spec.metadata.etcd.endpoints", "at least 1"),
    ("KVCachePool", {"spec.metadata": {"redis": {"address": "r"}}}, "spec.metadata.redis.address", "should match"),
    ("KVCachePool", {"spec.cache.image": DROP}, "spec.cache.image", "Required"),
    ("KVCachePool", {"spec.service.port": 0}, "spec.service.port", "greater than or equal to 1"),
    ("StormService", {"metadata.name": "s" * 64}, "metadata.name", "63"),
    (
        "StormService",
        {"metadata.name": "s" * 21, "spec.template.spec.roles.1.podGroupSize": 2},
        "metadata.name",
        "pod names are made of both",
    ),
    ("StormService", {"spec.template.spec": DROP}, "spec.template.spec", "template.spec is required"),
    ("StormService", {f"{LABEL}.app": "other"}, "spec.selector", "finds nothing"),
    ("StormService", {"spec.template.metadata": DROP}, "spec.selector", "finds nothing"),
    ("StormService", {"spec.selector": {}}, "spec.selector", "everything in the namespace"),
    (
        "StormService",
        {"spec.selector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["chat"]}]}},
        "spec.selector",
        "finds nothing",
    ),
    ("StormService", {"spec.replicas": -1}, "spec.replicas", "greater than or equal to 0"),
    (
        "StormService",
        {"spec.updateStrategy.maxUnavailable": "few"},
        "spec.updateStrategy.maxUnavailable",
        "should match",
    ),
    (
        "StormService",
        {"spec.updateStrategy.maxSurge": -1},
        "spec.updateStrategy.maxSurge",
        "greater than or equal to 0",
    ),
    ("StormService", {"spec.template.spec.roles.1.name": "prefill"}, "spec.template.spec.roles[1]", "Duplicate"),
    (
        "StormService",
        {"spec.template.spec.roles.0.name": "Pre Fill"},
        "spec.template.spec.roles[0].name",
        "should match",
    ),
    ("StormService", {"spec.template.spec.roles.0.template": DROP}, "spec.template.spec.roles[0].template", "no pod"),
    (
        "StormService",
        {"spec.template.spec.roles.0.template.spec": {}},
        "spec.template.spec.roles[0].template.spec.containers",
        "Required",
    ),
    ("StormService", {"spec.tempalte": {}}, "spec.tempalte", "unknown field"),
    ("RoleSet", {"spec.roles.0.podGroupSize": 101}, "spec.roles[0].podGroupSize", "less than or equal to 100"),
    (
        "RoleSet",
        {"spec.schedulingStrategy.coschedulingSchedulingStrategy": {"minMember": 1}},
        "spec.schedulingStrategy",
        "at most 1",
    ),
    ("PodSet", {"spec.podGroupSize": 1}, "spec.podGroupSize", "greater than or equal to 2"),
    ("PodSet", {"spec.template": DROP}, "spec.template", "Required"),
    ("RayClusterReplicaSet", {"spec.selector": DROP}, "spec.selector", "selector is required"),
    ("RayClusterReplicaSet", {"spec.template": DROP}, "spec.template", "template is required"),
    ("RayClusterReplicaSet", {f"{LABEL}.app": "x"}, "spec.selector", "finds nothing"),
    ("RayClusterFleet", {"spec.strategy.type": "Recreate"}, "spec.strategy.rollingUpdate", "does not go with"),
    ("RayClusterFleet", {"spec.strategy.type": "Rolling"}, "spec.strategy.type", "supported values"),
    (
        "RayClusterFleet",
        {"spec.progressDeadlineSeconds": 0},
        "spec.progressDeadlineSeconds",
        "greater than minReadySeconds",
    ),
    ("RayClusterFleet", {"metadata.name": "f" * 64}, "metadata.name", "63"),
    # KubeRay's own definition asks for these.
    ("RayClusterFleet", {"spec.template.spec.headGroupSpec": DROP}, "spec.template.spec.headGroupSpec", "Required"),
    (
        "RayClusterReplicaSet",
        {"spec.template.spec.headGroupSpec.template": DROP},
        "spec.template.spec.headGroupSpec.template",
        "Required",
    ),
]


@pytest.mark.parametrize(
    ("kind", "changes", "field", "words"),
    REFUSED,
    ids=[f"{kind} {', '.join(changes)} {number}" for number, (kind, changes, _, _) in enumerate(REFUSED)],
)
def test_refused_at_the_field_with_a_sentence(kind: str, changes: dict[str, Any], field: str, words: str) -> None:
    causes = admit(changed(example(kind), changes))
    assert [cause for cause in causes if cause.field == field and words in cause.message], causes


def test_a_broken_rule_shows_the_value_where_it_is_one_word() -> None:
    (cause,) = admit(changed(example("ModelAdapter"), {"spec.artifactURL": "ftp://a/b"}))
    assert cause.message.startswith('Invalid value: "ftp://a/b": artifactURL must be')
    (cause,) = admit(changed(example("ModelAdapter"), {"spec.podSelector": {}}))
    assert cause.message.startswith('Invalid value: "object": podSelector must')


@pytest.mark.parametrize("kind", ["StormService", "RayClusterFleet", "RayClusterReplicaSet"])
def test_a_selector_does_not_change(kind: str) -> None:
    old = example(kind)
    new = changed(old, {"spec.selector": {"matchLabels": {"tier": "x"}}, f"{LABEL}.tier": "x"})
    assert [(cause.field, "cannot change" in cause.message) for cause in admit(new, old)] == [("spec.selector", True)]
    assert admit(changed(old, {"spec.replicas": 7}), old) == []


def test_the_minimal_cache_pool_is_valid_and_means_managed_etcd() -> None:
    pool = example("KVCachePool")
    pool["spec"] = {
        "replicas": 1,
        "service": {"type": "ClusterIP", "port": 9600},
        "cache": {"image": "registry.example.com/kv:1", "imagePullPolicy": "IfNotPresent"},
        "scheduler": {"gpuType": "NVIDIA-A10", "affinityWorkload": "chat"},
    }
    assert admit(pool) == []
    managed = KVCachePool.from_dict(pool).spec.effective_metadata.managed
    assert managed is not None
    assert managed.kind == "etcd"


NAME = "metadata.name"
SIZE = "spec.podGroupSize"
ROLE = "spec.roles.0"
NAMES_TAKEN: list[tuple[str, dict[str, Any]]] = [
    ("KVCache", {NAME: "a" * 50}),
    ("StormService", {NAME: "s" * 63}),
    ("PodSet", {NAME: "1abc"}),
    ("PodSet", {NAME: "p" * 61, SIZE: 10}),
    ("PodSet", {NAME: "p" * 60, SIZE: 100}),
    # The host name of a stateless pod is not made of its name.
    ("RoleSet", {NAME: "a.b", f"{ROLE}.podGroupSize": 1}),
    ("RoleSet", {NAME: "1abc", f"{ROLE}.podGroupSize": 2, f"{ROLE}.stateful": True}),
    ("RoleSet", {NAME: "r" * 63, f"{ROLE}.podGroupSize": 1}),
    ("RoleSet", {NAME: "r" * 50, f"{ROLE}.name": "abcd", f"{ROLE}.podGroupSize": 10}),
    # Kubernetes cuts a generated name to 63 characters, and RayClusters get generated ones.
    ("RayClusterReplicaSet", {NAME: "r" * 253}),
]
NAMES_REFUSED: list[tuple[str, dict[str, Any]]] = [
    *((kind, {NAME: name}) for kind in ("KVCache", "StormService") for name in ("1abc", "a.b", "-a", "a-", "A")),
    ("KVCache", {NAME: "a" * 51}),
    ("PodSet", {NAME: "a.b"}),
    ("PodSet", {NAME: "p" * 62, SIZE: 2}),
    ("PodSet", {NAME: "p" * 63, SIZE: 100}),
    ("PodSet", {NAME: "p" * 61, SIZE: 11}),
    ("RoleSet", {NAME: "a.b", f"{ROLE}.podGroupSize": 2}),
    ("RoleSet", {NAME: "a.b", f"{ROLE}.podGroupSize": 1, f"{ROLE}.stateful": True}),
    ("RoleSet", {NAME: "r" * 64}),
    ("RoleSet", {NAME: "r" * 51, f"{ROLE}.name": "abcd", f"{ROLE}.podGroupSize": 10}),
    ("RoleSet", {NAME: "r" * 50, f"{ROLE}.name": "abcd", f"{ROLE}.podGroupSize": 11}),
    ("RoleSet", {NAME: "r" * 48, f"{ROLE}.name": "abcd", f"{ROLE}.podGroupSize": 10, f"{ROLE}.stateful": True}),
]


@pytest.mark.parametrize(("kind", "changes"), NAMES_TAKEN)
def test_a_name_whose_children_can_be_made_is_taken(kind: str, changes: dict[str, Any]) -> None:
    assert admit(changed(example(kind), changes)) == []


@pytest.mark.parametrize(("kind", "changes"), NAMES_REFUSED)
def test_a_name_whose_children_cannot_be_made_is_refused(kind: str, changes: dict[str, Any]) -> None:
    assert {cause.field for cause in admit(changed(example(kind), changes))} == {NAME}
