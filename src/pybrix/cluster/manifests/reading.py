"""Read the documents of a text, whichever of the two languages it is in. Pure."""

from __future__ import annotations

from pybrix.cluster.manifests.jsontext import read_json
from pybrix.cluster.manifests.nodes import Read
from pybrix.cluster.manifests.yamltext import read_yaml


def is_json(text: str) -> bool:
    """Say whether a text looks like JSON: whether it begins with a brace."""
    return text.lstrip().startswith("{")


def read_text(text: str) -> Read:
    """Read what looks like JSON as JSON, and as YAML where it is that after all."""
    if not is_json(text):
        return read_yaml(text)
    read = read_json(text)
    if any(problem.rule == "syntax" for problem in read.problems):
        flow = read_yaml(text)
        if not flow.problems:
            return flow
    return read
