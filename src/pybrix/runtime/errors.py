"""What a reconciler may raise to say when to try again. Every other exception backs off exponentially.

PybrixError
├── TerminalError       give up until the object changes
├── Retry               look again after a given time
└── LeadershipLost      another process leads now
"""

from __future__ import annotations

from pybrix.base.errors import PybrixError


class TerminalError(PybrixError):
    """Trying again cannot help; the key waits for its object to change."""


class Retry(PybrixError):
    """Look again after `after_s`; this is no failure."""

    def __init__(self, after_s: float, why: str = "") -> None:
        super().__init__(why or f"again in {after_s} s")
        self.after_s = after_s


class LeadershipLost(PybrixError):
    """The lease could not be renewed in time, or somebody else holds it."""
