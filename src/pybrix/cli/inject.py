"""`pybrix inject`: add the sidecar to manifests that ask for it."""

from __future__ import annotations

import sys

import click

from pybrix.api.sidecar import DEFAULT_IMAGE
from pybrix.base.errors import UsageError
from pybrix.cluster.manifests.files import parse_source, read_sources, text_of
from pybrix.cluster.manifests.injection import inject_text, to_json, to_yaml
from pybrix.cluster.manifests.nodes import Unreadable
from pybrix.cluster.manifests.reading import read_text


@click.command()
@click.option(
    "-f",
    "--filename",
    "files",
    multiple=True,
    required=True,
    metavar="FILE",
    type=click.Path(allow_dash=True),
    help="A file, a directory, or -.",
)
@click.option("-R", "--recursive", is_flag=True, help="Look into directories below a directory as well.")
@click.option(
    "--image",
    default=DEFAULT_IMAGE,
    show_default=True,
    metavar="IMAGE",
    help="Image of sidecars; the annotation model.aibrix.ai/sidecar-runtime-image goes before it.",
)
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "yaml", "json"]),
    default="text",
    show_default=True,
    help="text keeps what is written, with its comments; yaml and json write it anew.",
)
def inject(files: tuple[str, ...], recursive: bool, image: str, output: str) -> None:
    """Add the runtime sidecar to workloads that ask for it, for clusters that do not do it themselves.

    Deployments ask by the annotation model.aibrix.ai/sidecar-injection: "true", StormServices by the annotation with
    any value but "false". What has the sidecar already, and every other object, comes out as it is; so what was
    injected once is not changed by a second time.

    \b
    Examples:
      pybrix inject -f chat.yaml | kubectl apply -f -
      helm template charts/chat | pybrix inject -f - | kubectl apply -f -
      pybrix inject -R -f deploy/ --image registry.example.com/pybrix:0.1.0

    Exit code 1: text that cannot be read; 2: a wrong command line, or a file that is not there.
    """
    texts: list[str] = []
    try:
        sources = list(read_sources(files, recursive=recursive, stdin=sys.stdin.buffer))
    except UsageError as err:
        raise click.UsageError(str(err)) from err
    try:
        for source in sources:
            problem = next((p for p in parse_source(source).problems if p.is_error), None)
            if problem is not None:
                raise UsageError(f"{source.name}:{problem.at.line}:{problem.at.column}: {problem.message}")
            done = inject_text(text_of(source), image)
            texts.append(done.text)
            for subject in done.subjects:
                click.echo(f"pybrix inject: {source.name}: {subject} got the sidecar", err=True)
            if done.is_rewritten:
                click.echo(f"pybrix inject: {source.name}: written anew, comments are lost", err=True)
    except Unreadable as err:
        raise UsageError(str(err)) from err
    if output == "text":
        click.echo(_joined(texts), nl=False)
        return
    documents = [node.to_value() for text in texts for node in read_text(text).documents]
    click.echo(to_yaml(documents) if output == "yaml" else to_json(documents), nl=False)


def _joined(texts: list[str]) -> str:
    joined = ""
    for text in texts:
        if joined and not joined.endswith("\n"):
            joined += "\n"
        joined += text if not joined or text.startswith("---") else f"---\n{text}"
    return joined
