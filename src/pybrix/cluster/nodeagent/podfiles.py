"""What a pod's containers are prepared from, and the files that they see while they run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import structlog

from pybrix.api.core import Container, Pod
from pybrix.api.identity import Uid
from pybrix.cluster.nodeagent.preparation import Launchable, prepare
from pybrix.cluster.nodeagent.seen import Blocked
from pybrix.cluster.nodeagent.surroundings import Surroundings
from pybrix.cluster.nodeagent.tokens import PodTokens
from pybrix.cluster.nodeagent.volumes import Sources, VolumeError, is_directory, volume_dir, write_volume

_log = structlog.get_logger(__name__)


class PodFiles:
    """Tokens, volumes and the hosts file of one pod."""

    def __init__(self, uid: Uid, around: Surroundings) -> None:
        self.tokens = PodTokens()
        self._uid = uid
        self._around = around
        self._are_old = False

    def prepare(self, pod: Pod, container: Container) -> Launchable | Blocked:
        """Say what is run for a container, after writing its volumes; or why it cannot be."""
        pod_dir = self._around.runner.pod_dir(self._uid)
        try:
            return prepare(pod, container, self._around.machine, pod_dir=pod_dir, sources=self._sources(pod))
        except OSError as error:
            return Blocked("CreateContainerError", str(error))

    def keep_hosts(self, pod: Pod) -> Path | None:
        """Keep the pod's hosts file in line with Services from now on; None where pods have the machine's."""
        hosts, address = self._around.hosts, self._around.addresses.get(self._uid)
        if hosts is None or address is None:
            return None
        return hosts.keep(pod, address, self._around.runner.pod_dir(self._uid))

    def drop_hosts(self) -> None:
        if self._around.hosts is not None:
            self._around.hosts.drop(self._uid)

    def mark_old(self) -> None:
        """Note that a source of the files changed."""
        self._are_old = True

    def renew(self, pod: Pod) -> None:
        """Bring the files of volumes that are made already in line with their sources, if these changed."""
        if not self._are_old:
            return
        self._are_old = False
        sources = self._sources(pod)
        for volume in pod.spec.volumes:
            place = volume_dir(self._around.runner.pod_dir(self._uid), volume.name)
            if place.is_dir() and not is_directory(volume):
                try:
                    write_volume(volume, pod, sources, place)
                except VolumeError as error:
                    _log.warning(
                        "a volume could not be brought up to date",
                        pod=str(pod.key),
                        volume=volume.name,
                        error=str(error),
                    )

    def _sources(self, pod: Pod) -> Sources:
        around, namespace = self._around, pod.metadata.namespace
        return Sources(
            around.configmaps(namespace),
            around.secrets(namespace),
            around.addresses.get(self._uid) or "",
            around.machine.host_ip,
            around.machine.capacity,
            self.tokens.texts,
            around.claims(namespace),
            self.keep_hosts(pod),
            self._link_variables(pod),
        )

    def _link_variables(self, pod: Pod) -> Mapping[str, str]:
        if self._around.hosts is None or pod.spec.enable_service_links is False:
            return {}
        return self._around.hosts.link_variables(pod.metadata.namespace)
