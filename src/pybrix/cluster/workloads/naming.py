"""Names of pods that are made from a prefix. Pure."""

from __future__ import annotations

from dataclasses import replace

from pybrix.runtime.actions import Create


def name_pod(create: Create, suffix: str) -> Create:
    """Give a pod the name that `generateName` would with this suffix, so that an Event can tell it."""
    metadata = create.manifest["metadata"]
    # Room for the suffix in the 63 characters that a server keeps generated names to.
    name = metadata["generateName"][:58] + suffix
    return replace(create, manifest={**create.manifest, "metadata": {**metadata, "name": name}})
