"""Whether an Envoy is there that could still end what is in flight. Pure."""

from __future__ import annotations

from collections.abc import Callable


class EnvoyPresence:
    """Follows the connections of the gateway's Envoys and tells when the last one of them is gone.

    An Envoy that is killed says nothing of its requests, but all its connections close. As long as one is open, be it
    of a successor that took the listeners over, somebody may still send a record. Only an Envoy opens a connection for
    records; anybody may ask, a probe for instance, and what such a one does means nothing by itself.

    Args:
        on_gone: called when no connection is left, after all that was sent over them has been read.
    """

    def __init__(self, on_gone: Callable[[], None]) -> None:
        self._on_gone = on_gone
        self._open = 0
        self._is_recording = False

    def records_opened(self) -> None:
        self._open += 1
        self._is_recording = True

    def questions_opened(self) -> None:
        self._open += 1

    def closed(self) -> None:
        """Note that a connection of either kind has ended."""
        self._open -= 1
        if not self._open and self._is_recording:
            self._is_recording = False
            self._on_gone()
