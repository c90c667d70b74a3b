"""`pybrix completion`: print shell completion."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    Examples:
      eval "$(pybrix completion bash)"
      pybrix completion fish > ~/.config/fish/completions/pybrix.fish
    """
    command = ctx.find_root().command
    completer = get_completion_class(shell)
    assert completer is not None
    print(completer(command, {}, "pybrix", "_PYBRIX_COMPLETE").source())
