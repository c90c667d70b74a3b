"""What is wrong with the models' configurations: said in the log once, and shown for as long as it is so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import structlog

from pybrix.gateway.framework.modelconfig import UNCONFIGURED, ModelConfig
from pybrix.gateway.scheduling.profile import Profile
from pybrix.gateway.view.facts import ModelKey
from pybrix.gateway.view.snapshot import ClusterView

_log = structlog.get_logger()


def problems_of(config: ModelConfig, profile: Profile) -> tuple[str, ...]:
    """Return what is wrong with a configuration: no JSON of that form, or strategies that there are not. Pure."""
    if config.problem:
        return (f"model.aibrix.ai/config is not used: {config.problem}",)
    return tuple(
        f"model.aibrix.ai/config: routing strategy {name[:64]!r} is not used; {why}"
        for name in sorted(config.strategies())
        if (why := profile.why_invalid(name))
    )


class ConfigProblems:
    """Follows views.

    Args:
        profile: knows which strategies there are.
    """

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._problems: dict[ModelKey, tuple[str, ...]] = {}

    def follow(self, before: ClusterView, view: ClusterView) -> None:
        """Look at the models that changed."""
        for key, model in view.models.items():
            was = before.models.get(key)
            if was is model or (model.config is UNCONFIGURED and key not in self._problems):
                continue
            found = problems_of(model.config, self._profile)
            for why in found:
                if why not in self._problems.get(key, ()):
                    _log.warning("model configuration", namespace=key.namespace, model=key.model, why=why)
            if found:
                self._problems[key] = found
            else:
                self._problems.pop(key, None)
        for key in [known for known in self._problems if known not in view.models]:
            del self._problems[key]

    def of(self, key: ModelKey) -> Sequence[str]:
        """Return what is wrong with a model's configuration now."""
        return self._problems.get(key, ())

    def __iter__(self) -> Iterator[tuple[ModelKey, Sequence[str]]]:
        return iter(list(self._problems.items()))
