"""`pybrix crds`: the definitions of the kinds that pybrix installs."""

from __future__ import annotations

import difflib
import json
from typing import Any

import click

from pybrix.api.crds import definition_names, find_kind, render_crds
from pybrix.api.policies import render_policies
from pybrix.cluster.manifests import yamlwriting


def to_yaml(documents: list[dict[str, Any]]) -> str:
    """Return the documents as one YAML stream."""
    return yamlwriting.to_yaml(documents, explicit_start=True)


def _find(text: str) -> str:
    """Return the kind that a text names."""
    cls = find_kind(text)
    if cls is not None:
        return cls.gvk.kind
    kinds = {kind.lower(): kind for kind in definition_names()}
    near = difflib.get_close_matches(text.lower(), kinds, n=1)
    hint = f"; did you mean {kinds[near[0]]}?" if near else ""
    raise click.BadParameter(f"{text!r} is none of {', '.join(kinds.values())}{hint}", param_hint="KIND")


def _complete_kind(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return [kind for kind in definition_names() if kind.lower().startswith(incomplete.lower())]


@click.command()
@click.argument("kinds", nargs=-1, metavar="[KIND]...", shell_complete=_complete_kind)
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True)
@click.option("--policies/--no-policies", default=True, show_default=True, help="Add the rules on annotations.")
def crds(kinds: tuple[str, ...], output: str, policies: bool) -> None:
    """Print CustomResourceDefinitions: of all kinds with the admission policies beside them, or of some kinds alone.

    A kind may be given by its name, plural or short name.

    \b
    Examples:
      pybrix crds | kubectl apply --server-side -f -
      pybrix crds StormService -o json
    """
    # One kind by several of its names is one kind.
    found = list(dict.fromkeys(_find(kind) for kind in kinds))
    documents = render_crds(found or None)
    if policies and not kinds:
        documents += render_policies()
    if output == "yaml":
        click.echo(to_yaml(documents), nl=False)
    elif len(documents) == 1:
        click.echo(json.dumps(documents[0], indent=2))
    else:
        click.echo(json.dumps({"apiVersion": "v1", "kind": "List", "items": documents}, indent=2))
