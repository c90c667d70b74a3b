"""What sources take from a Secret."""

from __future__ import annotations

import base64

import pytest

from pybrix.sidecar.artifacts.credentials import BucketCredentials, Credentials
from pybrix.sidecar.artifacts.errors import SourceInvalid


def test_names_count_in_every_style() -> None:
    want = BucketCredentials("id", "key", "", None, "eu")
    for data in (
        {"aws_access_key_id": "id", "aws_secret_access_key": "key", "aws_region": "eu"},
        {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key\n", "AWS_REGION": "eu"},
        {"aws-access-key-id": "id", "aws-secret-access-key": "key", "aws-region": "eu"},
    ):
        assert Credentials(data).s3() == want


def test_tos_by_all_of_its_names() -> None:
    for ak, sk in (("ak", "sk"), ("access-key", "secret-key"), ("TOS_ACCESS_KEY", "TOS_SECRET_KEY")):
        assert Credentials({ak: "a", sk: "s", "endpoint": "tos-cn-x.volces.com"}).tos() == BucketCredentials(
            "a", "s", "", "tos-cn-x.volces.com", None
        )


@pytest.mark.parametrize(
    ("data", "want"),
    [
        ({}, {}),
        ({"http_token": "t"}, {"Authorization": "Bearer t"}),
        ({"username": "u", "password": "p"}, {"Authorization": "Basic " + base64.b64encode(b"u:p").decode()}),
        ({"headers": '{"X-Key": "k"}', "http_token": "t"}, {"X-Key": "k"}),
    ],
)
def test_headers(data: dict[str, str], want: dict[str, str]) -> None:
    assert Credentials(data).headers() == want


@pytest.mark.parametrize(
    "data",
    [
        {"headers": "top-secret"},
        {"headers": '{"Host": "top-secret"}'},
        {"headers": '{"a b": "top-secret"}'},
        {"headers": '{"A": "top-secret\\r\\nB: c"}'},
        {"http_token": "top-secret\r\nX: y"},
        {"aws_access_key_id": "top-secret"},
        {"huggingface_token": "top-secret\x7f"},
        {"gcp_service_account_json": "top-secret"},
        {"gcp_service_account_json": '{"client_email": "top-secret"}'},
    ],
    ids=str,
)
def test_what_cannot_be_used_is_refused_without_being_shown(data: dict[str, str]) -> None:
    credentials = Credentials(data)

    def take_all() -> None:
        credentials.headers()
        credentials.s3()
        credentials.hub_token()
        credentials.service_account()

    with pytest.raises(SourceInvalid) as refusal:
        take_all()
    assert "top-secret" not in str(refusal.value)
    assert "top-secret" not in repr(credentials)


def test_of_two_the_first_counts() -> None:
    merged = Credentials({"hf-token": "request"}).merged(Credentials({"HF_TOKEN": "mounted", "ak": "a", "sk": "s"}))
    assert merged.hub_token() == "request"
    assert merged.tos().access_key == "a"
    assert not Credentials({"a": " "})
