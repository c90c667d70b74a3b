"""Objects of S3, of TOS by the same API, and of GCS."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import boto3
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from moto.server import ThreadedMotoServer

from pybrix.sidecar.artifacts.credentials import BucketCredentials, ServiceAccount
from pybrix.sidecar.artifacts.errors import (
    ChecksumMismatch,
    ListingHostile,
    SourceInvalid,
    SourceMissing,
    SourceRefused,
    SourceUnavailable,
)
from pybrix.sidecar.artifacts.gcs import render_assertion
from pybrix.sidecar.artifacts.s3 import plan_bucket
from pybrix.sidecar.artifacts.source import Provider
from tests.support.artifacts import MIB, Shelf, open_shelf
from tests.support.sources import ADAPTER, Served, origin, tar_gz

KEYS = {"aws_access_key_id": "AKID", "aws_secret_access_key": "secret", "aws_region": "us-east-1"}


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(moto: str) -> Any:
    """A fresh bucket by its own client."""
    client = boto3.client(
        "s3", endpoint_url=moto, aws_access_key_id="AKID", aws_secret_access_key="secret", region_name="us-east-1"
    )
    client.create_bucket(Bucket="loras")
    yield client
    for found in client.list_objects_v2(Bucket="loras").get("Contents", []):
        client.delete_object(Bucket="loras", Key=found["Key"])
    client.delete_bucket(Bucket="loras")
    client.close()


@pytest.fixture
async def shelf(tmp_path: Path, moto: str) -> AsyncIterator[Shelf]:
    async with open_shelf(tmp_path, s3=moto) as opened:
        yield opened


async def test_an_object_that_is_an_archive(shelf: Shelf, bucket: Any) -> None:
    bucket.put_object(Bucket="loras", Key="a/lora.tar.gz", Body=tar_gz(ADAPTER))
    assert await shelf.read("s3://loras/a/lora.tar.gz", **KEYS) == ADAPTER


@pytest.mark.parametrize("url", ["s3://loras/team a/lora/", "s3://loras/team a/lora", "tos://loras/team%20a/lora/"])
async def test_everything_below_a_prefix(shelf: Shelf, bucket: Any, url: str) -> None:
    files = {**ADAPTER, "sub/x+y&z ä.txt": b"x"}
    for name, data in files.items():
        bucket.put_object(Bucket="loras", Key=f"team a/lora/{name}", Body=data)
    bucket.put_object(Bucket="loras", Key="team a/lora/", Body=b"")
    bucket.put_object(Bucket="loras", Key="team a/lora2/x", Body=b"other")
    keys = KEYS if url.startswith("s3") else {"ak": "AKID", "sk": "secret"}
    assert await shelf.read(url.replace(" ", "%20"), **keys) == files


async def test_listings_of_several_pages(shelf: Shelf) -> None:
    tokens: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        if "list-type" not in request.query:
            return web.Response(body=request.path[-1].encode())
        assert request.query["prefix"] == "many/"
        tokens.append(request.query.get("continuation-token", ""))
        number = len(tokens)
        following = f"<NextContinuationToken>a+b/{number}==</NextContinuationToken>" if number < 3 else ""
        return web.Response(
            text=f"<ListBucketResult>{following}<Contents><Key>many/{number}</Key><Size>1</Size></Contents>"
            "</ListBucketResult>"
        )

    async with serving(answer) as url:
        assert await shelf.read("s3://loras/many/", endpoint=url) == {"1": b"1", "2": b"2", "3": b"3"}
    assert tokens == ["", "a+b/1==", "a+b/2=="]


@asynccontextmanager
async def serving(answer: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[str]:
    """Answer all requests so, and yield the URL."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    server = TestServer(app)
    await server.start_server()
    try:
        yield str(server.make_url("")).rstrip("/")
    finally:
        await server.close()


async def test_etags_of_objects_in_one_piece_are_checked(shelf: Shelf, bucket: Any) -> None:
    bucket.put_object(Bucket="loras", Key="x/a", Body=b"abc")
    artifact = await shelf.get("s3://loras/x/", **KEYS)
    assert artifact.manifest.files[0].checksum.startswith(("md5:", "sha256:"))


async def test_objects_in_parts(shelf: Shelf, bucket: Any) -> None:
    upload = bucket.create_multipart_upload(Bucket="loras", Key="big.bin")["UploadId"]
    pieces = [b"a" * 5 * MIB, b"b" * 1000]
    parts = []
    for number, piece in enumerate(pieces, 1):
        etag = bucket.upload_part(Bucket="loras", Key="big.bin", PartNumber=number, UploadId=upload, Body=piece)["ETag"]
        parts.append({"PartNumber": number, "ETag": etag})
    bucket.complete_multipart_upload(Bucket="loras", Key="big.bin", UploadId=upload, MultipartUpload={"Parts": parts})
    assert await shelf.read("s3://loras/big.bin", **KEYS) == {"big.bin": b"".join(pieces)}


async def test_a_checksum_in_the_url(shelf: Shelf, bucket: Any) -> None:
    bucket.put_object(Bucket="loras", Key="a.bin", Body=b"abc")
    digest = hashlib.sha256(b"abc").hexdigest()
    assert await shelf.read(f"s3://loras/a.bin#sha256={digest}", **KEYS) == {"a.bin": b"abc"}
    with pytest.raises(ChecksumMismatch):
        await shelf.read("s3://loras/a.bin#sha256=" + "0" * 64, **KEYS)


async def test_a_new_object_under_the_same_key_is_another_artifact(shelf: Shelf, bucket: Any) -> None:
    bucket.put_object(Bucket="loras", Key="a.bin", Body=b"abc")
    first = await shelf.get("s3://loras/a.bin", **KEYS)
    bucket.put_object(Bucket="loras", Key="a.bin", Body=b"def")
    assert await shelf.read("s3://loras/a.bin", **KEYS) == {"a.bin": b"def"}
    assert first.key in shelf.complete()


async def test_what_is_not_there(shelf: Shelf, bucket: Any) -> None:
    for url in ("s3://loras/none", "s3://loras/none/", "s3://nobucket/none/"):
        with pytest.raises(SourceMissing):
            await shelf.read(url, **KEYS)


@pytest.mark.parametrize("key", ["x/../../evil", "x/a\\b", "x//y"])
async def test_hostile_keys_write_nothing(shelf: Shelf, key: str, tmp_path: Path) -> None:
    page = f"""<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Contents>
    <Key>{key}</Key><Size>3</Size><ETag>"abc"</ETag></Contents></ListBucketResult>"""
    async with origin() as store:
        store.files["/loras/"] = Served(page.encode())
        with pytest.raises(ListingHostile):
            await shelf.read("s3://loras/x/", endpoint=store.url)
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize(
    "page", ["no xml", "<!DOCTYPE x [<!ENTITY a 'b'>]><x>&a;</x>", "<L><Contents><Key>x/a</Key></Contents></L>"]
)
async def test_listings_that_are_none(shelf: Shelf, page: str) -> None:
    async with origin() as store:
        store.files["/loras/"] = Served(page.encode())
        with pytest.raises(SourceUnavailable):
            await shelf.read("s3://loras/x/", endpoint=store.url)


async def test_keys_are_not_sent_with_redirects_nor_shown(shelf: Shelf) -> None:
    async with origin() as store, origin() as elsewhere:
        store.redirects["/loras/a.bin"] = elsewhere.put("/a.bin", b"abc")
        assert await shelf.read("s3://loras/a.bin", **KEYS, aws_session_token="token", endpoint=store.url)
        assert "AKID" in store.asked[0].headers["Authorization"]
        assert store.asked[0].headers["x-amz-security-token"] == "token"
        assert not any("AKID" in str(asked.headers) or "token" in str(asked.headers) for asked in elsewhere.asked)
        store.failures = [403]
        del store.redirects["/loras/a.bin"]
        with pytest.raises(SourceRefused) as refusal:
            await shelf.read("s3://loras/a.bin", **KEYS, endpoint=store.url)
        assert "AKID" not in str(refusal.value)


async def test_another_region_is_named(shelf: Shelf) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=301, headers={"x-amz-bucket-region": "eu-west-1"})

    async with serving(answer) as url:
        with pytest.raises(SourceInvalid, match="eu-west-1; set aws_region"):
            await shelf.read("s3://loras/a.bin", **KEYS, endpoint=url)


@pytest.mark.parametrize("endpoint", ["ftp://x", "http://user:pw@x", "https://host/path", "http://"])
async def test_endpoints_that_are_none(shelf: Shelf, endpoint: str) -> None:
    with pytest.raises(SourceInvalid, match="endpoint"):
        await shelf.read("s3://loras/a.bin", **KEYS, endpoint=endpoint)


@pytest.mark.parametrize(
    ("provider", "name", "endpoint", "region", "want"),
    [
        (Provider.S3, "loras", None, None, "https://loras.s3.us-east-1.amazonaws.com"),
        (Provider.S3, "loras", None, "eu-west-1", "https://loras.s3.eu-west-1.amazonaws.com"),
        (Provider.S3, "my.loras", None, None, "https://s3.us-east-1.amazonaws.com/my.loras"),
        (Provider.S3, "loras", "https://minio.example", None, "https://minio.example/loras"),
        (Provider.S3, "loras", "minio.example:9000", None, "https://minio.example:9000/loras"),
        (Provider.S3, "loras", "http://10.0.0.1:9000/", None, "http://10.0.0.1:9000/loras"),
        (Provider.TOS, "loras", None, None, "https://loras.tos-s3-cn-beijing.volces.com"),
        (Provider.TOS, "loras", "tos-cn-x.volces.com", "cn-x", "https://loras.tos-s3-cn-x.volces.com"),
        (Provider.TOS, "loras", "https://tos-s3-cn-x.ivolces.com", "cn-x", "https://loras.tos-s3-cn-x.ivolces.com"),
    ],
)
def test_where_buckets_are(provider: Provider, name: str, endpoint: str | None, region: str | None, want: str) -> None:
    assert plan_bucket(provider, name, BucketCredentials(), endpoint, region).url == want
    own = BucketCredentials(endpoint="http://own:1", region="own")
    assert plan_bucket(provider, name, own, endpoint, region).url == f"http://own:1/{name}"


def test_regions_are_names() -> None:
    with pytest.raises(SourceInvalid, match="region"):
        plan_bucket(Provider.S3, "loras", BucketCredentials(region="evil.example/x"), None, None)


# --- Google Cloud Storage


@pytest.fixture(scope="module")
def private_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def key_file(key: rsa.RSAPrivateKey, token_uri: str) -> str:
    """Return a service account's key file."""
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    return json.dumps({"client_email": "sa@project", "private_key": pem, "token_uri": token_uri, "type": "x"})


class Gcs:
    """As much of GCS's JSON API as is asked."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.assertions: list[str] = []
        self.required: str | None = None
        self.url = ""

    async def token(self, request: web.Request) -> web.Response:
        form = parse_qs((await request.read()).decode())
        assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
        self.assertions += form["assertion"]
        return web.json_response({"access_token": "granted", "expires_in": 3600})

    def entry(self, name: str) -> dict[str, str]:
        md5 = hashlib.md5(self.objects[name], usedforsecurity=False).digest()
        size = str(len(self.objects[name]))
        return {"name": name, "size": size, "generation": "17", "md5Hash": base64.b64encode(md5).decode()}

    async def objects_of(self, request: web.Request) -> web.StreamResponse:
        if self.required and request.headers.get("Authorization") != self.required:
            return web.Response(status=403)
        name = request.match_info["name"]
        if not name:
            found = sorted(n for n in self.objects if n.startswith(request.query["prefix"]))
            start = int(request.query.get("pageToken", "0"))
            page: dict[str, Any] = {"items": [self.entry(n) for n in found[start : start + 2]]}
            if start + 2 < len(found):
                page["nextPageToken"] = str(start + 2)
            return web.json_response(page)
        if name not in self.objects:
            return web.Response(status=404)
        if request.query.get("alt") == "media":
            assert request.query["generation"] == "17"
            return web.Response(body=self.objects[name])
        return web.json_response(self.entry(name))


@pytest.fixture
async def gcs() -> AsyncIterator[Gcs]:
    store = Gcs()
    app = web.Application()
    app.router.add_post("/token", store.token)
    app.router.add_get("/storage/v1/b/loras/o{slash:/?}{name:.*}", store.objects_of)
    server = TestServer(app)
    await server.start_server()
    store.url = str(server.make_url("")).rstrip("/")
    yield store
    await server.close()


async def test_gcs_objects(tmp_path: Path, gcs: Gcs, private_key: rsa.RSAPrivateKey) -> None:
    gcs.required = "Bearer granted"
    gcs.objects = {f"a b/lora/{name}": data for name, data in {**ADAPTER, "x/ä": b"1"}.items()}
    gcs.objects["a b/lora/"] = b""
    gcs.objects["a b/lora.tgz"] = tar_gz(ADAPTER)
    account = key_file(private_key, f"{gcs.url}/token")
    async with open_shelf(tmp_path, gcs=gcs.url) as shelf:
        for url in ("gs://loras/a%20b/lora/", "gcs://loras/a%20b/lora"):
            assert await shelf.read(url, gcp_service_account_json=account) == {**ADAPTER, "x/ä": b"1"}
        assert await shelf.read("gs://loras/a%20b/lora.tgz", gcp_service_account_json=account) == ADAPTER
        with pytest.raises(SourceRefused):
            await shelf.read("gs://loras/a%20b/lora/")
        with pytest.raises(SourceMissing):
            await shelf.read("gs://loras/none", gcp_service_account_json=account)
    header, claims, signature = gcs.assertions[0].split(".")
    assert json.loads(unpadded(claims))["scope"].endswith("devstorage.read_only")
    private_key.public_key().verify(
        unpadded(signature), f"{header}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256()
    )


def unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@pytest.mark.parametrize("uri", ["https://evil.example/token", "http://oauth2.googleapis.com/token", "file:///x"])
async def test_tokens_are_asked_of_google_alone(
    tmp_path: Path, gcs: Gcs, private_key: rsa.RSAPrivateKey, uri: str
) -> None:
    async with open_shelf(tmp_path, gcs=gcs.url) as shelf:
        with pytest.raises(SourceInvalid, match="token_uri"):
            await shelf.read("gs://loras/x", gcp_service_account_json=key_file(private_key, uri))


def test_keys_that_are_none() -> None:
    with pytest.raises(SourceInvalid, match="no key") as refusal:
        render_assertion(ServiceAccount("a", "top-secret"), datetime.now(UTC))
    assert "top-secret" not in str(refusal.value)
