"""From views to Envoy's files: what the gateway can route to is written whenever it changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import structlog

from pybrix.envoy.wire import ModelCluster, PodEndpoint
from pybrix.gateway.view.facts import ModelKey
from pybrix.gateway.view.snapshot import ClusterView, ModelView

Write = Callable[[Sequence[ModelCluster]], object]
_log = structlog.get_logger()


def cluster_of(model: ModelView) -> ModelCluster:
    """Return a model as Envoy is told of it. Pure.

    A model that is not ready has no endpoints, so that Envoy answers 503 for it, not 404.
    """
    return ModelCluster(
        namespace=model.key.namespace,
        model=model.key.model,
        endpoints=tuple(
            PodEndpoint(address=each.address, port=each.id.port, pod_uid=each.id.pod_uid, pod_name=each.pod_name)
            for each in model.endpoints
        ),
        parent=model.parent,
    )


def clusters_of(view: ClusterView) -> tuple[ModelCluster, ...]:
    """Return the models of a view as Envoy is told of them. Pure."""
    return tuple(cluster_of(model) for model in view.models.values())


def follow_clusters(
    view: ClusterView, known: Mapping[ModelKey, tuple[ModelView, ModelCluster]] = MappingProxyType({})
) -> dict[ModelKey, tuple[ModelView, ModelCluster]]:
    """Return every model of a view with its cluster. Pure.

    Args:
        known: what this returned for an earlier view; the clusters of unchanged models are taken from it.
    """
    found: dict[ModelKey, tuple[ModelView, ModelCluster]] = {}
    for key, model in view.models.items():
        before = known.get(key)
        found[key] = before if before is not None and before[0] is model else (model, cluster_of(model))
    return found


class XdsPublisher:
    """Writes what changed, at once: within the event loop's step in which the view changed.

    Args:
        write: writes all files of a set of models, atomically and in an order in which no route lacks its cluster.
    """

    def __init__(self, write: Write) -> None:
        self._write = write
        self._written: tuple[ModelCluster, ...] | None = None
        self._known: dict[ModelKey, tuple[ModelView, ModelCluster]] = {}
        self.writes = 0
        self.failures = 0

    @property
    def is_written(self) -> bool:
        """Whether Envoy's files say what the last view said."""
        return self._written is not None

    def invalidate(self) -> None:
        """Have the next `publish` write, whatever the view says: something else has changed."""
        self._written = None

    def publish(self, view: ClusterView) -> bool:
        """Write the view's models if they differ from what is written. False: the disk refused, try again."""
        self._known = follow_clusters(view, self._known)
        clusters = tuple([cluster for _, cluster in self._known.values()])
        if clusters == self._written:
            return True
        try:
            self._write(clusters)
        except OSError as err:
            self.failures += 1
            self._written = None
            _log.error("xDS not written", error=str(err))
            return False
        self._written = clusters
        self.writes += 1
        return True
