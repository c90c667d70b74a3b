"""The root of pybrix's error tree.

PybrixError
├── UsageError          the person or the environment can mend it; the CLI prints it as one line
├── kube.errors.*       answers of a Kubernetes API server
├── cluster.errors.*    the embedded cluster
└── gateway.errors.*    the gateway
"""

from __future__ import annotations


class PybrixError(Exception):
    """Base class of every error that pybrix raises on purpose."""


class UsageError(PybrixError):
    """Say what is wrong and how to go on, in one line each.

    Args:
        problem: what is wrong, naming the object and the field.
        remedy: what the person can do about it; empty when there is nothing.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(f"{problem} ({remedy})" if remedy else problem)
        self.problem = problem
        self.remedy = remedy
