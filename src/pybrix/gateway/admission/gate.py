"""Who a client is, and whether its request fits the limits. Pure; time is an argument."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pybrix.api.config import GatewayConfiguration
from pybrix.gateway.admission.ratelimit import Charge, Exceeded, Kind, Limiter, UserLimits, user_limits
from pybrix.gateway.admission.users import Absent, User
from pybrix.gateway.framework import refusal
from pybrix.gateway.framework.outcome import AccessRecord
from pybrix.gateway.framework.refusal import Reason, Refusal
from pybrix.gateway.framework.types import InferenceRequest, Question

_REASONS: dict[Kind, Reason] = {
    "rpm": Reason.RPM_EXCEEDED,
    "tpm": Reason.TPM_EXCEEDED,
    "rps": Reason.MODEL_RPS_EXCEEDED,
}
_GENERATING = ("completions", "responses", "messages")

FindUser = Callable[[str, float], User | Absent]


class Gate:
    """What the director asks before it routes, and tells afterwards.

    Args:
        find_user: returns what is known of a user at this time, at once.
    """

    def __init__(self, config: GatewayConfiguration, find_user: FindUser, limiter: Limiter) -> None:
        self._limits = config.limits
        self._is_header_trusted = config.identity.is_user_header_trusted
        self._find_user = find_user
        self._limiter = limiter

    def user_of(self, question: Question) -> str:
        """Return who asks: the user of its API key, or, where that is trusted, of the header `user`; "" for nobody."""
        return question.key_user or (question.user if self._is_header_trusted else "")

    def admit(self, request: InferenceRequest, now_s: float) -> Charge | Refusal | None:
        """Spend what the request needs; None where nothing limits it."""
        limits: UserLimits | None = None
        if not self._limits.is_enabled:
            return None
        if request.user:
            found = self._find_user(request.user, now_s)
            if isinstance(found, User):
                limits = user_limits(found.rpm, found.tpm, self._limits.default_rpm)
            elif found is Absent.UNKNOWN and self._limits.unknown_user != "default":
                return refusal.user_unknown(request.user, is_forbidden=self._limits.unknown_user == "403")
            else:
                # While it is being read who this is, it is a user like any other.
                limits = user_limits(0, 0, self._limits.default_rpm)
        rps = request.profile.requests_per_second if request.profile is not None else 0
        if limits is None and not rps:
            return None
        generated, most = 0, 0
        if request.path.partition("?")[0].endswith(_GENERATING):
            generated = request.decode_tokens
            most = generated if request.max_tokens is None else request.max_tokens
        model = f"{request.namespace}/{request.model}"
        spent = self._limiter.admit(
            now_s,
            user=request.user,
            limits=limits,
            tokens=request.prompt_tokens + most,
            expected_tokens=request.prompt_tokens + generated,
            model=model,
            rps=rps,
        )
        if not isinstance(spent, Exceeded):
            return spent
        more = self._limiter.headers(request.user, limits, now_s) if limits is not None else ()
        who = request.model if spent.kind == "rps" else request.user
        return refusal.limit_exceeded(_REASONS[spent.kind], who, spent.limit, spent.retry_after_s, more)

    def headers(self, charge: Charge, now_s: float) -> Sequence[tuple[str, str]]:
        """Return what the answer says about the limits of its user."""
        return self._limiter.headers(charge.user, charge.limits, now_s) if charge.limits is not None else ()

    def refund(self, charge: Charge, now_s: float) -> None:
        """Undo a charge: the request is not routed after all."""
        self._limiter.refund(charge, now_s)

    def keep(self, reservation: str, charge: Charge) -> None:
        """Keep a charge until `settle` or `release` of its reservation."""
        self._limiter.keep(reservation, charge)

    def settle(self, record: AccessRecord, now_s: float) -> None:
        """Count what a request really used."""
        used = record.prompt_tokens + record.completion_tokens
        self._limiter.settle(record.reservation, record.status, used, now_s)

    def release(self, reservation: str, now_s: float) -> None:
        """Settle a request whose end was never heard of."""
        self._limiter.release(reservation, now_s)

    def keep_house(self, now_s: float) -> None:
        """Do what time alone makes due; called every second."""
        self._limiter.look_around(now_s)
