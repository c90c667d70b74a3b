"""Pod IPs: one loopback address per pod UID, kept over restarts and not given to another pod soon."""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Iterable
from pathlib import Path

import structlog

from pybrix.api.identity import Uid
from pybrix.base.errors import PybrixError

_log = structlog.get_logger(__name__)


class AddressesExhausted(PybrixError):
    """Every address of the pod CIDR belongs to a pod."""


class AddressPool:
    """Give each pod UID an address of a CIDR.

    The search goes on after the address given last, so a freed one comes round again only after all others. Every
    change is written to `path` before it is used. Networks in `reserved` are others': none of theirs is given out.
    """

    def __init__(self, path: Path, cidr: str, *, reserved: Iterable[str] = ()) -> None:
        self._path = path
        self._network = ipaddress.ip_network(cidr)
        self._reserved = tuple(ipaddress.ip_network(other) for other in reserved)
        # Neither the first nor the last address: on loopback they work, but people read them as network and broadcast.
        self._size = max(1, self._network.num_addresses - 2)
        self._by_uid: dict[Uid, str] = {}
        self._next = 0
        self._load()

    def _load(self) -> None:
        if not self._path.exists():
            return
        try:
            data = json.loads(self._path.read_text())
            by_uid = {Uid(str(uid)): str(ip) for uid, ip in data["addresses"].items()}
            self._by_uid = {uid: ip for uid, ip in by_uid.items() if ipaddress.ip_address(ip) in self._network}
            self._next = int(data["next"]) % self._size
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            # A torn file after a power cut: nothing that used these addresses runs any more.
            _log.warning("pod addresses unreadable, starting anew", path=str(self._path), error=str(error))

    def address(self, uid: Uid) -> str:
        """Return the pod's address, allocating it at the first call.

        Raises:
            AddressesExhausted: no address is free.
        """
        if (known := self._by_uid.get(uid)) is not None:
            return known
        taken = set(self._by_uid.values())
        for step in range(self._size):
            index = (self._next + step) % self._size
            address = self._network[index + 1 if self._size > 1 else 0]
            candidate = str(address)
            if candidate not in taken and not any(address in other for other in self._reserved):
                self._by_uid[uid] = candidate
                self._next = (index + 1) % self._size
                self._save()
                return candidate
        raise AddressesExhausted(f"all {self._size} addresses of {self._network} belong to pods")

    def get(self, uid: Uid) -> str | None:
        return self._by_uid.get(uid)

    def uids(self) -> list[Uid]:
        """Return the pods that have an address."""
        return list(self._by_uid)

    def release(self, uid: Uid) -> None:
        """Give the pod's address back; unknown pods are no error."""
        if self._by_uid.pop(uid, None) is not None:
            self._save()

    def _save(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text(json.dumps({"next": self._next, "addresses": self._by_uid}))
        os.replace(temporary, self._path)
