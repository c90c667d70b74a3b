"""Jobs: what is filled in and what is refused. Pure.

https://kubernetes.io/docs/concepts/workloads/controllers/job/
"""

from __future__ import annotations

import re
from typing import Any

from pybrix.api.names import JOB_CONTROLLER, JOB_NAME, JOB_UID, LEGACY_JOB_NAME, LEGACY_JOB_UID
from pybrix.cluster.apiserver.failures import Cause, invalid_value, not_supported, required
from pybrix.cluster.apiserver.kinds.names import check_dns_subdomain
from pybrix.cluster.apiserver.kinds.pods import check_pod_template

Object = dict[str, Any]
_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")
_MODES = ("Indexed", "NonIndexed")
_OPERATORS = ("In", "NotIn")
_RESTART = ("Never", "OnFailure")
_REPLACEMENT = ("Failed", "TerminatingOrFailed")
_NUMBERS = (
    "parallelism",
    "completions",
    "activeDeadlineSeconds",
    "backoffLimit",
    "backoffLimitPerIndex",
    "maxFailedIndexes",
    "ttlSecondsAfterFinished",
)
_NO_LIMIT = 2**31 - 1
_MAX_FAILED_INDEXES = 100_000
_MAX_RULES = 20
_MAX_MANAGER_LEN = 63
_INDEXES = re.compile(r"[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*")


def default_job(data: Object) -> None:
    """Fill in everything but the pod template's part."""
    spec = data.setdefault("spec", {})
    if "completions" not in spec and "parallelism" not in spec:
        spec["completions"] = 1
    spec.setdefault("parallelism", 1)
    spec.setdefault("backoffLimit", _NO_LIMIT if "backoffLimitPerIndex" in spec else 6)
    spec.setdefault("completionMode", "NonIndexed")
    spec.setdefault("suspend", False)
    has_policy = "podFailurePolicy" in spec
    spec.setdefault("podReplacementPolicy", "Failed" if has_policy else "TerminatingOrFailed")
    for rule in spec.get("podFailurePolicy", {}).get("rules", ()):
        for pattern in rule.get("onPodConditions", ()):
            pattern.setdefault("status", "True")


def select_own_pods(data: Object) -> None:
    """Give a new Job the labels by which its pods are its own, unless whoever made it takes care of that."""
    metadata, spec = data["metadata"], data["spec"]
    template = spec.get("template")
    if spec.get("manualSelector") or not isinstance(template, dict):
        return
    uid, name = metadata["uid"], metadata.get("name", "")
    labels = template.setdefault("metadata", {}).setdefault("labels", {})
    labels |= {JOB_NAME: name, LEGACY_JOB_NAME: name, JOB_UID: uid, LEGACY_JOB_UID: uid}
    spec["selector"] = {"matchLabels": {JOB_UID: uid}}


def check_job(data: Object) -> list[Cause]:
    spec = data["spec"]
    causes = [
        invalid_value(f"spec.{name}", spec[name], "must be greater than or equal to 0")
        for name in _NUMBERS
        if spec.get(name, 0) < 0
    ]
    if spec["completionMode"] not in _MODES:
        causes.append(not_supported("spec.completionMode", spec["completionMode"], _MODES))
    elif spec["completionMode"] == "Indexed" and "completions" not in spec:
        causes.append(required("spec.completions", "when completion mode is Indexed"))
    if spec["podReplacementPolicy"] not in _REPLACEMENT:
        causes.append(not_supported("spec.podReplacementPolicy", spec["podReplacementPolicy"], _REPLACEMENT))
    if not spec.get("selector", {}).get("matchLabels") and not spec.get("selector", {}).get("matchExpressions"):
        causes.append(required("spec.selector"))
    if "template" not in spec:
        return [*causes, required("spec.template")]
    causes += check_pod_template(spec["template"], "spec.template")
    policy = spec["template"].get("spec", {}).get("restartPolicy", "Always")
    if policy not in _RESTART:
        detail = f"spec.template.spec.restartPolicy: valid values: {', '.join(_RESTART)}"
        causes.append(Cause("spec.template.spec.restartPolicy", f"Required value: {detail}", "FieldValueRequired"))
    manager = spec.get("managedBy", JOB_CONTROLLER)
    if not _is_domain_path(manager):
        causes.append(invalid_value("spec.managedBy", manager, "must be a domain-prefixed path (such as acme.io/foo)"))
    return [*causes, *_check_index_limits(spec), *_check_success_policy(spec), *_check_failure_policy(spec)]


def _is_domain_path(text: str) -> bool:
    domain, slash, path = text.partition("/")
    return bool(slash and path) and not check_dns_subdomain("", domain) and len(text) <= _MAX_MANAGER_LEN


def _check_index_limits(spec: Object) -> list[Cause]:
    causes: list[Cause] = []
    most = spec.get("maxFailedIndexes")
    if "backoffLimitPerIndex" not in spec:
        return [required("spec.backoffLimitPerIndex", "when maxFailedIndexes is specified")] if most is not None else []
    if spec["completionMode"] != "Indexed":
        limit = spec["backoffLimitPerIndex"]
        causes.append(invalid_value("spec.backoffLimitPerIndex", limit, "requires indexed completion mode"))
    policy = spec["template"].get("spec", {}).get("restartPolicy", "")
    if policy != "Never":
        detail = 'only "Never" is supported when backoffLimitPerIndex is specified'
        causes.append(invalid_value("spec.template.spec.restartPolicy", policy, detail))
    if most is not None and most > spec.get("completions", _MAX_FAILED_INDEXES):
        causes.append(invalid_value("spec.maxFailedIndexes", most, "must be less than or equal to completions"))
    elif most is not None and most > _MAX_FAILED_INDEXES:
        detail = f"must be less than or equal to {_MAX_FAILED_INDEXES}"
        causes.append(invalid_value("spec.maxFailedIndexes", most, detail))
    return causes


def _check_success_policy(spec: Object) -> list[Cause]:
    policy = spec.get("successPolicy")
    if policy is None:
        return []
    if spec["completionMode"] != "Indexed":
        return [invalid_value("spec.successPolicy", policy, "requires indexed completion mode")]
    rules = policy.get("rules") or []
    if not rules:
        return [required("spec.successPolicy.rules", "at least one rules must be specified in the successPolicy")]
    if len(rules) > _MAX_RULES:
        detail = f"must have at most {_MAX_RULES} items"
        return [Cause("spec.successPolicy.rules", f"Too many: {len(rules)}: {detail}", "FieldValueTooMany")]
    causes: list[Cause] = []
    for number, rule in enumerate(rules):
        at = f"spec.successPolicy.rules[{number}]"
        count, named = rule.get("succeededCount"), rule.get("succeededIndexes")
        if count is None and named is None:
            causes.append(required(at, "at least one of succeededCount or succeededIndexes must be specified"))
        num_indexes = spec.get("completions", 0)
        if named is not None:
            found = _indexes_within(named, num_indexes)
            if found is None:
                detail = f"must be indexes below {num_indexes} in ascending order, such as 0,2-4"
                causes.append(invalid_value(f"{at}.succeededIndexes", named, detail))
                continue
            num_indexes = found
        if count is not None and not 0 <= count <= num_indexes:
            detail = f"must be between 0 and {num_indexes}, the number of indexes"
            causes.append(invalid_value(f"{at}.succeededCount", count, detail))
    return causes


def _indexes_within(text: str, completions: int) -> int | None:
    """Return how many indexes a text names; None: it is malformed, not in order, or names one that there is not."""
    if not _INDEXES.fullmatch(text):
        return None
    last, found = -1, 0
    for part in text.split(","):
        begin, _, end = part.partition("-")
        first, final = int(begin), int(end or begin)
        if not last < first <= final < completions:
            return None
        last, found = final, found + final - first + 1
    return found


def _check_failure_policy(spec: Object) -> list[Cause]:
    rules = spec.get("podFailurePolicy", {}).get("rules", ())
    causes: list[Cause] = []
    if rules and spec["template"].get("spec", {}).get("restartPolicy") != "Never":
        detail = 'only "Never" is supported when podFailurePolicy is specified'
        given = spec["template"].get("spec", {}).get("restartPolicy", "")
        causes.append(invalid_value("spec.template.spec.restartPolicy", given, detail))
    for index, rule in enumerate(rules):
        at = f"spec.podFailurePolicy.rules[{index}]"
        if rule.get("action") not in _ACTIONS:
            causes.append(not_supported(f"{at}.action", rule.get("action", ""), _ACTIONS))
        elif rule["action"] == "FailIndex" and "backoffLimitPerIndex" not in spec:
            detail = "requires the backoffLimitPerIndex to be set"
            causes.append(invalid_value(f"{at}.action", "FailIndex", detail))
        codes, patterns = rule.get("onExitCodes"), rule.get("onPodConditions")
        if bool(codes) == bool(patterns):
            detail = "specifying one of OnExitCodes and OnPodConditions is required"
            causes.append(invalid_value(at, rule.get("action", ""), detail))
        if codes and codes.get("operator") not in _OPERATORS:
            causes.append(not_supported(f"{at}.onExitCodes.operator", codes.get("operator", ""), _OPERATORS))
        elif codes and codes["operator"] == "In" and 0 in codes.get("values", ()):
            causes.append(invalid_value(f"{at}.onExitCodes.values", 0, "must not be 0 for the In operator"))
    return causes


def check_job_update(old: Object, new: Object) -> list[Cause]:
    before, after = old["spec"], new["spec"]
    is_startable = before.get("suspend") and "startTime" not in old.get("status", {})
    names = ["selector", "completionMode", "podFailurePolicy", "successPolicy", "backoffLimitPerIndex", "managedBy"]
    names.append("template")
    if is_startable:
        # Before it starts, where its pods may run can still be changed; everything else of the template cannot.
        names.remove("template")
    # How many indexes there are may change, together with how many work.
    is_elastic = before.get("completionMode") == "Indexed" and after.get("completions") == after.get("parallelism")
    if not is_elastic:
        names.append("completions")
    return [
        invalid_value(f"spec.{name}", "...", "field is immutable")
        for name in names
        if before.get(name) != after.get(name)
    ]
