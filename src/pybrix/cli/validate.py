"""`pybrix validate`: check manifests without a cluster."""

from __future__ import annotations

import sys

import click

from pybrix.api.crds import render_crds
from pybrix.api.policies import render_policies
from pybrix.base.errors import UsageError
from pybrix.cluster.manifests.files import parse_source, read_sources
from pybrix.cluster.validate.findings import render_github, render_json, render_text
from pybrix.cluster.validate.validator import Validator


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(allow_dash=True))
@click.option("-R", "--recursive", is_flag=True, help="Look into directories below a directory as well.")
@click.option("--strict", is_flag=True, help="Refuse objects of kinds that nothing is known about, and empty input.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors alone: no warnings, no summary.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json", "github"]),
    default="text",
    show_default=True,
    help="json for programs; github for annotations in GitHub Actions.",
)
def validate(files: tuple[str, ...], recursive: bool, strict: bool, quiet: bool, output: str) -> None:
    """Check manifests without a cluster, by the rules of the API server.

    FILE is YAML or JSON with any number of documents, a directory, or - for standard input. Exit code 0: valid
    (there may be warnings); 1: a server would refuse something; 2: a wrong command line, or a file that is not there.

    \b
    Examples:
      pybrix validate chat.yaml
      pybrix validate -R deploy/ --strict
      pybrix validate -o github $(git diff --name-only --diff-filter=d main -- '*.yaml')
      helm template charts/chat | pybrix validate -
    """
    validator = Validator(render_crds(), render_policies(), is_strict=strict)
    try:
        sources = read_sources(files, recursive=recursive, stdin=sys.stdin.buffer)
        report = validator.check((source.name, parse_source(source)) for source in sources)
    except UsageError as err:
        raise click.UsageError(str(err)) from err
    if output == "json":
        click.echo(render_json(report), nl=False)
    elif output == "github":
        click.echo(render_github(report), nl=False)
    else:
        click.echo(render_text(report, quiet=quiet), nl=False)
    sys.exit(0 if report.is_valid else 1)
