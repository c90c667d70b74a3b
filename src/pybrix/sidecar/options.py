"""What a sidecar is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from pybrix.sidecar.artifacts.credentials import Credentials

GIB = 1024**3


class EngineKind(StrEnum):
    """Engines that a sidecar stands beside."""

    VLLM = "vllm"
    SGLANG = "sglang"
    LLAMACPP = "llamacpp"
    TRTLLM = "trtllm"

    @property
    def loads_adapters(self) -> bool:
        """Say whether adapters can be loaded while it runs."""
        return self in (EngineKind.VLLM, EngineKind.SGLANG)


class MetricsMode(StrEnum):
    """What `/metrics` shows of the engine."""

    STANDARD = "standard"
    """Its page, and `aibrix:` series beside it."""
    RAW = "raw"
    """Its page as it is."""


def engine_kind(word: str) -> EngineKind | None:
    """Return the engine of a word as `INFERENCE_ENGINE` has it; None for engines that are not known."""
    try:
        return EngineKind(word.strip().lower().replace("tensorrt-llm", "trtllm").replace("llama.cpp", "llamacpp"))
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where artifacts come from; None is the provider's own."""

    hub: str = "https://huggingface.co"
    hub_revision: str = "main"
    s3: str | None = None
    s3_region: str | None = None
    tos: str | None = None
    tos_region: str | None = None
    gcs: str = "https://storage.googleapis.com"


@dataclass(frozen=True, slots=True)
class SidecarOptions:
    """All of it. Defaults are AIBrix's where it has the setting."""

    host: str = "0.0.0.0"
    port: int = 8080
    engine: EngineKind = EngineKind.VLLM
    engine_url: str = "http://localhost:8000"
    engine_api_key: str = field(default="", repr=False)
    """For what nobody's request stands behind: probes, metrics, the look at what is loaded; empty for none."""
    metrics_path: str = "/metrics"
    metrics_mode: MetricsMode = MetricsMode.STANDARD
    artifact_dir: Path = Path("/tmp/aibrix/adapters")
    """Adapters; the engine sees it at the same path."""
    model_dir: Path = Path("/tmp/aibrix/models")
    """Models of `/v1/model/download`."""
    secrets_dir: Path = Path("/var/run/secrets/aibrix")
    """Where Secrets are mounted that requests name."""
    disk_budget_bytes: int = 32 * GIB
    """That all adapters may have together; 32 GiB."""
    max_artifact_bytes: int = 8 * GIB
    """That one adapter may have; 8 GiB."""
    allowed_paths: tuple[str, ...] = ()
    """Directories that absolute paths may lead to; all but the system's own when empty."""
    concurrency: int = 4
    """Files of one artifact under way at once; 4."""
    suffixes: tuple[str, ...] = ()
    """Of a model, only files that end so are downloaded; all when empty."""
    is_forced: bool = False
    """Download models again that are complete; off."""
    endpoints: Endpoints = Endpoints()
    credentials: Credentials = field(default_factory=Credentials)
    """For requests that bring none."""
