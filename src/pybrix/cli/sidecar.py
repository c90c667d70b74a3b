"""`pybrix sidecar`: helpers that run beside an engine."""

from __future__ import annotations

import os

import click

# The values of `pybrix.engine.metrics.Engine`; a test holds the two together. A hook's start should import little.
_ENGINES = ("vllm", "sglang", "llamacpp")


@click.group()
def sidecar() -> None:
    """Helpers that run beside an engine.

    \b
    Examples:
      pybrix sidecar run --engine-url http://$POD_IP:8000
      pybrix sidecar drain --url http://$POD_IP:8000 --deadline-s 25
    """


@sidecar.command()
@click.option("--url", required=True, metavar="URL", help="Where the engine answers, such as http://10.0.0.7:8000.")
@click.option("--deadline-s", type=click.FloatRange(0), default=25.0, show_default=True, help="Longest wait.")
@click.option(
    "--engine", type=click.Choice(_ENGINES), default="vllm", show_default=True, help="Whose metrics these are."
)
@click.option("--settle-s", type=click.FloatRange(0), default=1.0, show_default=True,
              help="Requests may still arrive for so long after the pod left the endpoints.")  # fmt: skip
@click.option(
    "--poll-interval-s", type=click.FloatRange(0.01), default=0.2, show_default=True, help="Between two looks."
)
@click.option("--idle-polls", type=click.IntRange(1), default=3, show_default=True, help="Idle looks in a row.")
@click.option(
    "--api-key", default="", envvar="PYBRIX_ENGINE_API_KEY", show_envvar=True, help="Bearer token of /metrics."
)
def drain(
    url: str,
    deadline_s: float,
    engine: str,
    settle_s: float,
    poll_interval_s: float,
    idle_polls: int,
    api_key: str,
) -> None:
    """Wait until the engine is idle, at most until the deadline; meant as a pod's preStop hook.

    Idle is: no running and no waiting request in its /metrics, several times in a row. Prints one line about what it
    saw. Ends with 0 also when the deadline came first or the engine is gone: the pod has to stop either way.

    \b
    Examples:
      pybrix sidecar drain --url http://$POD_IP:8000 --deadline-s 25
      pybrix sidecar drain --url http://$POD_IP:8000 --engine llamacpp
    \b
      lifecycle:
        preStop:
          exec:
            command: [sh, -c, "pybrix sidecar drain --url http://$POD_IP:8000"]
    """
    from time import sleep

    from pybrix.base.clock import SystemClock
    from pybrix.engine.metrics import Engine
    from pybrix.sidecar.drain import DrainRules, wait_until_drained
    from pybrix.sidecar.load import EngineLoad

    rules = DrainRules(deadline_s, settle_s, poll_interval_s, idle_polls)
    outcome = wait_until_drained(rules, EngineLoad(url, Engine(engine), api_key).fetch, SystemClock(), sleep)
    print(f"pybrix sidecar drain: {outcome}", flush=True)


def _parse_size(_: click.Context, param: click.Parameter, text: str) -> int:
    """Return the bytes of a Kubernetes quantity."""
    from pybrix.base.quantity import parse_quantity

    try:
        size_bytes = int(parse_quantity(text))
    except ValueError as err:
        raise click.BadParameter(str(err), param=param) from err
    if size_bytes <= 0:
        raise click.BadParameter(f"{text!r} is not above zero", param=param)
    return size_bytes


# Secrets come by environment only: other users of a machine can read command lines.
_SECRETS = (
    *("HF_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    *("TOS_ACCESS_KEY", "TOS_SECRET_KEY", "TOS_SESSION_KEY"),
)


@sidecar.command()
@click.option("--host", default="0.0.0.0", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Port; 0 is a free one.")
@click.option("--engine-url", default="http://localhost:8000", envvar="INFERENCE_ENGINE_ENDPOINT", metavar="URL",
              show_default=True, show_envvar=True, help="Where the engine answers.")  # fmt: skip
@click.option("--engine", default="vllm", envvar="INFERENCE_ENGINE", show_default=True, show_envvar=True,
              metavar="NAME", help="vllm, sglang, llamacpp or trtllm; others are served as vllm.")  # fmt: skip
@click.option("--artifact-dir", type=click.Path(), default="/tmp/aibrix/adapters", show_default=True,
              help="Where adapters are kept; the engine must see it at the same path.")  # fmt: skip
@click.option("--model-dir", type=click.Path(), default="/tmp/aibrix/models", envvar="DOWNLOADER_LOCAL_DIR",
              show_default=True, show_envvar=True, help="Where /v1/model/download puts models.")  # fmt: skip
@click.option("--disk-budget", callback=_parse_size, default="32Gi", show_default=True, metavar="SIZE",
              help="For all adapters together.")  # fmt: skip
@click.option("--max-artifact-size", callback=_parse_size, default="8Gi", show_default=True, metavar="SIZE",
              help="For one adapter.")  # fmt: skip
@click.option("--allow-path-prefix", multiple=True, metavar="DIR",
              help="Requests may name absolute paths below it; default: all but the system's own.")  # fmt: skip
@click.option("--secrets-dir", type=click.Path(), default="/var/run/secrets/aibrix", show_default=True,
              help="Where Secrets are mounted that requests name.")  # fmt: skip
@click.option("--download-concurrency", type=click.IntRange(1, 64), default=4, show_default=True,
              help="Files of one artifact under way at once.")  # fmt: skip
@click.option("--hf-endpoint", default="https://huggingface.co", envvar="HF_ENDPOINT", metavar="URL",
              show_default=True, show_envvar=True, help="The model hub.")  # fmt: skip
@click.option("--hf-revision", default="main", envvar="HF_REVISION", show_default=True, show_envvar=True,
              help="Branch, tag or commit where the URL names none.")  # fmt: skip
@click.option("--s3-endpoint", envvar="AWS_ENDPOINT_URL", show_envvar=True, metavar="URL", help="Default: AWS.")
@click.option("--s3-region", envvar="AWS_REGION", show_envvar=True, help="Default: us-east-1.")
@click.option("--tos-endpoint", envvar="TOS_ENDPOINT", show_envvar=True, metavar="URL", help="Default: by region.")
@click.option("--tos-region", envvar="TOS_REGION", show_envvar=True, help="Default: cn-beijing.")
@click.option("--gcs-endpoint", default="https://storage.googleapis.com", show_default=True, metavar="URL",
              help="Google Cloud Storage.")  # fmt: skip
@click.option("--metrics-path", default="/metrics", envvar="METRIC_SCRAPE_PATH", show_default=True, show_envvar=True,
              help="Where the engine shows its metrics.")  # fmt: skip
@click.option("--metrics-raw/--metrics-standard", default=None,
              help="Show the engine's metrics as they are; default: with aibrix: names beside them.")  # fmt: skip
def run(
    host: str,
    port: int,
    engine_url: str,
    engine: str,
    artifact_dir: str,
    model_dir: str,
    disk_budget: int,
    max_artifact_size: int,
    allow_path_prefix: tuple[str, ...],
    secrets_dir: str,
    download_concurrency: int,
    hf_endpoint: str,
    hf_revision: str,
    s3_endpoint: str | None,
    s3_region: str | None,
    tos_endpoint: str | None,
    tos_region: str | None,
    gcs_endpoint: str,
    metrics_path: str,
    metrics_raw: bool | None,
) -> None:
    """Serve AIBrix's runtime API beside an engine: adapters, model downloads, metrics.

    It fetches LoRA adapters from the model hub, S3, GCS, TOS, web servers or the disk and has the engine load them.
    Of AIBrix's environment variables, those above are options; HF_TOKEN, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
    AWS_SESSION_TOKEN, TOS_ACCESS_KEY, TOS_SECRET_KEY and TOS_SESSION_KEY are credentials for requests that bring none;
    METRICS_ENABLE_TRANSFORMATION, METRICS_RAW_PASSTHROUGH_MODE, DOWNLOADER_ALLOW_FILE_SUFFIX and
    DOWNLOADER_FORCE_DOWNLOAD mean what they mean there. PYBRIX_ENGINE_API_KEY is for the engine's /metrics and /health.

    \b
    Examples:
      pybrix sidecar run --engine-url http://$POD_IP:8000
      pybrix sidecar run --engine sglang --disk-budget 100Gi --allow-path-prefix /models
    """
    import sys
    from pathlib import Path
    from urllib.parse import urlsplit

    from pybrix.base.errors import UsageError
    from pybrix.cli.service import run_service
    from pybrix.sidecar.app import serve
    from pybrix.sidecar.artifacts.credentials import Credentials
    from pybrix.sidecar.options import Endpoints, EngineKind, MetricsMode, SidecarOptions, engine_kind

    parts = urlsplit(engine_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"--engine-url {engine_url!r} is no address of an engine", "example: http://10.0.0.7:8000")
    for path in allow_path_prefix:
        if not path.startswith("/"):
            raise UsageError(f"--allow-path-prefix {path!r} is no absolute path")
    kind = engine_kind(engine)
    if kind is None:
        print(f"pybrix sidecar: engine {engine!r} is not known, it is served as vllm", file=sys.stderr)
    if metrics_raw is None:
        metrics_raw = not _flag("METRICS_ENABLE_TRANSFORMATION", True) or _flag("METRICS_RAW_PASSTHROUGH_MODE", False)
    suffixes = [text.strip() for text in os.environ.get("DOWNLOADER_ALLOW_FILE_SUFFIX", "").split(",")]
    options = SidecarOptions(
        host=host,
        port=port,
        engine=kind or EngineKind.VLLM,
        engine_url=engine_url,
        engine_api_key=os.environ.get("PYBRIX_ENGINE_API_KEY", ""),
        metrics_path=metrics_path,
        metrics_mode=MetricsMode.RAW if metrics_raw else MetricsMode.STANDARD,
        artifact_dir=Path(os.path.abspath(artifact_dir)),
        model_dir=Path(os.path.abspath(model_dir)),
        secrets_dir=Path(secrets_dir),
        disk_budget_bytes=disk_budget,
        max_artifact_bytes=max_artifact_size,
        allowed_paths=allow_path_prefix,
        concurrency=download_concurrency,
        suffixes=tuple(text for text in suffixes if text),
        is_forced=_flag("DOWNLOADER_FORCE_DOWNLOAD", False),
        endpoints=Endpoints(hf_endpoint, hf_revision, s3_endpoint, s3_region, tos_endpoint, tos_region, gcs_endpoint),
        credentials=Credentials({name: os.environ[name] for name in _SECRETS if name in os.environ}),
    )
    run_service(lambda stop: serve(options, stop, lambda line: print(f"pybrix {line}", file=sys.stderr, flush=True)))


def _flag(name: str, default: bool) -> bool:
    """Return an environment variable as AIBrix reads it: 1, true, yes, on."""
    text = os.environ.get(name, "").strip().lower()
    return text in ("1", "true", "t", "yes", "y", "on") if text else default
