"""Server-sent events as engines stream them: `data: ...` lines, an empty line after each event, `[DONE]` last."""

from __future__ import annotations

DONE = b"[DONE]"
DONE_EVENT = b"data: [DONE]\n\n"


def render_event(data: bytes) -> bytes:
    """Render one event; the data must be a single line, as JSON is."""
    return b"data: " + data + b"\n\n"


class EventParser:
    """Cut a byte stream into events, wherever the chunks happen to end.

    A state machine without I/O: bytes in, data out. Comments and fields other than `data` are skipped; lines may end
    in LF, CRLF or CR (https://html.spec.whatwg.org/multipage/server-sent-events.html).
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the data of the events that this chunk completes."""
        # A CR at the very end may be half of a CRLF: it waits for the next chunk.
        text = self._rest + chunk
        held = text.endswith(b"\r")
        if held:
            text = text[:-1]
        lines = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = lines.pop() + (b"\r" if held else b"")
        events = []
        for line in lines:
            if not line:
                if self._data:
                    events.append(b"\n".join(self._data))
                    self._data = []
                continue
            name, _, value = line.partition(b":")
            if name == b"data":
                self._data.append(value.removeprefix(b" "))
        return events
