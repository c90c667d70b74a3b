from __future__ import annotations

import pytest

from pybrix.local.logs import telling_words

_WAITING = (
    '{"event": "Kubernetes API does not answer: waiting", "level": "warning", "timestamp": "2026-01-01T00:00:00Z"}'
)
_REFUSED = '{"event": "cannot listen", "error": "port taken", "level": "error"}'
_SERVES = '{"event": "brain serves", "level": "info", "socket": "/s"}'
_FAILED = '{"event": "pass failed", "level": "error", "exception": "Traceback:\\n  File x\\nKeyError: 7"}'


@pytest.mark.parametrize(
    ("lines", "want"),
    [
        pytest.param([], "it wrote nothing", id="an empty log"),
        pytest.param(["a", "", "b"], "a | b", id="the last lines"),
        pytest.param([_SERVES, "b"], "brain serves | b", id="a record without its dressing"),
        pytest.param(["noise", "pybrix: no room", "more", _REFUSED], "no room", id="an error for people comes first"),
        pytest.param([_REFUSED, _WAITING, _SERVES], "cannot listen: port taken", id="an error before a warning"),
        pytest.param([_WAITING, _SERVES], "Kubernetes API does not answer: waiting", id="a warning before the rest"),
        pytest.param([_FAILED, _SERVES], "pass failed: KeyError: 7", id="the end of a traceback in a record"),
        pytest.param(
            ["Traceback (most recent call last):", '  File "x"', "ImportError: no uvloop", _SERVES],
            "ImportError: no uvloop",
            id="the end of a traceback",
        ),
        pytest.param(
            ["[2026-01-01][7][critical][main] [source/x.cc:1] cannot bind", "bye"], "cannot bind", id="Envoy's words"
        ),
        pytest.param(['{"half', "b"], '{"half | b', id="no record at all"),
    ],
)
def test_telling_words(lines: list[str], want: str) -> None:
    assert telling_words(lines) == want
