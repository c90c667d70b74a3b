"""Generate the reference pages from the code; with --check only say whether they are up to date."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import click
import structlog

from pybrix.api.conditions import RolloutCondition, StandardCondition
from pybrix.api.config import GatewayConfiguration
from pybrix.api.crds import render_crd, root_schema
from pybrix.api.markers import CustomResource
from pybrix.api.orchestration.v1alpha1.roleset import Role
from pybrix.api.orchestration.v1alpha1.scheduling import SchedulingStrategy
from pybrix.api.parts import ENV_VAR, LABEL_SELECTOR, OBJECT_REFERENCE, POD_SPEC, RAY_CLUSTER_SPEC, RESOURCES
from pybrix.api.policies import render_policies
from pybrix.api.scheme import CUSTOM_KINDS
from pybrix.api.structural import schema_of
from pybrix.base.clock import SystemClock
from pybrix.cli.main import cli
from pybrix.gateway.app import Brain
from pybrix.gateway.trafficmetrics import AIBRIX_NAMES
from pybrix.install.chart import value_rows
from pybrix.kube.interface import Client

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs" / "reference"
CLI_HEADER = """# Command line

Generated from the commands' own help. Every command takes `--help`. Exit codes: 0 success, 1 an error that is said in
one line on standard error, 2 a wrong command line. For `validate`, `inject`, `install` and `crds`, a file that is not
there and a wrong value (`--set`, `--values`, `--image`, the name of a kind) are part of the command line: 2.
"""
API_HEADER = """# Kinds

Generated from the classes in `src/pybrix/api/`; `kubectl explain` says the same. What is checked where, and what
differs from AIBrix, is in [Custom resources](../../concepts/custom-resources.md).

| kind | group | what it does |
|---|---|---|
"""
VALUES_HEADER = """# Values of an installation

Generated. Values for `pybrix install` (`--set KEY=VALUE`, `--values FILE`) and for the Helm chart. How to choose them
is in [Install on Kubernetes](../guides/install.md).

| value | default | meaning |
|---|---|---|
"""
METRICS_HEADER = """# Metrics of the gateway

Generated from what the brain registers. `/metrics` is on the admin socket and, with `--health-port`, on a port. Label
values are names of models, pods and strategies and words of closed lists: no series is of a request or a user. How to
use them is in [Observe the gateway](../guides/observability.md).

| metric | type | labels | meaning |
|---|---|---|---|
"""
AIBRIX_HEADER = """
## By AIBrix's names

For dashboards that were made for AIBrix. The meaning is the same, as far as it says; labels are those of this table,
not AIBrix's labels of pods. Series of AIBrix that are not here have no counterpart in this gateway, or carry a label
for each request.

| metric | type | labels | what of the above it says |
|---|---|---|---|
"""
PARTS_HEADER = """# Parts

Generated. Parts that several kinds have. "open" means that fields which are not listed are kept as they are.
"""
# Heading on the page of parts -> schema.
PARTS: dict[str, dict[str, Any]] = {
    "Role": schema_of(Role),
    "Scheduling strategy": schema_of(SchedulingStrategy),
    "Pod spec": POD_SPEC,
    "RayCluster spec": RAY_CLUSTER_SPEC,
    "Label selector": LABEL_SELECTOR,
    "Object reference": OBJECT_REFERENCE,
    "Resources": RESOURCES,
    "Environment variable": ENV_VAR,
    "Condition": schema_of(StandardCondition),
    "Rollout condition": schema_of(RolloutCondition),
}
BOUNDS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "maxProperties": "at most {} entries",
    "pattern": "matches `{}`",
}


def command_sections(command: click.Command, path: str) -> list[str]:
    """Return the help of a command and of its sub-commands, one Markdown section each."""
    context = click.Context(command, info_name=path, terminal_width=100, max_content_width=100)
    text = command.get_help(context)
    # Defaults below the home directory differ from machine to machine.
    text = re.sub(re.escape(str(Path.home())), "~", text)
    found = [f"## {path}\n\n```text\n{text}\n```\n"]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None and not child.hidden:
                found += command_sections(child, f"{path} {name}")
    return found


def kind_page(cls: type[CustomResource]) -> str:
    """Return the page of a kind."""
    gvk, schema = cls.gvk, root_schema(cls)
    spec = render_crd(cls)["spec"]
    version = spec["versions"][0]
    names = [f"`{gvk.plural}`", *(f"`{short}`" for short in cls.definition.short_names)]
    subresources = ", ".join(f"`{name}`" for name in version.get("subresources", {}))
    lines = [
        f"# {gvk.kind}",
        "",
        schema["description"],
        "",
        f"`apiVersion: {gvk.api_version}`, `kind: {gvk.kind}`; in `kubectl`: {', '.join(names)}. "
        f"Subresources: {subresources}.",
        f"An example is in [`examples/kinds/{gvk.kind.lower()}.yaml`]"
        f"(../../../examples/kinds/{gvk.kind.lower()}.yaml).",
        "",
    ]
    if bounds := _bounds(schema["properties"]["metadata"].get("properties", {}).get("name", {})):
        lines += [f"`metadata.name`: {bounds}, because of the names that are made of it.", ""]
    for part in ("spec", "status"):
        lines += [f"## {part}", "", *_table(schema["properties"][part], part), ""]
    rules = [f"- {where}: {text}" for where, text in _rules(schema, "")]
    rules += [f"- {text}" for text in _annotation_rules(cls)]
    if rules:
        lines += ["## Rules", "", *rules, ""]
    return "\n".join(lines)


def parts_page() -> str:
    sections = [PARTS_HEADER]
    for name, schema in PARTS.items():
        kept = " (open)" if schema.get("x-kubernetes-preserve-unknown-fields") else ""
        text = schema["description"]
        sections.append("\n".join([f"## {name}", "", f"{text}{kept}", "", *_table(schema, "", name), ""]))
    return "\n".join(sections)


def values_page() -> str:
    rows = (f"| `{key}` | `{default}` | {text.replace('|', '&#124;')} |" for key, default, text in value_rows())
    return VALUES_HEADER + "\n".join(rows) + "\n"


def metrics_page() -> str:
    # What the brain logs when it is made is nobody's business here.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with tempfile.TemporaryDirectory() as name:
        brain = Brain(
            GatewayConfiguration(),
            client=cast(Client, None),  # nothing is asked before the brain runs
            data_dir=Path(name),
            run_dir=Path(name),
            clock=SystemClock(),
            chance=random.Random(1),
            is_gc_tuned=False,
            health=None,
            hurry=asyncio.Event(),
        )
        families = sorted(brain.registry.collect(), key=lambda family: family.name)
    ours: list[str] = []
    theirs: list[str] = []
    for family in families:
        full_name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = ", ".join(f"`{label}`" for label in family._labelnames)  # type: ignore[attr-defined]
        meaning = AIBRIX_NAMES.get(full_name, family.documentation)
        row = f"| `{full_name}` | {family.type} | {labels} | {meaning} |\n"
        (theirs if full_name in AIBRIX_NAMES else ours).append(row)
    return METRICS_HEADER + "".join(ours) + AIBRIX_HEADER + "".join(theirs)


def _table(schema: dict[str, Any], prefix: str, own: str = "") -> list[str]:
    rows = [f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in _rows(schema, prefix, own)]
    return ["| field | type | description |", "|---|---|---|", *rows]


def _rows(schema: dict[str, Any], prefix: str, own: str = "") -> Iterator[tuple[str, str, str]]:
    for name, node in schema.get("properties", {}).items():
        path = f"{prefix}.{name}".strip(".")
        marks, inner = "", node
        while "items" in inner or "additionalProperties" in inner:
            marks += "[]" if "items" in inner else "{}"
            inner = inner.get("items") or inner["additionalProperties"]
        part = next((title for title, known in PARTS.items() if title != own and _is_same(inner, known)), None)
        yield f"`{path}`", _type(inner, marks, part), _text(node, inner, name in schema.get("required", ()))
        if part is None:
            yield from _rows(inner, path + marks, own)


def _is_same(schema: dict[str, Any], part: dict[str, Any]) -> bool:
    return "properties" in part and schema.get("properties") == part["properties"]


def _type(schema: dict[str, Any], marks: str, part: str | None) -> str:
    name = "integer or string" if schema.get("x-kubernetes-int-or-string") else str(schema.get("type", "any"))
    if part is not None:
        name = f"[{part}](parts.md#{part.lower().replace(' ', '-')})"
    elif schema.get("x-kubernetes-preserve-unknown-fields"):
        name = "open object"
    for mark in re.findall(r"\[\]|\{\}", marks):
        name = f"list of {name}" if mark == "[]" else f"map of {name}"
    return name


def _text(node: dict[str, Any], inner: dict[str, Any], is_required: bool) -> str:
    parts = ["**Required.**"] if is_required else []
    parts.append(node["description"])
    values = inner.get("enum")
    if values:
        parts.append(f"One of {', '.join(f'`{value}`' for value in values if value)}.")
    if "default" in node:
        parts.append(f"Default: `{_plain(node['default'])}`.")
    bounds = [text for schema in ([node] if node is inner else [node, inner]) if (text := _bounds(schema))]
    if bounds:
        text = "; each ".join(bounds)
        parts.append(f"{text[0].upper()}{text[1:]}.")
    return " ".join(parts)


def _plain(value: Any) -> str:
    return str(value).replace("'", '"') if isinstance(value, dict | list) else str(value) or '""'


def _bounds(schema: dict[str, Any]) -> str:
    texts = [text.format(schema[keyword]) for keyword, text in BOUNDS.items() if keyword in schema]
    texts = [text.replace(" 1 items", " 1 item").replace(" 1 characters", " 1 character") for text in texts]
    if keys := schema.get("x-kubernetes-list-map-keys"):
        texts.append(f"unique by {' and '.join(keys)}")
    return ", ".join(texts)


def _rules(schema: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
    for rule in schema.get("x-kubernetes-validations", ()):
        where = f"{path}{rule.get('fieldPath', '')}".strip(".")
        yield f"`{where}`" if where else "the object", rule["message"]
    if path and any(_is_same(schema, part) for title, part in PARTS.items() if title != "Role"):
        return
    for name, node in schema.get("properties", {}).items():
        yield from _rules(node, f"{path}.{name}".strip("."))
    for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if key in schema:
            yield from _rules(schema[key], f"{path}{mark}")


def _annotation_rules(cls: type[CustomResource]) -> list[str]:
    found = []
    for policy in render_policies():
        rules = policy["spec"].get("matchConstraints", {}).get("resourceRules", ())
        if any(cls.gvk.plural in rule["resources"] for rule in rules):
            for rule in policy["spec"]["validations"]:
                where, _, text = rule["message"].partition(": ")
                found.append(f"`{where}`: {text}")
    return found


def pages() -> dict[Path, str]:
    """Return every generated page."""
    found = {PAGES / "cli.md": "\n".join([CLI_HEADER, *command_sections(cli, "pybrix")])}
    found[PAGES / "installation-values.md"] = values_page()
    found[PAGES / "metrics.md"] = metrics_page()
    index = API_HEADER
    for cls in CUSTOM_KINDS:
        name = cls.gvk.kind
        found[PAGES / "api" / f"{name.lower()}.md"] = kind_page(cls)
        index += f"| [{name}]({name.lower()}.md) | `{cls.gvk.group}` | {root_schema(cls)['description']} |\n"
    found[PAGES / "api" / "parts.md"] = parts_page()
    found[PAGES / "api" / "README.md"] = index + "\nWhat several kinds share is in [Parts](parts.md).\n"
    return found


def main() -> int:
    found = pages()
    stale = {page for page in (PAGES / "api").glob("*.md") if page not in found}
    if "--check" not in sys.argv:
        for page, text in found.items():
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(text)
        for page in stale:
            page.unlink()
        return 0
    wrong = stale | {page for page, text in found.items() if not page.exists() or page.read_text() != text}
    if wrong:
        names = ", ".join(sorted(page.name for page in wrong))
        print(f"{names} out of date: run python scripts/generate_reference.py")
        return 1
    print(f"generated reference: ok ({len(found)} pages)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
