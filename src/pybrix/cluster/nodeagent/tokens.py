"""The tokens of a pod's service account: fetched before its containers start, and again long before they end.

Rules of renewal: `pkg/kubelet/token/token_manager.go`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from pybrix.api.core import Pod, Volume
from pybrix.api.identity import ObjectKey
from pybrix.base.clock import parse_rfc3339

RENEW_AT_RATIO = 0.8
"""A token is renewed when this part of its life is over, at most a day."""
_LONGEST_USE = timedelta(days=1)
_DEFAULT_LIFETIME_S = 3600

Wanted = tuple[str, int]
"""Audience (empty: the API server) and lifetime in seconds."""


class TokenSource(Protocol):
    """Whoever gives out tokens of service accounts."""

    async def create_token(self, account: ObjectKey, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Return the status of a TokenRequest: `token` and `expirationTimestamp`."""
        ...


@dataclass(frozen=True, slots=True)
class _Held:
    text: str
    renew_at: datetime


def wanted_of(source: Mapping[str, Any]) -> Wanted:
    """Return what a `serviceAccountToken` of a projected volume asks for."""
    return str(source.get("audience") or ""), int(source.get("expirationSeconds") or _DEFAULT_LIFETIME_S)


def token_sources(volume: Volume) -> Iterator[Mapping[str, Any]]:
    """Yield what a volume says about tokens."""
    for source in (volume.projected or {}).get("sources") or ():
        if (part := source.get("serviceAccountToken")) is not None:
            yield part


class PodTokens:
    """Tokens of one pod."""

    def __init__(self) -> None:
        self._held: dict[Wanted, _Held] = {}

    @property
    def texts(self) -> dict[Wanted, str]:
        return {wanted: held.text for wanted, held in self._held.items()}

    def due_at(self, pod: Pod, now: datetime) -> datetime | None:
        """Return when the next token has to be fetched; None when the pod wants none."""
        wanted = {wanted_of(s) for v in pod.spec.volumes for s in token_sources(v)}
        return min((self._held[w].renew_at if w in self._held else now for w in wanted), default=None)

    async def renew(self, pod: Pod, now: datetime, source: TokenSource) -> None:
        """Fetch what is due. Raises `KubeError`."""
        account = ObjectKey(pod.metadata.namespace, pod.spec.service_account_name or "default")
        bound = {"kind": "Pod", "apiVersion": "v1", "name": pod.metadata.name, "uid": pod.uid}
        for wanted in sorted({wanted_of(s) for v in pod.spec.volumes for s in token_sources(v)}):
            held = self._held.get(wanted)
            if held is not None and now < held.renew_at:
                continue
            audience, lifetime_s = wanted
            spec: dict[str, Any] = {"expirationSeconds": lifetime_s, "boundObjectRef": bound}
            if audience:
                spec["audiences"] = [audience]
            status = await source.create_token(account, spec)
            life = parse_rfc3339(status["expirationTimestamp"]) - now
            self._held[wanted] = _Held(status["token"], now + min(life * RENEW_AT_RATIO, _LONGEST_USE))
