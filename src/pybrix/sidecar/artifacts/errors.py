"""What can go wrong between an artifact's URL and its files on this disk.

ArtifactError                     `status` is the HTTP status for whoever asked; `reason` the word for logs and metrics
├── SourceInvalid       400       the URL, or a setting beside it, says nothing that can be fetched
├── SourceRefused       401, 403  the source wants other credentials
├── SourceMissing       404       the source has nothing there
├── ListingHostile      400       the source names files that would end outside of the artifact
├── ChecksumMismatch    400       the bytes are not those that were promised
├── ArtifactTooLarge    413       more bytes than the limit allows
├── NotAnAdapter        400       fetched, but no LoRA adapter
├── SourceUnavailable   502       no answer, a broken one, or a server error; asking again may help
└── DiskFull            507       no room, and nothing that may be evicted

Messages never hold credentials, nor the query of a URL, where signatures are.
"""

from __future__ import annotations

from typing import ClassVar

from pybrix.base.errors import PybrixError


class ArtifactError(PybrixError):
    """Base class. `status` is 5xx exactly where asking again may help."""

    reason: ClassVar[str] = "ArtifactError"
    status: int = 500

    @property
    def is_transient(self) -> bool:
        """Say whether the same request may succeed later."""
        return self.status >= 500


class SourceInvalid(ArtifactError):
    """The URL, or a setting beside it, says nothing that can be fetched."""

    reason = "SourceInvalid"
    status = 400


class SourceRefused(ArtifactError):
    """The source wants credentials, or other ones. `status` is the source's own: 401 or 403."""

    reason = "SourceRefused"

    def __init__(self, message: str, status: int = 403) -> None:
        super().__init__(message)
        self.status = status


class SourceMissing(ArtifactError):
    """The source has nothing there, or does not admit it to these credentials."""

    reason = "SourceMissing"
    status = 404


class ListingHostile(ArtifactError):
    """A name in a listing or an archive would leave the artifact's directory, or is otherwise no name of a file."""

    reason = "ListingHostile"
    status = 400


class ChecksumMismatch(ArtifactError):
    """The bytes are not those that the URL or the source promised."""

    reason = "ChecksumMismatch"
    status = 400


class ArtifactTooLarge(ArtifactError):
    """The artifact is larger than one artifact may be."""

    reason = "ArtifactTooLarge"
    status = 413


class NotAnAdapter(ArtifactError):
    """The files are complete, and no LoRA adapter is among them."""

    reason = "NotAnAdapter"
    status = 400


class SourceUnavailable(ArtifactError):
    """No answer, a broken one, or a server error.

    Args:
        retry_after_s: what the server asked for; None when it asked for nothing.
    """

    reason = "SourceUnavailable"
    status = 502

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DiskFull(ArtifactError):
    """The disk, or the budget, has no room, and all that is there is in use."""

    reason = "DiskFull"
    status = 507
