"""Watch the nodes of a Ray cluster, in a process of its own: print how many are alive, a line a second.

    python -m pybrix.simulator.raynodes 127.64.0.5:6379

Ray's client ends its process when the cluster is gone, and an engine must not end in the middle of a sentence by that.
It asks the cluster's control service (GCS) over the network, so it need not run where a node of the cluster runs.
"""

from __future__ import annotations

import importlib
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
    client = raylet.GcsClient(address=address)
    while True:
        nodes = client.get_all_node_info()
        # A parent that is gone ends this by the broken pipe.
        sys.stdout.write(f"{sum(node.state == _ALIVE for node in nodes.values())}\n")
        sys.stdout.flush()
        time.sleep(INTERVAL_S)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
