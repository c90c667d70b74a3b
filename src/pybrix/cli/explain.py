"""`pybrix explain`: why a request went where it did, or where one would go."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import click

from pybrix.cli.datadir import data_dir, data_dir_option

running_dir_option = click.option(
    "--run-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory of a brain's Unix sockets; that of the running `pybrix up`.",
)


@click.command()
@click.argument("request_id", required=False)
@click.option("--model", help="Show where a request for this model would go now.")
@click.option("--file", "body_file", type=click.File("rb"), help="The same for a request body; - is standard input.")
@click.option("--namespace", default="", help="With --model or --file: namespace of the model.")
@click.option("--routing-strategy", default="", help="With --model or --file: as in the header of that name.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many requests to list.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@data_dir_option
@running_dir_option
def explain(
    request_id: str | None,
    model: str | None,
    body_file: IO[bytes] | None,
    namespace: str,
    routing_strategy: str,
    limit: int,
    output: str,
    data_dir_path: Path | None,
    run_dir: Path | None,
) -> None:
    """Show how a request was routed and what happened after; or where one would go.

    REQUEST_ID is the `request-id` of the answer, or a reservation. Without it the last requests are listed; with
    --model or --file nothing is looked up and nothing is sent to an engine: the brain says where such a request would
    go now, with exit code 1 if it would be refused.

    \b
    Examples:
      pybrix explain
      pybrix explain 5c6d2d1e-6f0d-4a67-9c38-6f1c1f0f5a11
      pybrix explain --model smollm2 --routing-strategy prefix-cache
    """
    from pybrix.cli import explain_commands as commands

    if sum(given is not None for given in (request_id, model, body_file)) > 1:
        raise click.UsageError("REQUEST_ID, --model and --file exclude each other")
    where = commands.running_dir(run_dir, data_dir(data_dir_path))
    if request_id is not None:
        commands.explain_request(where, request_id, output)
    elif model is None and body_file is None:
        commands.list_requests(where, limit, output)
    else:
        body = commands.request_body(model) if body_file is None else body_file.read()
        commands.explain_next(where, body, namespace, routing_strategy, output)
