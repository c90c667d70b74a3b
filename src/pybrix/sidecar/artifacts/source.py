"""Where an artifact is: its URL as a typed value. Pure.

| URL | means |
|---|---|
| `huggingface://ORG/REPO[@REVISION][/DIRECTORY]`, `hf://...` | a repository of the model hub, or a directory of it |
| `s3://BUCKET/KEY`, `gcs://`, `gs://`, `tos://` | an object; all below KEY when it ends in `/` or is no object |
| `http://`, `https://` | one file; an archive is unpacked |
| `file:///PATH`, `/PATH` | a directory that the engine sees |

`#sha256=HEX`, or `?checksum=sha256:HEX`, is the checksum of an artifact of one file. `?revision=R` is the same as `@R`.
`#dir=NAME`, alone or after the checksum and `&`, is the directory of the adapter in an archive or below a key.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from enum import StrEnum
from posixpath import normpath
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from pybrix.sidecar.artifacts.checksums import Algorithm, Checksum, parse_labelled
from pybrix.sidecar.artifacts.errors import SourceInvalid

LONGEST_URL = 8192
ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")

_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,254}")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,221}[A-Za-z0-9]")
# Parts of a query that sign it; they differ each time that somebody signs the same URL.
_SIGNATURES = ("x-amz-", "x-goog-", "x-tos-")
_SIGNATURE_NAMES = frozenset(
    {"signature", "expires", "awsaccesskeyid", "googleaccessid", "key-pair-id", "policy", "sig", "se", "st", "token"}
)


class Provider(StrEnum):
    """Who keeps a bucket."""

    S3 = "s3"
    GCS = "gcs"
    TOS = "tos"


@dataclass(frozen=True, slots=True)
class HubSource:
    """A repository of the model hub. `revision` is None for the default branch."""

    repository: str
    revision: str | None = None
    directory: str = ""
    """Only files below it count; empty for all."""

    @property
    def display(self) -> str:
        """The URL without anything secret."""
        at = f"@{self.revision}" if self.revision else ""
        return f"hf://{self.repository}{at}{'/' + self.directory if self.directory else ''}"

    @property
    def checksum(self) -> None:
        """None: the hub names the checksum of each file."""


@dataclass(frozen=True, slots=True)
class BucketSource:
    """One object, or all below a prefix that ends in `/`."""

    provider: Provider
    bucket: str
    key: str
    checksum: Checksum | None = None
    adapter_dir: str = ""
    """Where the adapter is among the files; empty where there is only one."""

    @property
    def display(self) -> str:
        """The URL."""
        return f"{self.provider}://{self.bucket}/{self.key}"


@dataclass(frozen=True, slots=True)
class WebSource:
    """A file on a web server. The URL's query may be a secret."""

    url: str = field(repr=False)
    checksum: Checksum | None = None
    adapter_dir: str = ""
    """As of `BucketSource`."""

    @property
    def display(self) -> str:
        """The URL without its query."""
        return urlunsplit(urlsplit(self.url)._replace(query=""))

    @property
    def name(self) -> str:
        """The last part of the path: what the file is called here."""
        return unquote(urlsplit(self.url).path).rstrip("/").rpartition("/")[2]

    @property
    def identity(self) -> str:
        """A hash of the URL without what signs it."""
        parts = urlsplit(self.url)
        query = [
            (name, value)
            for name, value in parse_qsl(parts.query, keep_blank_values=True)
            if not name.lower().startswith(_SIGNATURES) and name.lower() not in _SIGNATURE_NAMES
        ]
        unsigned = urlunsplit(parts._replace(query=urlencode(query)))
        return hashlib.sha256(unsigned.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class LocalSource:
    """A directory that is there already."""

    path: str

    @property
    def display(self) -> str:
        """The path."""
        return self.path

    @property
    def checksum(self) -> None:
        """None: what is on the disk is taken as it is."""


RemoteSource = HubSource | BucketSource | WebSource
Source = RemoteSource | LocalSource


def parse_source(url: str) -> Source:
    """Return what a URL means.

    Raises:
        SourceInvalid: it means nothing, or holds a password; the message says so without repeating it.
    """
    if not url or len(url) > LONGEST_URL or any(not "!" <= character <= "~" for character in url):
        raise SourceInvalid(f"the artifact's URL must be 1 to {LONGEST_URL} printable ASCII characters, without spaces")
    if url.startswith("/"):
        return LocalSource(_local_path(url))
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise SourceInvalid("the artifact's URL has no scheme and is no absolute path; example: hf://ORG/REPOSITORY")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as err:
        raise SourceInvalid("the artifact's URL has no valid host and port") from err
    scheme = scheme.lower()
    if "@" in parts.netloc and scheme not in ("huggingface", "hf"):
        raise SourceInvalid("the artifact's URL holds a user name or password; credentials belong in a Secret")
    match scheme:
        case "huggingface" | "hf":
            return _parse_hub(parts)
        case "s3" | "gcs" | "gs" | "tos":
            if port is not None:
                raise SourceInvalid(f"{scheme}:// URLs have no port; the form is {scheme}://BUCKET/KEY")
            return _parse_bucket(Provider.GCS if scheme == "gs" else Provider(scheme), url)
        case "http" | "https":
            return _parse_web(parts)
        case "file":
            if parts.netloc not in ("", "localhost"):
                raise SourceInvalid("file:// URLs have no host; the form is file:///ABSOLUTE/PATH")
            return LocalSource(_local_path(unquote(parts.path)))
    raise SourceInvalid(f"{scheme[:20]}:// is no scheme of artifacts")


def parse_model_source(uri: str) -> Source:
    """Return what the URI of a model means: as `parse_source`, and `ORG/REPOSITORY` means the model hub's.

    Raises:
        SourceInvalid: as `parse_source`.
    """
    return parse_source(uri if "://" in uri or uri.startswith("/") else f"hf://{uri}")


def scheme_of(source: RemoteSource) -> str:
    """Return one word for a kind of source: AIBrix's, or one in its manner."""
    match source:
        case HubSource():
            return "huggingface"
        case BucketSource():
            return str(source.provider)
        case WebSource():
            return "http"


def identity_of(source: RemoteSource) -> str:
    """Return what is the same for the same question; it tells nothing about signatures in URLs."""
    name = source.identity if isinstance(source, WebSource) else source.display
    return f"{scheme_of(source)} {name} {source.checksum or ''}"


def is_archive(name: str) -> bool:
    """Say whether a file of this name is unpacked."""
    return name.lower().endswith(ARCHIVE_SUFFIXES)


def _parse_hub(parts: SplitResult) -> HubSource:
    text = unquote(parts.netloc + parts.path).strip("/")
    head, at, tail = text.partition("@")
    revision: str | None = None
    if at:
        revision, _, directory = tail.partition("/")
        repository = head
    else:
        pieces = head.split("/")
        repository, directory = "/".join(pieces[:2]), "/".join(pieces[2:])
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name != "revision" or revision:
            raise SourceInvalid("of a query, hf:// URLs know only ?revision=, and that once")
        revision = value
    if parts.fragment:
        raise SourceInvalid("hf:// URLs have no #checksum: the hub names the checksum of each file")
    if not _REPOSITORY.fullmatch(repository) or ".." in repository:
        raise SourceInvalid("the URL names no repository; the form is hf://ORG/REPOSITORY[@REVISION][/DIRECTORY]")
    if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision or "//" in revision):
        raise SourceInvalid("the revision is no branch, tag or commit")
    if directory and (".." in directory.split("/") or "" in directory.split("/")):
        raise SourceInvalid("the directory of the URL leaves the repository, or has an empty part")
    return HubSource(repository, revision, directory)


def _parse_bucket(provider: Provider, url: str) -> BucketSource:
    # Keys are bytes to their store: only `#` and a query of ours end one, as in `aws s3 cp`.
    rest = url.partition("://")[2]
    rest, _, fragment = rest.partition("#")
    rest, _, query = rest.partition("?")
    bucket, _, key = rest.partition("/")
    if not _BUCKET.fullmatch(bucket) or not key.strip("/") or key.startswith("/"):
        raise SourceInvalid(f"the URL names no object; the form is {provider}://BUCKET/KEY")
    fragment, adapter_dir = _split_fragment(fragment)
    checksum = _checksum(query, fragment)
    if query and not parse_qsl(query):
        raise SourceInvalid("of a query, URLs of buckets know only ?checksum=")
    for name, _ in parse_qsl(query, keep_blank_values=True):
        if name != "checksum":
            raise SourceInvalid("of a query, URLs of buckets know only ?checksum=")
    if checksum is not None and key.endswith("/"):
        raise SourceInvalid("a checksum in the URL is that of one file; this URL names a directory")
    return BucketSource(provider, bucket, unquote(key), checksum, adapter_dir)


def _parse_web(parts: SplitResult) -> WebSource:
    if not parts.hostname:
        raise SourceInvalid("the URL has no host")
    fragment, adapter_dir = _split_fragment(parts.fragment)
    checksum = _checksum(parts.query, fragment)
    query = parts.query
    if any(name == "checksum" for name, _ in parse_qsl(query)):
        # Cut out as text: another way of writing the rest could break a signature.
        query = "&".join(piece for piece in query.split("&") if not piece.startswith("checksum="))
    source = WebSource(urlunsplit(parts._replace(query=query, fragment="")), checksum, adapter_dir)
    if source.name in ("", ".", ".."):
        raise SourceInvalid("the URL names no file; directories of web servers cannot be listed")
    return source


def _split_fragment(fragment: str) -> tuple[str, str]:
    """Return the checksum of a fragment, as text, and the adapter's directory; empty what is not there."""
    pieces = fragment.split("&")
    directories = [unquote(piece.removeprefix("dir=")).rstrip("/") for piece in pieces if piece.startswith("dir=")]
    if not directories:
        return fragment, ""
    parts = directories[0].split("/")
    if len(directories) > 1 or any(part in ("", ".", "..") for part in parts):
        raise SourceInvalid("the URL's #dir= must be given once, and be a directory without '..' or empty parts")
    return "&".join(piece for piece in pieces if not piece.startswith("dir=")), directories[0]


def _checksum(query: str, fragment: str) -> Checksum | None:
    texts = [value for name, value in parse_qsl(query, keep_blank_values=True) if name == "checksum"]
    if fragment:
        texts.append(fragment)
    if not texts:
        return None
    if len(texts) > 1:
        raise SourceInvalid("the URL has two checksums")
    checksum = parse_labelled(texts[0])
    if checksum is None or checksum.algorithm is not Algorithm.SHA256:
        raise SourceInvalid("the URL's checksum is none: the form is #sha256=HEX or ?checksum=sha256:HEX, 64 digits")
    return checksum


def _local_path(path: str) -> str:
    if not path.startswith("/") or ".." in path.split("/") or "\0" in path:
        raise SourceInvalid("the artifact's path must be absolute and without '..'")
    # POSIX keeps two leading slashes.
    return normpath(path).replace("//", "/")
