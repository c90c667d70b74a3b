"""URL paths, lines and failures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.api.apps import Deployment
from pybrix.api.core import Node, Pod
from pybrix.api.meta import GroupVersionKind
from pybrix.kube.errors import AlreadyExists, Conflict, StatusError, TooManyRequests
from pybrix.kube.http import LineSplitter, failure, resource_path


@pytest.mark.parametrize(
    ("gvk", "namespace", "name", "subresource", "want"),
    [
        (Pod.gvk, None, "", "", "/api/v1/pods"),
        (Pod.gvk, "shop", "", "", "/api/v1/namespaces/shop/pods"),
        (Pod.gvk, "shop", "a", "status", "/api/v1/namespaces/shop/pods/a/status"),
        (Node.gvk, None, "n", "", "/api/v1/nodes/n"),
        (Node.gvk, "shop", "n", "", "/api/v1/nodes/n"),
        (Deployment.gvk, "shop", "a", "scale", "/apis/apps/v1/namespaces/shop/deployments/a/scale"),
        (Pod.gvk, "shop", "a/../b", "", "/api/v1/namespaces/shop/pods/a%2F..%2Fb"),
    ],
)
def test_paths(gvk: GroupVersionKind, namespace: str | None, name: str, subresource: str, want: str) -> None:
    assert resource_path(gvk, namespace, name, subresource) == want


@given(st.lists(st.binary(max_size=20).map(lambda b: b.replace(b"\n", b"")), max_size=8), st.data())
def test_lines_are_the_same_however_the_stream_is_cut(lines: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    splitter, got, position = LineSplitter(), [], 0
    while position < len(stream):
        size = data.draw(st.integers(1, 9))
        got += splitter.feed(stream[position : position + size])
        position += size
    assert got == [line for line in lines if line]


def test_a_status_becomes_its_error() -> None:
    error = failure(409, b'{"kind":"Status","reason":"AlreadyExists","message":"pods \\"a\\" already exists"}')
    assert isinstance(error, AlreadyExists)
    assert isinstance(error, Conflict)
    assert str(error) == 'pods "a" already exists'


def test_retry_after_comes_from_the_header_unless_the_status_says_it() -> None:
    error = failure(429, b"{}", "7")
    assert isinstance(error, TooManyRequests)
    assert error.retry_after_s == 7
    error = failure(429, b'{"details":{"retryAfterSeconds":3}}', "7")
    assert isinstance(error, TooManyRequests)
    assert error.retry_after_s == 3


@pytest.mark.parametrize("body", [b"<html>Bad gateway</html>", b"", b"[1]", b'"text"', b"\xff\xfe"])
def test_what_a_proxy_answers_is_an_error_too(body: bytes) -> None:
    error = failure(502, body)
    assert type(error) is StatusError
    assert error.code == 502
    assert str(error)
