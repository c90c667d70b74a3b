"""The model hub's listing of a repository, by its HTTP API (https://huggingface.co/docs/hub/api)."""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from pybrix.sidecar.artifacts.checksums import Algorithm, Checksum, parse_hex
from pybrix.sidecar.artifacts.credentials import Credentials
from pybrix.sidecar.artifacts.errors import SourceInvalid, SourceMissing, SourceUnavailable
from pybrix.sidecar.artifacts.listing import FixedHeaders, Listing, RemoteFile, source_id
from pybrix.sidecar.artifacts.names import checked_paths
from pybrix.sidecar.artifacts.source import HubSource, RemoteSource
from pybrix.sidecar.artifacts.transport import Transport

DEFAULT_ENDPOINT = "https://huggingface.co"
DEFAULT_REVISION = "main"
# Of the repository, not of the model.
_SKIPPED = frozenset({".gitattributes", ".gitignore"})


class _Lfs(msgspec.Struct, frozen=True):
    sha256: str = ""
    size: int | None = None


class _Sibling(msgspec.Struct, frozen=True):
    rfilename: str
    size: int | None = None
    blob_id: str | None = msgspec.field(name="blobId", default=None)
    lfs: _Lfs | None = None


class _Revision(msgspec.Struct, frozen=True):
    sha: str
    siblings: list[_Sibling] = []


class HubLister:
    """List repositories of one hub.

    Args:
        transport: what asks.
        endpoint: the hub's URL, without a slash at the end.
        revision: where the URL names none.
        suffixes: only files that end so count; empty for all.
    """

    def __init__(
        self,
        transport: Transport,
        endpoint: str = DEFAULT_ENDPOINT,
        revision: str = DEFAULT_REVISION,
        suffixes: tuple[str, ...] = (),
    ) -> None:
        self._transport = transport
        self._endpoint = endpoint.rstrip("/")
        self._revision = revision
        self._suffixes = suffixes

    async def fetch_listing(self, source: RemoteSource, credentials: Credentials) -> Listing:
        """Return the files of the commit that the revision is now. Each has a checksum: LFS's, or git's.

        Raises:
            ArtifactError: see `listing.Lister`.
        """
        assert isinstance(source, HubSource)
        revision = source.revision or self._revision
        token = credentials.hub_token()
        authorizer = FixedHeaders({"Authorization": f"Bearer {token}"} if token else {})
        url = f"{self._endpoint}/api/models/{source.repository}/revision/{quote(revision, safe='')}?blobs=true"
        body, _ = await self._transport.fetch(url, authorizer, source.display)
        try:
            answer = msgspec.json.decode(body, type=_Revision)
        except (msgspec.MsgspecError, UnicodeDecodeError) as err:
            raise SourceUnavailable(f"{source.display}: the hub's answer is no description of a repository") from err
        if not answer.sha.isalnum() or len(answer.sha) > 64:
            raise SourceInvalid(f"{source.display}: the hub names no commit")
        return Listing(
            display=source.display,
            scheme="huggingface",
            source_id=source_id("hf", self._endpoint, source.repository, revision, source.directory, *self._suffixes),
            revision=answer.sha,
            files=self._files(source, answer),
            authorizer=authorizer,
        )

    def _files(self, source: HubSource, answer: _Revision) -> tuple[RemoteFile, ...]:
        prefix = source.directory + "/" if source.directory else ""
        siblings = [
            sibling
            for sibling in answer.siblings
            if sibling.rfilename.startswith(prefix)
            and sibling.rfilename not in _SKIPPED
            and (not self._suffixes or sibling.rfilename.endswith(self._suffixes))
        ]
        if not siblings:
            raise SourceMissing(f"{source.display}: the repository has no files there")
        paths = checked_paths(sibling.rfilename.removeprefix(prefix) for sibling in siblings)
        base = f"{self._endpoint}/{source.repository}/resolve/{answer.sha}/"
        return tuple(
            RemoteFile(
                path=path,
                url=base + quote(sibling.rfilename, safe="/"),
                size_bytes=_size(sibling),
                version=(sibling.lfs.sha256 if sibling.lfs else sibling.blob_id) or answer.sha,
                checksum=_checksum(sibling),
                is_immutable=True,
            )
            for path, sibling in zip(paths, siblings, strict=True)
        )


def _size(sibling: _Sibling) -> int | None:
    size = sibling.lfs.size if sibling.lfs and sibling.lfs.size is not None else sibling.size
    return size if size is not None and size >= 0 else None


def _checksum(sibling: _Sibling) -> Checksum | None:
    if sibling.lfs is not None:
        return parse_hex(Algorithm.SHA256, sibling.lfs.sha256)
    # git's name of a blob counts its size too, which therefore has to be known.
    return parse_hex(Algorithm.GIT_BLOB, sibling.blob_id or "") if sibling.size is not None else None
