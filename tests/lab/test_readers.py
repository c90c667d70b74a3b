from __future__ import annotations

import json

import pytest

from pybrix.base.errors import UsageError
from pybrix.lab.readers import parse_trace
from pybrix.lab.trace import chain_of, head
from tests.support.traces import make_trace, mooncake_text, simple

MOONCAKE = (
    '{"timestamp": 5000, "input_length": 1100, "output_length": 7, "hash_ids": [0, 1, 2]}\n'
    '{"timestamp": 8000, "input_length": 600, "output_length": 0, "hash_ids": [0, 3]}\n'
)
AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109\n"
)
OWN = "at_s,prompt_tokens,output_tokens,hash_ids,session\n0.5,64,3,7 8,anna\n0.75,40,3,7 9,\n"


def test_mooncake_is_read_as_it_is() -> None:
    trace = parse_trace(MOONCAKE, "m.jsonl")
    assert [(r.at_s, r.prompt_tokens, r.output_tokens, list(r.hash_ids)) for r in trace.requests] == [
        (0.0, 1100, 7, [0, 1, 2]),
        (3.0, 600, 1, [0, 3]),
    ]
    assert trace.block_tokens == 512
    assert trace.reuse_ratio == pytest.approx(512 / 1700)


def test_azure_is_read_as_it_is_and_its_prompts_share_nothing() -> None:
    trace = parse_trace(AZURE, "a.csv")
    assert [(r.prompt_tokens, r.output_tokens) for r in trace.requests] == [(374, 44), (396, 109)]
    assert trace.requests[1].at_s == pytest.approx(4.314579)
    assert trace.reuse_ratio == 0.0


def test_own_csv_names_blocks_and_sessions() -> None:
    trace = parse_trace(OWN, "own.csv", block_tokens=32)
    first, second = trace.requests
    assert (first.at_s, list(first.hash_ids), first.session) == (0.0, [7, 8], "anna")
    assert (second.at_s, list(second.hash_ids), second.session) == (0.25, [7, 9], "")


def test_own_json_lines_may_leave_blocks_out_and_come_in_any_order() -> None:
    rows = [{"at_s": 9, "prompt_tokens": 10, "output_tokens": 1}, {"at_s": 2, "prompt_tokens": 20, "output_tokens": 2}]
    trace = parse_trace("\n\n".join(map(json.dumps, rows)), "own.jsonl")
    assert [(r.at_s, r.prompt_tokens) for r in trace.requests] == [(0.0, 20), (7.0, 10)]


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        pytest.param(MOONCAKE + "{oops\n", 3, "no JSON", id="broken-json"),
        pytest.param(MOONCAKE + "[1]\n", 3, "no JSON object", id="a-list"),
        pytest.param(MOONCAKE.replace("[0, 3]", "[0, 3, 4, 5]"), 2, "4 hash_ids for 600", id="blocks"),
        pytest.param('{"timestamp": 1, "input_length": -4, "output_length": 1, "hash_ids": []}', 1, "-4", id="minus"),
        pytest.param('{"input_length": 4, "output_length": 1, "hash_ids": []}', 1, "timestamp", id="no-time"),
        pytest.param("\n\n" + AZURE + "yesterday,1,1\n", 6, "TIMESTAMP", id="no-date"),
        pytest.param(AZURE + "2023-11-16 18:15:46,many,1\n", 4, "Expected `int`", id="no-number"),
        pytest.param(AZURE + "2023-11-16 18:15:46,1\n", 4, "2 values for 3 columns", id="short-line"),
        pytest.param("a,b\n1,2\n", 1, "columns a, b", id="other-columns"),
        pytest.param(OWN + "inf,1,1,,\n", 4, "a time of inf", id="no-finite-time"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_named(text: str, line: int, why: str) -> None:
    with pytest.raises(UsageError, match=f"t.csv, line {line}: .*{why}"):
        parse_trace(text, "t.csv", 32 if text.startswith("at_s") else 512)


def test_a_file_without_requests_is_refused() -> None:
    for text in ("", "  \n\n", "at_s,prompt_tokens,output_tokens\n"):
        with pytest.raises(UsageError, match=r"t\.csv"):
            parse_trace(text, "t.csv")


def test_a_coarse_clock_is_noticed() -> None:
    assert parse_trace(mooncake_text(), "m").spread_s == 3.0
    assert parse_trace(AZURE, "a").spread_s == 0.0


def test_chains_are_equal_exactly_as_far_as_blocks_are() -> None:
    first, second = parse_trace(MOONCAKE, "m").requests
    one, other = chain_of(first, 512), chain_of(second, 512)
    assert (len(one), len(other)) == (1100 // 32, 600 // 32)
    assert one[:16] == other[:16]
    assert not set(one[16:]) & set(other[16:])


def test_small_blocks_are_joined_to_links() -> None:
    request = parse_trace('{"at_s": 0, "prompt_tokens": 80, "output_tokens": 1, "hash_ids": [1, 2, 3, 4, 5]}', "t", 16)
    assert list(chain_of(request.requests[0], 16)) == [2, 4]


def test_blocks_that_fit_no_link_are_refused() -> None:
    with pytest.raises(UsageError, match="blocks of 48 tokens"):
        parse_trace(AZURE, "t", 48)


def test_the_head_of_a_trace_keeps_what_follows_its_requests() -> None:
    trace = make_trace(
        simple(0.0, 32),
        simple(50.0, 32),
        simple(0.0, 64, follows=0),
        simple(50.0, 64, follows=1),
        simple(0.0, 96, follows=2),
    )
    cut = head(trace, 10.0)
    assert [(r.prompt_tokens, r.follows) for r in cut.requests] == [(32, -1), (64, 0), (96, 1)]
