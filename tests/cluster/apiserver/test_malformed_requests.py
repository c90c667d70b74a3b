"""Whatever a client sends (methods, paths, queries, headers, bodies), the server never answers with its own failure."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from pybrix.cluster.apiserver.builtin_types import BUILTINS
from pybrix.cluster.apiserver.protobuf import DECODED_KINDS
from tests.support.controlplane import ControlPlane

EXAMPLES = 200
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE")
DOORS = ("status", "scale", "log", "binding", "eviction", "token", "finalize", "nonsense")
MEDIA = (
    "application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "text/plain", "a/b;c=d", "",
    "application/merge-patch+json", "application/strategic-merge-patch+json", "application/json-patch+json",
    "application/apply-patch+yaml", "application/json; charset=nonsense",
)  # fmt: skip
ACCEPTED = (
    "application/json", "*/*", "application/json;as=Table;v=v1;g=meta.k8s.io", "", ";;,,=", "application/json;as",
    "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io", "application/vnd.kubernetes.protobuf",
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
)  # fmt: skip
QUERIES = (
    "limit", "continue", "resourceVersion", "resourceVersionMatch", "sendInitialEvents", "timeoutSeconds",
    "allowWatchBookmarks", "labelSelector", "fieldSelector", "dryRun", "fieldManager", "fieldValidation", "force",
    "gracePeriodSeconds", "propagationPolicy", "orphanDependents", "includeObject", "pretty", "container", "tailLines",
)  # fmt: skip
PLAUSIBLE = (
    "true", "false", "0", "1", "-1", "99999999999999999999", "All", "Exact", "NotOlderThan", "Strict", "Orphan", "a=b",
    "a in (b)", "metadata.name=x", "spec.nodeName!=", "Metadata", "Object", "eyJyZXZpc2lvbiI6MX0",
)  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    own = ControlPlane(tmp_path_factory.mktemp("malformed"))
    own.start()
    client = Client(own.kubeconfig)
    yield client
    client.close()
    own.kill()


class Client:
    """Sends bytes as they are, over one connection while it lasts."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        trust = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        host, _, port = cluster["server"].removeprefix("https://").partition(":")
        self.token = str(user["token"])
        self._connection = http.client.HTTPSConnection(host, int(port), context=trust, timeout=20)

    def send(self, method: str, target: bytes, headers: list[tuple[str, bytes]], body: bytes) -> tuple[int, bytes]:
        """Return code and the beginning of the answer; 0 where the server closed the connection instead."""
        try:
            self._connection.putrequest(method, "/", skip_accept_encoding=True)
            self._connection._buffer[0] = method.encode() + b" " + target + b" HTTP/1.1"  # type: ignore[attr-defined]
            for name, value in headers:
                self._connection.putheader(name, value)
            self._connection.putheader("Content-Length", str(len(body)))
            self._connection.endheaders(body)
            answer = self._connection.getresponse()
            read = answer.read()
            return answer.status, read
        except (http.client.HTTPException, ConnectionError):
            self._connection.close()
            return 0, b""

    def close(self) -> None:
        self._connection.close()


def tag(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + varint(len(content)) + content


def varint(value: int) -> bytes:
    built = b""
    while value > 0x7F:
        built += bytes([value & 0x7F | 0x80])
        value >>= 7
    return built + bytes([value])


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["apiVersion", "kind", "metadata", "name", "spec", "status", "items", "op", "path", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
RAW = st.recursive(
    st.binary(max_size=20),
    lambda inner: st.lists(st.builds(tag, st.integers(1, 15), inner), max_size=4).map(b"".join),
)


@st.composite
def protobuf(draw: st.DrawFn) -> bytes:
    kind = draw(st.sampled_from(DECODED_KINDS)).encode()
    version = draw(st.sampled_from([b"v1", b"apps/v1", b"autoscaling/v2", b"rbac.authorization.k8s.io/v1", b""]))
    meta = tag(1, version) + tag(2, kind)
    return b"k8s\x00" + tag(1, meta) + tag(2, draw(RAW))


BODIES = (
    st.just(b"")
    | JSON_VALUES.map(lambda value: json.dumps(value).encode())
    | protobuf()
    | st.binary(max_size=60)
    | st.text(max_size=40).map(lambda text: text.encode(errors="replace"))
)


@st.composite
def targets(draw: st.DrawFn) -> bytes:
    served = draw(st.sampled_from(BUILTINS))
    parts = ["apis", served.group, served.version] if served.group else ["api", served.version]
    if draw(st.booleans()):
        parts += ["namespaces", draw(st.sampled_from(["default", "none", "", "%2e", "a%00b"]))]
    parts.append(served.plural)
    if draw(st.booleans()):
        parts.append(draw(st.sampled_from(["kubernetes", "x", "%ff", "default", "..", "%C3%A9"])))
        if draw(st.booleans()):
            parts.append(draw(st.sampled_from(DOORS)))
    if draw(st.integers(0, 9)) == 0:
        parts = draw(
            st.lists(st.sampled_from(["api", "apis", "v1", "openapi", "v2", "v3", "version", "livez"]), max_size=4)
        )
    # Watches would only last, and are for other tests.
    values = st.sampled_from((*PLAUSIBLE, "%ff", "%", "+", ""))
    given_ = draw(st.lists(st.tuples(st.sampled_from(QUERIES), values), max_size=3))
    query = "&".join(f"{name}={value}" for name, value in given_).replace(" ", "%20")
    return f"/{'/'.join(parts)}?{query}".encode()


HEADER = st.binary(max_size=20).map(lambda raw: bytes(b for b in raw if b not in b"\r\n\x00"))


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(METHODS),
    targets(),
    st.sampled_from(MEDIA),
    st.sampled_from(ACCEPTED),
    st.dictionaries(
        st.sampled_from(["User-Agent", "Impersonate-User", "Impersonate-Group", "Impersonate-Extra-x", "X-Other"]),
        HEADER,
        max_size=2,
    ),
    BODIES,
)
def test_no_request_makes_the_server_fail(
    server: Client, method: str, target: bytes, media: str, accept: str, more: dict[str, bytes], body: bytes
) -> None:
    headers = [("Authorization", f"Bearer {server.token}".encode()), ("Accept", accept.encode())]
    headers += [("Content-Type", media.encode()), *more.items()]
    code, read = server.send(method, target, headers, body)
    event(f"answered {code // 100}xx")
    assert code < 500 or code in (503, 504), (code, method, target, headers[1:], body, read)
    if code >= 400 and method != "HEAD" and read:
        status: Any = json.loads(read) if read.startswith(b"{") else None
        assert status is None or (status["kind"], status["code"]) == ("Status", code)


@given(HEADER)
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_credential_makes_the_server_fail(server: Client, credential: bytes) -> None:
    for value in (credential, b"Bearer " + credential, b"Basic " + credential):
        code, _ = server.send("GET", b"/api/v1/namespaces", [("Authorization", value)], b"")
        assert code in (0, 400, 401), (code, value)
