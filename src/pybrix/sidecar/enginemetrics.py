"""An engine's page of metrics with AIBrix's names beside its own. Pure.

A page is taken apart by families and put together again, each family once: Prometheus refuses pages that repeat one.
Samples are moved as text; nothing but names is touched.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pybrix.sidecar.options import EngineKind

_PREFIX = "aibrix:"
_SUFFIXES = ("_bucket", "_sum", "_count", "_total", "_created", "_info")
_HEAD = re.compile(r"# (HELP|TYPE|UNIT) ([a-zA-Z_:][a-zA-Z0-9_:]*)(?: (.*))?")
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


def _same(engine: str, *names: str) -> dict[str, str]:
    return {f"{engine}:{name}": _PREFIX + name for name in names}


# An engine's family -> AIBrix's. Counters are named with `_total`, as pages name them.
STANDARD_NAMES: Mapping[EngineKind, Mapping[str, str]] = {
    EngineKind.VLLM: {
        "vllm:num_requests_waiting": "aibrix:queue_size",
        **_same(
            "vllm",
            "gpu_cache_usage_perc",
            "kv_cache_usage_perc",
            "time_to_first_token_seconds",
            "time_per_output_token_seconds",
            "e2e_request_latency_seconds",
            "prompt_tokens_total",
            "generation_tokens_total",
            "request_success_total",
        ),
    },
    EngineKind.SGLANG: {
        "sglang:num_queue_reqs": "aibrix:queue_size",
        "sglang:gen_throughput": "aibrix:generation_throughput",
        **_same(
            "sglang",
            "cache_hit_rate",
            "token_usage",
            "time_to_first_token_seconds",
            "time_per_output_token_seconds",
            "e2e_request_latency_seconds",
            "prompt_tokens_total",
            "generation_tokens_total",
        ),
    },
    EngineKind.TRTLLM: {
        "trtllm:kv_cache_utilization": "aibrix:kv_cache_usage_perc",
        **_same(
            "trtllm",
            "kv_cache_hit_rate",
            "time_to_first_token_seconds",
            "time_per_output_token_seconds",
            "e2e_request_latency_seconds",
            "request_success_total",
        ),
    },
    EngineKind.LLAMACPP: {
        "llamacpp:requests_deferred": "aibrix:queue_size",
        "llamacpp:kv_cache_usage_ratio": "aibrix:kv_cache_usage_perc",
        "llamacpp:prompt_tokens_total": "aibrix:prompt_tokens_total",
        "llamacpp:tokens_predicted_total": "aibrix:generation_tokens_total",
    },
}


@dataclass(slots=True)
class _Family:
    """One family of a page."""

    name: str
    heads: dict[str, str] = field(default_factory=dict)
    """Text of HELP, TYPE and UNIT."""
    samples: dict[str, str] = field(default_factory=dict)
    """Name and labels -> value, as text. A repeated series keeps its first value."""


def translate_page(page: bytes, kind: EngineKind, reserved: frozenset[str] = frozenset()) -> bytes:
    """Return a page with AIBrix's families added, each family once, each series once.

    Args:
        page: the engine's, in Prometheus's text format.
        kind: whose names they are.
        reserved: families that the sidecar itself shows, which are left out here.
    """
    families = _parse(page.decode(errors="replace"))
    for theirs, ours in STANDARD_NAMES[kind].items():
        source = families.get(theirs) or families.get(theirs.removesuffix("_total"))
        if source is not None and source.samples and ours not in families:
            families[ours] = _renamed(source, ours)
    return "".join(_render(family) for name, family in families.items() if name not in reserved).encode()


def _parse(text: str) -> dict[str, _Family]:
    families: dict[str, _Family] = {}
    for raw in text.split("\n"):
        line = raw.strip()
        head = _HEAD.fullmatch(line)
        if head is not None:
            families.setdefault(head[2], _Family(head[2])).heads.setdefault(head[1], head[3] or "")
            continue
        name = _NAME.match(line)
        if name is None:
            continue
        series, value = _split_sample(line, name.end())
        if value:
            _family_of(name[0], families).samples.setdefault(series, value)
    return families


def _split_sample(line: str, end_of_name: int) -> tuple[str, str]:
    """Return name and labels, and what follows; label values may hold spaces and braces."""
    at = end_of_name
    if line[at : at + 1] == "{":
        is_quoted = False
        while at < len(line):
            character = line[at]
            if character == "\\" and is_quoted:
                at += 1
            elif character == '"':
                is_quoted = not is_quoted
            elif character == "}" and not is_quoted:
                break
            at += 1
        at += 1
    return line[:at], line[at:].strip()


def _family_of(name: str, families: dict[str, _Family]) -> _Family:
    """Return the family that a sample belongs to, a new one without a type when none was declared."""
    if name not in families:
        for suffix in _SUFFIXES:
            base = name.removesuffix(suffix)
            if base != name and base in families:
                return families[base]
    return families.setdefault(name, _Family(name))


def _renamed(family: _Family, name: str) -> _Family:
    renamed = _Family(name, dict(family.heads))
    for series, value in family.samples.items():
        rest = series.removeprefix(family.name)
        # `x` declared and `x_total` sampled, as OpenMetrics has it, is `y_total` declared and sampled here.
        if name.endswith("_total"):
            rest = rest.removeprefix("_total")
        renamed.samples.setdefault(name + rest, value)
    return renamed


def _render(family: _Family) -> str:
    lines = [f"# {word} {family.name} {text}".rstrip() for word, text in family.heads.items()]
    lines += [f"{series} {value}" for series, value in family.samples.items()]
    return "".join(line + "\n" for line in lines)
