"""Bodies: JSON, YAML and protobuf in; types checked, unknown fields named."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from pybrix.cluster.apiserver.negotiation import decode_body, parse_accept
from pybrix.cluster.apiserver.protobuf import PROTOBUF, decode_protobuf
from pybrix.cluster.apiserver.resources import TYPES
from pybrix.cluster.apiserver.schema.decode import WrongType, decode_struct
from pybrix.cluster.apiserver.schema.shape import UnknownType, parse_types, shape_of_openapi
from pybrix.kube.errors import BadRequest, StatusError
from tests.support.protobuf import enveloped, message, varint


def test_unknown_fields_are_dropped_and_named_by_path() -> None:
    body = {"spec": {"containers": [{"name": "a", "imge": "x"}], "nope": 1}, "kind": "Pod"}
    decoded = decode_struct(body, TYPES["Pod"])
    assert decoded.value == {"spec": {"containers": [{"name": "a"}]}, "kind": "Pod"}
    assert sorted(decoded.unknown) == ["spec.containers[0].imge", "spec.nope"]


def test_null_is_absent() -> None:
    body = {"metadata": {"creationTimestamp": None, "labels": None}, "data": {"a": None, "b": "c"}}
    assert decode_struct(body, TYPES["ConfigMap"]).value == {"metadata": {}, "data": {"a": "", "b": "c"}}


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"containers": {}}, "spec.containers"),
        ({"containers": [[]]}, "spec.containers[0]"),
        ({"hostNetwork": "yes"}, "spec.hostNetwork"),
        ({"priority": 2**40}, "spec.priority"),
        ({"priority": 1.5}, "spec.priority"),
        ({"priority": True}, "spec.priority"),
        ({"nodeSelector": {"a": 1}}, "spec.nodeSelector.a"),
        ({"overhead": {"cpu": "1x"}}, "spec.overhead.cpu"),
        ({"tolerations": "x"}, "spec.tolerations"),
    ],
)
def test_wrong_type_names_the_path(spec: dict[str, Any], path: str) -> None:
    with pytest.raises(WrongType, match=rf"^{path.replace('[', '.').replace(']', '.')}:"):
        decode_struct({"spec": spec}, TYPES["Pod"])


def test_types_are_called_as_manifests_call_them() -> None:
    with pytest.raises(WrongType, match=r"cannot decode string into a value of type integer$"):
        decode_struct({"spec": {"priority": "high"}}, TYPES["Pod"])


def test_times_and_base64_are_checked() -> None:
    with pytest.raises(WrongType, match="RFC 3339"):
        decode_struct({"metadata": {"creationTimestamp": "yesterday"}}, TYPES["Pod"])
    with pytest.raises(WrongType, match="base64"):
        decode_struct({"data": {"a": "%%"}}, TYPES["Secret"])


def test_described_types_must_exist() -> None:
    with pytest.raises(UnknownType):
        parse_types(["type A\n  b Nope"])
    with pytest.raises(ValueError, match="unknown flag"):
        parse_types(["type A\n  b string sideways"])


def test_schema_of_a_custom_kind_becomes_a_shape() -> None:
    shape = shape_of_openapi(
        {
            "type": "object",
            "properties": {
                "n": {"type": "integer"},
                "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "port": {"x-kubernetes-int-or-string": True},
                "list": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
            },
        }
    )
    body = {"n": 1, "any": {"x": [1]}, "port": "http", "list": ["a"], "more": 1}
    assert decode_struct(body, shape).unknown == ["more"]
    with pytest.raises(WrongType):
        decode_struct({"n": "1"}, shape)


def test_yaml_is_read_as_json_with_dates_as_text() -> None:
    body = b"a: 2026-11-22\nb: [1, 2.5, true, null]\nc: {d: 'x'}\n"
    assert decode_body(body, "application/yaml") == {"a": "2026-11-22", "b": [1, 2.5, True, None], "c": {"d": "x"}}


@pytest.mark.parametrize(
    ("body", "media"),
    [
        (b"a: [", "application/yaml"),
        (b"1: 2", "application/yaml"),
        (b"a: &x [1]\nb: *x", "application/yaml"),
        (b"a: !!python/object:os.system {}", "application/yaml"),
        (b"{", "application/json"),
        (b'{"a": NaN}', "application/json"),
        (b"\xff", "application/json"),
        (b"rubbish", PROTOBUF),
    ],
)
def test_malformed_body_is_a_bad_request(body: bytes, media: str) -> None:
    with pytest.raises(BadRequest):
        decode_body(body, media)


def test_unknown_format_names_those_that_are_read() -> None:
    with pytest.raises(StatusError, match="application/json") as caught:
        decode_body(b"x", "application/cbor")
    assert caught.value.code == 415


def test_accept_takes_the_first_form_that_there_is() -> None:
    table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    assert parse_accept(table).is_table
    assert not parse_accept("application/vnd.kubernetes.protobuf,application/json").is_table
    assert not parse_accept("application/json,application/json;as=Table;v=v1;g=meta.k8s.io").is_table
    assert parse_accept("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1").is_metadata_only
    assert not parse_accept("").is_table


def test_protobuf_config_map() -> None:
    entry = message((1, b"k"), (2, b"v"))
    raw = message((1, message((1, b"name"), (8, b""))), (2, entry), (4, 1))
    assert decode_protobuf(enveloped("ConfigMap", raw)) == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "name"},
        "data": {"k": "v"},
        "immutable": True,
    }


def test_protobuf_secret_data_is_base64_in_json() -> None:
    raw = message((2, message((1, b"k"), (2, b"\x00\xff"))), (3, b"Opaque"))
    assert decode_protobuf(enveloped("Secret", raw))["data"] == {"k": "AP8="}


def test_protobuf_that_is_not_understood_is_refused_not_lost() -> None:
    for body in (
        enveloped("ResourceQuota", b""),
        enveloped("ConfigMap", message((99, b"x"))),
        # Its fields have other numbers than those of v2.
        enveloped("HorizontalPodAutoscaler", message((2, message((4, 80)))), "autoscaling/v1"),
    ):
        with pytest.raises(StatusError, match="send it as JSON") as caught:
            decode_protobuf(body)
        assert caught.value.code == 415


def test_protobuf_of_a_deployment() -> None:
    """Inline messages (volumes' sources, probes' handlers), zeros behind pointers, empty messages that mean nothing."""
    probe = message((1, message((2, message((1, b"/health"), (2, message((1, 0), (2, 8000))))))), (2, 0), (4, 5))
    security = message((1, message((2, b"ALL"))), (2, 0), (5, 0), (11, message((1, b"RuntimeDefault"))))
    container = message((1, b"c"), (8, b""), (11, probe), (15, security), (16, 0))
    term = message((1, message((1, b"zone"), (2, b"In"), (3, b"a"))))
    affinity = message((1, message((1, message((1, term))))))
    volumes = (
        (1, message((1, b"e"), (2, message((2, message((1, b""))))))),
        (1, message((1, b"m"), (2, message((19, message((1, message((1, b"config"))), (4, 0))))))),
    )
    pod = message(*volumes, (2, container), (4, 0), (11, 0), (18, affinity), (21, 0))
    raw = message((1, message((1, b"d"))), (2, message((1, 0), (2, b""), (3, message((1, b""), (2, pod))), (4, b""))))
    spec = {
        "replicas": 0,
        "selector": {},
        "template": {
            "spec": {
                "volumes": [
                    {"name": "e", "emptyDir": {}},
                    {"name": "m", "configMap": {"name": "config", "optional": False}},
                ],
                "containers": [
                    {
                        "name": "c",
                        "readinessProbe": {"httpGet": {"path": "/health", "port": 8000}, "periodSeconds": 5},
                        "securityContext": {
                            "capabilities": {"drop": ["ALL"]},
                            "privileged": False,
                            "runAsNonRoot": False,
                            "seccompProfile": {"type": "RuntimeDefault"},
                        },
                    }
                ],
                "terminationGracePeriodSeconds": 0,
                "affinity": {
                    "nodeAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": {
                            "nodeSelectorTerms": [
                                {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
                            ]
                        }
                    }
                },
                "automountServiceAccountToken": False,
            }
        },
    }
    assert decode_protobuf(enveloped("Deployment", raw, "apps/v1"))["spec"] == spec


def test_protobuf_of_a_lease_keeps_microseconds_and_managed_fields() -> None:
    managed = message((1, b"leader"), (7, message((1, b'{"f:spec":{}}'))))
    spec = message((1, b"a"), (2, 15), (4, message((1, 1_700_000_000), (2, 123_456_789))), (5, 0))
    raw = message((1, message((1, b"l"), (17, managed))), (2, spec))
    decoded = decode_protobuf(enveloped("Lease", raw, "coordination.k8s.io/v1"))
    assert decoded["metadata"]["managedFields"] == [{"manager": "leader", "fieldsV1": {"f:spec": {}}}]
    assert decoded["spec"] == {
        "holderIdentity": "a",
        "leaseDurationSeconds": 15,
        "renewTime": "2023-11-14T22:13:20.123456Z",
        "leaseTransitions": 0,
    }


@pytest.mark.parametrize("text", [b"\xff", b'"\xff"', b"{", b"[" * 100_000])
def test_protobuf_with_json_that_is_none_is_a_bad_request(text: bytes) -> None:
    raw = message((1, message((17, message((7, message((1, text))))))))
    with pytest.raises(BadRequest, match="is no JSON"):
        decode_protobuf(enveloped("ConfigMap", raw))


def test_protobuf_of_delete_options() -> None:
    raw = message((1, 0), (2, message((1, b"uid"))), (4, b"Foreground"), (5, b"All"))
    assert decode_protobuf(enveloped("DeleteOptions", raw)) == {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "gracePeriodSeconds": 0,
        "preconditions": {"uid": "uid"},
        "propagationPolicy": "Foreground",
        "dryRun": ["All"],
    }


@pytest.mark.parametrize("cut", [1, 3, 5, 8, 11, 14, 17, 20, 30])
def test_protobuf_cut_short_is_a_bad_request(cut: int) -> None:
    body = enveloped("ConfigMap", message((1, message((1, b"name-of-it"))), (2, message((1, b"k"), (2, b"v")))))
    with pytest.raises((BadRequest, StatusError)):
        decode_protobuf(body[:-cut])


def test_fixed_width_fields_are_passed_over_when_empty() -> None:
    raw = message((1, message((1, b"n")))) + varint(50 << 3 | 5) + struct.pack("<I", 7)
    with pytest.raises(StatusError):
        decode_protobuf(enveloped("ConfigMap", raw))
