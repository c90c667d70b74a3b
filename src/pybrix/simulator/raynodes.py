"""Watch the nodes of a Ray cluster, in a process of its own: print which are alive, a line a second.

    python -m pybrix.simulator.raynodes 127.64.0.5:6379

Ray's client ends its process when the cluster is gone, and an engine must not end in the middle of a sentence by that.
It asks the cluster's control service (GCS) over the network, so it need not run where a node of the cluster runs.
"""

from __future__ import annotations

import importlib
import socket
import sys
import time
from typing import Any

INTERVAL_S = 1.0
_ALIVE = 0
"""`GcsNodeInfo.ALIVE` in Ray's `gcs.proto`."""


def main(address: str) -> int:
    try:
        raylet: Any = importlib.import_module("ray._raylet")
    except ImportError:
        sys.stderr.write("this machine has no Ray: pip install 'pybrix[ray]'\n")
        return 1
    host, _, port = address.rpartition(":")
    control_service = (host.strip("[]"), int(port))
    while not _is_listening(control_service):
        time.sleep(INTERVAL_S)
    client = raylet.GcsClient(address=address)
    # Ray's client waits for a control service that has ended as it does for a slow one.
    while _is_listening(control_service):
        alive = {name.hex(): node for name, node in client.get_all_node_info().items() if node.state == _ALIVE}
        # A parent that is gone ends this by the broken pipe.
        sys.stdout.write(" ".join(sorted(alive, key=lambda name: _place(alive[name]))) + "\n")
        sys.stdout.flush()
        time.sleep(INTERVAL_S)
    sys.stderr.write(f"nobody listens at {address} any more\n")
    return 1


def _is_listening(control_service: tuple[str, int]) -> bool:
    """Say whether the connection is not refused. One that is only slow may be made yet."""
    try:
        socket.create_connection(control_service, INTERVAL_S).close()
    except ConnectionRefusedError:
        return False
    except OSError:
        return True
    return True


def _place(node: Any) -> tuple[bool, int]:
    """Sort the head first, and then the youngest: an old node may be one whose loss is not noticed yet."""
    return (not node.is_head_node, -node.start_time_ms)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
