"""The admission chain of a cluster: what its policies make of a request, and who lets it pass."""

from __future__ import annotations

import structlog

from pybrix.cluster.apiserver.access.authorizer import Authorizer, Rbac
from pybrix.cluster.apiserver.access.escalation import check_escalation
from pybrix.cluster.apiserver.matching import Change, Data
from pybrix.cluster.apiserver.mutations import Mutations, Settle
from pybrix.cluster.apiserver.policies import Policies
from pybrix.cluster.store.store import Store

_log = structlog.get_logger()


class AdmissionChain:
    """The mutating and the validating policies of a store, in that order."""

    def __init__(self, store: Store, authorizer: Authorizer) -> None:
        self._authorizer = authorizer
        self._policies = Policies(store)
        self._mutations = Mutations(store)

    def mutate(self, change: Change, settle: Settle) -> Data:
        """Return what the mutating policies make of the object of a creation or an update.

        Raises:
            StatusError (422): a policy that counts cannot be evaluated.
        """
        return self._mutations.mutate(change, settle)

    def judge(self, change: Change, warnings: list[str]) -> None:
        """Ask whoever may refuse a request; what the validating policies warn of is added to `warnings`.

        Raises:
            StatusError (403): its sender would give away rights without having them.
            StatusError (422 unless the policy says otherwise): a policy denies it.
        """
        if isinstance(self._authorizer, Rbac):
            check_escalation(self._authorizer, change)
        verdict = self._policies.judge(change)
        warnings.extend(verdict.warnings)
        for text in verdict.audits:
            _log.info("policy not fulfilled", object=str(change.key), resource=change.served.storage, policy=text)
