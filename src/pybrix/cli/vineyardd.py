"""`pybrix vineyardd`: become the cache server of the wheel `vineyard-bdist`."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

import click

from pybrix.base.errors import UsageError


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": ["-h"]})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def vineyardd(arguments: tuple[str, ...]) -> None:
    """Run vineyardd, a cache server that shares objects in memory.

    The program is the one on $PATH, or that of the extra `kvcache` (pip install 'pybrix[kvcache]'). All arguments are
    its own.

    \b
    Examples:
      pybrix vineyardd --meta local --size 256M --socket /tmp/vineyard.sock
      pybrix vineyardd --meta etcd --etcd_endpoint http://127.0.0.1:2379 --etcd_prefix /pool
    """
    program = find_vineyardd()
    os.execv(program, [str(program), *arguments])


def find_vineyardd() -> Path:
    """Return the program.

    Raises:
        UsageError: there is none.
    """
    found = shutil.which("vineyardd")
    if found is not None:
        return Path(found)
    # Its package is in one namespace with the client's, which need not be there: the file is looked for by its place.
    spec = importlib.util.find_spec("vineyard")
    for place in (spec.submodule_search_locations or []) if spec is not None else []:
        candidate = Path(place) / "bdist" / "vineyardd"
        if os.access(candidate, os.X_OK):
            return candidate
    raise UsageError("there is no vineyardd", "pip install 'pybrix[kvcache]'")
