"""From views to Envoy's files: what the gateway can route to is written whenever it changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from pybrix.envoy.wire import ModelCluster, PodEndpoint
from pybrix.gateway.view.snapshot import ClusterView

Write = Callable[[Sequence[ModelCluster]], object]
_log = structlog.get_logger()


def clusters_of(view: ClusterView) -> tuple[ModelCluster, ...]:
    """Return the models of a view as Envoy is told of them, sorted. Pure.

    A model that is not ready has no endpoints, so that Envoy answers 503 for it, not 404.
    """
    return tuple(
        ModelCluster(
            namespace=key.namespace,
            model=key.model,
            endpoints=tuple(
                PodEndpoint(address=pod.address, port=pod.port, pod_uid=pod.uid, pod_name=pod.name)
                for pod in model.pods
                if not pod.absent_because
            ),
        )
        for key, model in sorted(view.models.items())
    )


class XdsPublisher:
    """Writes what changed, at once: within the event loop's step in which the view changed.

    Args:
        write: writes all files of a set of models, atomically and in an order in which no route lacks its cluster.
    """

    def __init__(self, write: Write) -> None:
        self._write = write
        self._written: tuple[ModelCluster, ...] | None = None
        self.writes = 0
        self.failures = 0

    @property
    def is_written(self) -> bool:
        """Whether Envoy's files say what the last view said."""
        return self._written is not None

    def publish(self, view: ClusterView) -> bool:
        """Write the view's models if they differ from what is written. False: the disk refused, try again."""
        clusters = clusters_of(view)
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
