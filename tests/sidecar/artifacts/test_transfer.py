"""Bytes over the network: truncation, resumption, checksums, limits, redirects."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pybrix.sidecar.artifacts.errors import (
    ArtifactTooLarge,
    ChecksumMismatch,
    SourceInvalid,
    SourceMissing,
    SourceRefused,
    SourceUnavailable,
)
from pybrix.sidecar.artifacts.retries import RetryRules
from pybrix.sidecar.artifacts.transport import is_forbidden
from tests.support.artifacts import MIB, Shelf, open_shelf
from tests.support.sources import Origin, origin

DATA = bytes(range(256)) * 20_000
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
async def source() -> AsyncIterator[Origin]:
    async with origin() as running:
        yield running


@pytest.fixture
async def shelf(tmp_path: Path) -> AsyncIterator[Shelf]:
    async with open_shelf(tmp_path / "store") as opened:
        yield opened


async def test_a_truncated_transfer_goes_on_where_it_ended(shelf: Shelf, source: Origin) -> None:
    url = source.put("/x.bin", DATA)
    source.cuts = [3 * MIB, 1 * MIB]
    assert await shelf.read(url) == {"x.bin": DATA}
    first, second, third = source.bodies()
    assert "Range" not in first.headers
    assert second.headers["Range"].startswith("bytes=")
    assert second.headers["If-Range"] == source.files["/x.bin"].etag
    assert sum(asked.sent_bytes for asked in (first, second, third)) < len(DATA) + 2 * MIB
    assert len(shelf.pauses_s) == 2


async def test_progress_makes_failures_count_anew(shelf: Shelf, source: Origin) -> None:
    url = source.put("/x.bin", DATA)
    source.cuts = [400_000] * 9
    assert await shelf.read(url) == {"x.bin": DATA}


async def test_without_progress_it_ends(shelf: Shelf, source: Origin) -> None:
    url = source.put("/x.bin", DATA)
    source.cuts = [0] * 20
    with pytest.raises(SourceUnavailable):
        await shelf.read(url)
    assert len(source.bodies()) == 4
    assert not shelf.complete()


async def test_bytes_that_are_thrown_away_are_no_progress(shelf: Shelf, source: Origin) -> None:
    url = source.put("/x.bin", DATA, etag=None)
    source.cuts = [100] * 50
    with pytest.raises(SourceUnavailable):
        await shelf.read(url)
    # The first attempt got further than nothing; the others did not get further than it.
    assert len(source.bodies()) == 4


async def test_small_steps_have_an_end(shelf: Shelf, source: Origin) -> None:
    url = source.put("/x.bin", DATA)
    source.cuts = [10] * 500
    with pytest.raises(SourceUnavailable):
        await shelf.read(url)
    assert len(source.bodies()) == RetryRules().most_failures


async def test_without_anything_to_tell_versions_by_it_begins_anew(shelf: Shelf, source: Origin) -> None:
    url = source.put("/x.bin", DATA, etag=None)
    source.cuts = [3 * MIB]
    assert await shelf.read(url) == {"x.bin": DATA}
    assert all("Range" not in asked.headers for asked in source.bodies())


async def test_a_promised_checksum_allows_resumption_without_an_etag(shelf: Shelf, source: Origin) -> None:
    url = source.put("/x.bin", DATA, etag=None)
    source.cuts = [3 * MIB]
    assert await shelf.read(f"{url}#sha256={SHA256}") == {"x.bin": DATA}
    assert "Range" in source.bodies()[1].headers


async def test_a_server_that_ignores_ranges_is_read_from_the_beginning(shelf: Shelf, source: Origin) -> None:
    url = source.put("/x.bin", DATA, understands_ranges=False)
    source.cuts = [3 * MIB]
    assert await shelf.read(url) == {"x.bin": DATA}


async def test_a_length_that_nobody_tells(shelf: Shelf, source: Origin) -> None:
    url = source.put("/x.bin", DATA, has_length=False, understands_ranges=False)
    assert await shelf.read(url) == {"x.bin": DATA}


async def test_an_empty_file(shelf: Shelf, source: Origin) -> None:
    assert await shelf.read(source.put("/empty", b"")) == {"empty": b""}


async def test_a_file_that_changes_meanwhile_is_not_mixed(shelf: Shelf, source: Origin) -> None:
    url = source.put("/x.bin", DATA)
    source.cuts = [3 * MIB]
    listed = source.files["/x.bin"]
    changed = bytes(len(DATA))

    class Changing(list[int]):
        """Change the file once the first transfer has been cut."""

        def pop(self, index: int = -1) -> int:  # type: ignore[override]
            source.put("/x.bin", changed)
            return super().pop(index)

    source.cuts = Changing([3 * MIB])
    with pytest.raises(SourceUnavailable, match="changed since it was listed"):
        await shelf.read(url)
    assert not shelf.complete()
    # Asked again, it is another version, and that is whole.
    assert await shelf.read(url) == {"x.bin": changed}
    assert listed.etag != source.files["/x.bin"].etag


@pytest.mark.parametrize(
    ("fragment", "headers"),
    [
        pytest.param("#sha256=" + "0" * 64, {}, id="in the URL"),
        pytest.param("?checksum=sha256:" + "0" * 64, {}, id="in the query"),
        pytest.param("", {"X-Checksum-Sha256": "0" * 64}, id="by the server"),
        pytest.param("", {"X-Amz-Request-Id": "1", "ETag": '"' + "0" * 32 + '"'}, id="by S3's ETag"),
    ],
)
async def test_a_wrong_checksum_is_refused(
    shelf: Shelf, source: Origin, fragment: str, headers: dict[str, str]
) -> None:
    etag = headers.pop("ETag", '"v1"')
    url = source.put("/x.bin", DATA, headers=headers, etag=etag) + fragment
    with pytest.raises(ChecksumMismatch, match="promised was 0000"):
        await shelf.read(url)
    assert not shelf.complete()
    assert not shelf.partial()


async def test_a_right_checksum_is_kept_on_record(shelf: Shelf, source: Origin) -> None:
    artifact = await shelf.get(source.put("/x.bin", DATA) + f"#sha256={SHA256}")
    assert artifact.manifest.files[0].checksum == f"sha256:{SHA256}"


async def test_a_part_that_was_spoilt_is_found_by_its_checksum_and_fetched_anew(tmp_path: Path, source: Origin) -> None:
    url = source.put("/x.bin", DATA, etag=None) + f"#sha256={SHA256}"
    async with open_shelf(tmp_path / "store", attempts=1) as shelf:
        source.cuts = [3 * MIB]
        with pytest.raises(SourceUnavailable):
            await shelf.read(url)
        (part,) = (tmp_path / "store" / "partial").rglob("x.bin")
        part.write_bytes(b"spoilt" + part.read_bytes()[6:])
    async with open_shelf(tmp_path / "store") as shelf:
        assert await shelf.read(url) == {"x.bin": DATA}


async def test_too_large_by_its_length_is_not_even_begun(tmp_path: Path, source: Origin) -> None:
    url = source.put("/x.bin", DATA)
    async with open_shelf(tmp_path, limit_bytes=MIB) as shelf:
        with pytest.raises(ArtifactTooLarge):
            await shelf.read(url)
    assert not source.bodies()


async def test_too_large_without_a_length_is_stopped_on_the_way(tmp_path: Path, source: Origin) -> None:
    url = source.put("/x.bin", DATA, has_length=False, understands_ranges=False)
    async with open_shelf(tmp_path, limit_bytes=MIB) as shelf:
        with pytest.raises(ArtifactTooLarge):
            await shelf.read(url)
        assert not shelf.partial()


async def test_encoded_bodies_are_refused(shelf: Shelf, source: Origin) -> None:
    url = source.put("/x.bin", gzip.compress(DATA), headers={"Content-Encoding": "gzip"})
    with pytest.raises(SourceInvalid, match="encoded"):
        await shelf.read(url)


async def test_passing_errors_are_asked_again(shelf: Shelf, source: Origin) -> None:
    url = source.put("/x.bin", DATA)
    source.failures = [503, 500, 429]
    assert await shelf.read(url) == {"x.bin": DATA}
    assert len(shelf.pauses_s) == 3


@pytest.mark.parametrize(
    ("status", "error"), [(401, SourceRefused), (403, SourceRefused), (404, SourceMissing), (400, SourceInvalid)]
)
async def test_errors_that_stay_are_not(shelf: Shelf, source: Origin, status: int, error: type[Exception]) -> None:
    url = source.put("/x.bin", DATA)
    source.failures = [status] * 9
    with pytest.raises(error):
        await shelf.read(url)
    assert not shelf.pauses_s


async def test_a_redirect_is_followed_without_credentials(shelf: Shelf, source: Origin) -> None:
    async with origin() as elsewhere:
        source.redirects["/x.bin"] = elsewhere.put("/cdn/y", DATA)
        assert await shelf.read(source.url + "/x.bin", http_token="top-secret") == {"x.bin": DATA}
        assert all(asked.headers["Authorization"] == "Bearer top-secret" for asked in source.asked)
        assert elsewhere.asked
        assert not any("top-secret" in str(asked.headers) for asked in elsewhere.asked)


async def test_no_header_of_the_secret_goes_to_another_host(shelf: Shelf, source: Origin) -> None:
    async with origin() as elsewhere:
        source.redirects["/x.bin"] = elsewhere.put("/cdn/y", DATA)
        await shelf.read(source.url + "/x.bin", headers='{"X-Api-Key": "top-secret"}')
        assert source.asked[0].headers["X-Api-Key"] == "top-secret"
        assert not any("top-secret" in str(asked.headers) for asked in elsewhere.asked)


@pytest.mark.parametrize(
    "target", ["http://user:pw@127.0.0.1:1/x", "ftp://127.0.0.1/x", "file:///etc/passwd", "http://169.254.169.254/x"]
)
async def test_redirects_to_odd_places_are_not_followed(shelf: Shelf, source: Origin, target: str) -> None:
    source.redirects["/x.bin"] = target
    with pytest.raises((SourceInvalid, SourceUnavailable)) as refusal:
        await shelf.read(source.url + "/x.bin")
    assert "pw" not in str(refusal.value)


async def test_redirects_without_end(shelf: Shelf, source: Origin) -> None:
    source.redirects["/x.bin"] = "/x.bin"
    with pytest.raises(SourceUnavailable, match="redirects"):
        await shelf.read(source.url + "/x.bin")


async def test_metadata_services_are_no_sources(shelf: Shelf) -> None:
    with pytest.raises(SourceInvalid, match="link-local"):
        await shelf.read("http://169.254.169.254/latest/meta-data/iam")


def test_link_local_addresses() -> None:
    for address in ("169.254.169.254", "fe80::1%eth0", "::ffff:169.254.169.254", "fd00:ec2::254"):
        assert is_forbidden(address)
    for address in ("127.0.0.1", "10.0.0.1", "::1", "8.8.8.8"):
        assert not is_forbidden(address)


async def test_signatures_in_urls_are_not_in_errors(shelf: Shelf, source: Origin) -> None:
    with pytest.raises(SourceMissing) as refusal:
        await shelf.read(source.url + "/nothing.zip?X-Amz-Signature=topsecret")
    assert "topsecret" not in str(refusal.value)
    assert source.asked[0].query == "X-Amz-Signature=topsecret"


def test_pauses_grow_and_honour_what_the_server_asks_for() -> None:
    rules = RetryRules(first_delay_s=1.0, longest_delay_s=10.0)
    assert [rules.delay_s(n, None, 1.0) for n in (1, 2, 3, 9)] == [1.0, 2.0, 4.0, 10.0]
    assert rules.delay_s(1, None, 0.0) == 0.5
    assert rules.delay_s(1, 7.0, 0.0) == 7.0
    assert rules.delay_s(1, 1e9, 0.0) == 10.0
