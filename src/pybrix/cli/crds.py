"""`pybrix crds`: the definitions of the kinds that pybrix installs."""

from __future__ import annotations

import json
from typing import Any

import click
import yaml

from pybrix.api.crds import definition_names, find_kind, render_crds
from pybrix.api.policies import render_policies


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Write shared parts in full: anchors confuse readers and some tools."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def to_yaml(documents: list[dict[str, Any]]) -> str:
    """Return the documents as one YAML stream."""
    return yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, width=120, explicit_start=True)


@click.command()
@click.argument("kinds", nargs=-1, metavar="[KIND]...")
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
    for kind in kinds:
        if find_kind(kind) is None:
            raise click.BadParameter(f"{kind!r} is none of {', '.join(definition_names())}", param_hint="KIND")
    documents = render_crds(kinds or None)
    if policies and not kinds:
        documents += render_policies()
    if output == "yaml":
        click.echo(to_yaml(documents), nl=False)
    elif len(documents) == 1:
        click.echo(json.dumps(documents[0], indent=2))
    else:
        click.echo(json.dumps({"apiVersion": "v1", "kind": "List", "items": documents}, indent=2))
