"""What a rule of a role allows, and whether rules cover another. Pure.

https://kubernetes.io/docs/reference/access-authn-authz/rbac/#referring-to-resources
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pybrix.cluster.apiserver.access.attributes import Attributes

Rule = Mapping[str, Any]


def allows(rule: Rule, wanted: Attributes) -> bool:
    """Say whether a `PolicyRule` allows what is wanted."""
    if not _has(rule, "verbs", wanted.verb):
        return False
    if wanted.path:
        return any(_is_path(url, wanted.path) for url in rule.get("nonResourceURLs") or ())
    names = rule.get("resourceNames") or ()
    return (
        _has(rule, "apiGroups", wanted.group)
        and _has_resource(rule, wanted.resource, wanted.subresource)
        and (not names or wanted.name in names)
    )


def uncovered(rules: Sequence[Rule], wanted: Iterable[Rule]) -> list[str]:
    """Return in words what of the `wanted` rules the given ones do not allow."""
    return [
        text
        for rule in wanted
        for part, text in _single_parts(rule)
        if not any(_covers(given, part) for given in rules)
    ]


def _has(rule: Rule, name: str, word: str) -> bool:
    listed = rule.get(name) or ()
    return "*" in listed or word in listed


def _has_resource(rule: Rule, resource: str, subresource: str) -> bool:
    listed = rule.get("resources") or ()
    if "*" in listed:
        return True
    if not subresource:
        return resource in listed
    return f"{resource}/{subresource}" in listed or f"*/{subresource}" in listed


def _is_path(pattern: str, path: str) -> bool:
    return pattern in ("*", path) or (pattern.endswith("*") and path.startswith(pattern[:-1]))


def _single_parts(rule: Rule) -> Iterator[tuple[dict[str, str], str]]:
    """Yield a rule as combinations of one verb with one resource or path, and each in words."""
    for verb, url in itertools.product(rule.get("verbs") or (), rule.get("nonResourceURLs") or ()):
        yield {"verbs": verb, "nonResourceURLs": url}, f"{{NonResourceURLs:[{url}], Verbs:[{verb}]}}"
    about = [rule.get(name) or () for name in ("verbs", "apiGroups", "resources")]
    for verb, group, resource, name in itertools.product(*about, rule.get("resourceNames") or ("",)):
        named = f", ResourceNames:[{name}]" if name else ""
        text = f"{{APIGroups:[{group}], Resources:[{resource}]{named}, Verbs:[{verb}]}}"
        yield {"verbs": verb, "apiGroups": group, "resources": resource, "resourceNames": name}, text


def _covers(given: Rule, part: Mapping[str, str]) -> bool:
    if not _has(given, "verbs", part["verbs"]):
        return False
    if "nonResourceURLs" in part:
        return any(_is_path(url, part["nonResourceURLs"]) for url in given.get("nonResourceURLs") or ())
    names = given.get("resourceNames") or ()
    resource, _, subresource = part["resources"].partition("/")
    return (
        _has(given, "apiGroups", part["apiGroups"])
        and (_has_resource(given, resource, subresource) or part["resources"] in (given.get("resources") or ()))
        and (not names or part["resourceNames"] in names)
    )
