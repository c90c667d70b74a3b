"""What a definition of the kind checks, checked again: it may be older than the controller. Pure."""

from __future__ import annotations

import re

from pybrix.api.model.v1alpha1.modeladapter import ARTIFACT_SCHEMES, ModelAdapter
from pybrix.api.selectors import compile_label_selector

_URL = re.compile(rf"({'|'.join(ARTIFACT_SCHEMES)})://[^ ]+|/[^ ]*")
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


def problem_of(adapter: ModelAdapter) -> str:
    """Return what is wrong with the spec, in a sentence; empty when nothing is."""
    spec = adapter.spec
    if not _NAME.fullmatch(adapter.metadata.name):
        return "metadata.name: a Service of that name is made, so it has to be a DNS label that begins with a letter"
    if not spec.pod_selector.match_labels and not spec.pod_selector.match_expressions:
        return "spec.podSelector: an empty selector would mean every pod of the namespace"
    try:
        compile_label_selector(spec.pod_selector)
    except ValueError as err:
        return f"spec.podSelector.{err}"
    if not _URL.fullmatch(spec.artifact_url):
        schemes = ", ".join(f"{scheme}://" for scheme in ARTIFACT_SCHEMES)
        return f"spec.artifactURL: {spec.artifact_url!r} is no absolute path and begins with none of {schemes}"
    if spec.replicas is not None and spec.replicas < 1:
        return "spec.replicas: at least 1; leave it out for all pods that podSelector finds"
    return ""
