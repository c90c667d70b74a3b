"""Which pods are members now. Pure.

Who comes or goes moves slots, and what was cached in those is lost. So a cache server gets slots of others once it has
been ready for a while, and keeps its own while it is not ready for a moment. Time is counted as for `minReadySeconds`,
from the condition's whole second, so that it may be up to a second shorter in truth:

    no published member has been ready for long     nothing is lost yet: whoever is ready comes at once
    not published, ready                            comes when it has been ready for `min_ready_s`
    published, ready                                stays, with whatever address it has
    published, not ready, its pod stays             goes when it has not been ready for `min_ready_s`
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from pybrix.api.core import Pod
from pybrix.api.meta import find_condition
from pybrix.base.clock import parse_rfc3339
from pybrix.controllers.cachecluster.blueprint import MemberSource
from pybrix.controllers.membership.records import Member, Record


@dataclass(frozen=True, slots=True)
class Membership:
    """Who shall be published."""

    members: tuple[Member, ...] = ()
    waiting: tuple[str, ...] = ()
    """Who is ready and comes later, by name."""
    again_s: float | None = None
    """When somebody comes or goes without another event; None: nobody does."""


NOBODY = Membership()


def plan_members(
    pods: Iterable[Pod], source: MemberSource, record: Record | None, *, min_ready_s: float, now: datetime
) -> Membership:
    """Return who shall be published after what was published last."""
    published = {node.name: node for node in record.nodes} if record is not None else {}
    stay: list[Member] = []
    come: list[tuple[Member, float]] = []
    left_s: list[float] = []
    is_settled = False
    for pod in pods:
        address = address_of(pod, source)
        if not has_labels(pod, source.labels) or not address or pod.metadata.is_terminating or pod.is_finished:
            continue
        member = Member(pod.metadata.name, address, source.port)
        node = published.get(member.name)
        rest_s = min_ready_s - _for_s(pod, now)
        if pod.is_ready and node is not None:
            stay.append(member)
            is_settled = is_settled or rest_s <= 0
        elif pod.is_ready:
            come.append((member, rest_s))
        elif node is not None and (node.addr, node.port) == (member.addr, member.port) and rest_s > 0:
            # Of another pod by this name nobody knows that it will answer.
            stay.append(member)
            left_s.append(rest_s)
    waiting = [(member, rest_s) for member, rest_s in come if rest_s > 0 and is_settled]
    left_s += [rest_s for _, rest_s in waiting]
    late = {member.name for member, _ in waiting}
    members = sorted([*stay, *(member for member, _ in come if member.name not in late)])
    return Membership(tuple(members), tuple(sorted(late)), min(left_s, default=None))


def _for_s(pod: Pod, now: datetime) -> float:
    """Return for how long a pod is ready, or is not; for ever where it does not say since when."""
    ready = find_condition(pod.status.conditions, "Ready")
    if ready is None or not ready.last_transition_time:
        return float("inf")
    return (now - parse_rfc3339(ready.last_transition_time)).total_seconds()


def members_of(pods: Iterable[Pod], source: MemberSource) -> tuple[Member, ...]:
    """Return the cache servers that are ready and stay, by name."""
    found = [
        Member(pod.metadata.name, address, source.port)
        for pod in pods
        if has_labels(pod, source.labels) and is_serving(pod) and (address := address_of(pod, source))
    ]
    return tuple(sorted(found))


def is_serving(pod: Pod) -> bool:
    """Say whether a pod answers and is not on its way out."""
    return pod.is_ready and not pod.metadata.is_terminating and not pod.is_finished


def has_labels(pod: Pod, labels: Mapping[str, str]) -> bool:
    return all(pod.metadata.labels.get(key) == value for key, value in labels.items())


def address_of(pod: Pod, source: MemberSource) -> str:
    """Return where a member answers: at the interface that a network plugin made for it, else at its pod's address."""
    if source.address_annotation and (text := pod.metadata.annotations.get(source.address_annotation)):
        found = _interface_address(text, source.interface)
        if found:
            return found
    return pod.status.pod_ip


def _interface_address(text: str, interface: str) -> str:
    """Read a CNI's network status: a list of `{"interface" | "ifName": ..., "ips": [...]}`."""
    try:
        networks = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return ""
    for network in networks if isinstance(networks, list) else ():
        if not isinstance(network, dict):
            continue
        name = network.get("ifName") or network.get("interface")
        ips: Any = network.get("ips")
        if name == interface and isinstance(ips, list) and ips and isinstance(ips[0], str):
            return ips[0].partition("/")[0]
    return ""


def host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
