"""Sets of indexes as a Job's status has them: `0,2-4`. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from pybrix.api.batch import SuccessPolicy, SuccessRule


def parse_indexes(text: str) -> set[int]:
    """Return the indexes of a text; a part that is none is left out."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if first.isdigit() and (not dash or last.isdigit()):
            found.update(range(int(first), int(last if dash else first) + 1))
    return found


def matched_rule(policy: SuccessPolicy, succeeded: frozenset[int]) -> int | None:
    """Return the number of the first rule of a success policy that holds; None: none does."""
    return next((n for n, rule in enumerate(policy.rules) if _holds(rule, succeeded)), None)


def _holds(rule: SuccessRule, succeeded: frozenset[int]) -> bool:
    named = parse_indexes(rule.succeeded_indexes) if rule.succeeded_indexes else None
    if rule.succeeded_count is None:
        return named is not None and named <= succeeded
    return len(succeeded if named is None else succeeded & named) >= rule.succeeded_count


def print_indexes(indexes: Iterable[int]) -> str:
    """Return the shortest text: a run of two is `0,1`, a longer one `0-2`."""
    parts: list[str] = []
    run: list[int] = []
    for index in [*sorted(set(indexes)), None]:
        if index is not None and (not run or index == run[-1] + 1):
            run.append(index)
            continue
        if len(run) > 2:
            parts.append(f"{run[0]}-{run[-1]}")
        else:
            parts += [str(i) for i in run]
        run = [index] if index is not None else []
    return ",".join(parts)
