"""How a simulated engine is set up: the names and defaults are vLLM's where vLLM has them."""

from __future__ import annotations

from dataclasses import dataclass, field

from pybrix.base.errors import UsageError
from pybrix.simulator.failures import Failures
from pybrix.simulator.lora import LoraOptions
from pybrix.simulator.model import ModelOptions


@dataclass(frozen=True, slots=True)
class SimulatorOptions:
    """Everything that one simulated engine is told."""

    served_model_names: tuple[str, ...]
    """Names that requests may use; the first one is in the answers."""
    root: str = ""
    """What `/v1/models` says the model is made from."""
    host: str = "0.0.0.0"
    """Address to listen on; every address."""
    port: int = 8000
    """Port to listen on; 8000. 0 lets the system choose."""
    max_model_len: int = 32768
    """Longest prompt and answer together, in tokens; 32,768."""
    seed: int = 0
    """Answers and failures follow from it; 0."""
    api_keys: tuple[str, ...] = ()
    """Bearer tokens that `/v1` asks for; none."""
    time_scale: float = 1.0
    """Factor on every simulated duration; 0 answers as fast as the machine can. 1."""
    startup_s: float = 0.0
    """How long loading the model takes, before it listens; 0."""
    ray_address: str = ""
    """Address of a Ray cluster that the engine spreads over, as HOST:PORT; empty: it runs in this process alone."""
    ray_nodes: int = 1
    """Nodes that this cluster must have; 1. The engine starts when they are there and fails when one is lost."""
    drain_on_sigterm_s: float = 0.0
    """How long requests may go on after SIGTERM; 0 drops them, as vLLM does."""
    model: ModelOptions = field(default_factory=ModelOptions)
    failures: Failures = field(default_factory=Failures)
    lora: LoraOptions = field(default_factory=LoraOptions)

    def __post_init__(self) -> None:
        if not self.served_model_names:
            raise UsageError("the simulator needs a model name", "give --model NAME")
        capacity = self.model.num_blocks * self.model.block_size
        if capacity < self.max_model_len:
            raise UsageError(
                f"one sequence of {self.max_model_len} tokens does not fit a KV cache of {capacity}",
                "raise --num-gpu-blocks-override or lower --max-model-len",
            )
