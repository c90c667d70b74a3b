"""LoRA adapters of the simulated engine: which are registered, which are in memory, and what loading one comes to.

Pure, after vLLM: the server keeps a registry by name, which only unloading shrinks; the worker keeps the weights of
`max_cpu_loras` adapters and drops the least recently used one for the next. A request whose adapter was dropped waits
until it is read again. `max_loaded_loras` is SGLang's limit: a load beyond it is refused.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from pybrix.base.errors import UsageError


class LoraProblem(StrEnum):
    """Why an adapter is not loaded or unloaded."""

    DISABLED = "disabled"
    INCOMPLETE = "incomplete"
    ALREADY_LOADED = "already loaded"
    NO_FILES = "no files"
    FULL = "full"
    UNKNOWN = "unknown"
    ON_PURPOSE = "on purpose"


class LoraError(Exception):
    """A load or an unload that is refused; `loraprotocol` says it in an engine's words."""

    def __init__(self, problem: LoraProblem, name: str, path: str = "") -> None:
        super().__init__(f"{name}: {problem}")
        self.problem = problem
        self.name = name
        self.path = path


@dataclass(frozen=True, slots=True)
class LoraModule:
    """An adapter's name and where its files are: a path, or a repository of the model hub."""

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class LoraFailures:
    """What goes wrong with loads, on purpose."""

    num_first: int = 0
    """So many loads fail with a server's error before one succeeds; 0."""
    paths: tuple[str, ...] = ()
    """Loads whose path contains one of these find no files."""
    hangs: tuple[str, ...] = ()
    """Loads whose path contains one of these never end."""


@dataclass(frozen=True, slots=True)
class LoraOptions:
    """How adapters are served; the names and defaults are vLLM's where vLLM has them."""

    is_enabled: bool = False
    """`--enable-lora`."""
    allows_updating: bool = False
    """`VLLM_ALLOW_RUNTIME_LORA_UPDATING`: without it vLLM's paths do not exist."""
    max_loras: int = 1
    """Adapters in one batch; 1."""
    max_cpu_loras: int | None = None
    """Adapters whose weights are kept in memory; as many as `max_loras`."""
    max_loaded_loras: int | None = None
    """Loads beyond so many are refused; no limit, as in vLLM."""
    load_s: float = 0.2
    """How long an adapter takes to read; 0.2."""
    needs_files: bool = False
    """Whether absolute paths must exist; false, so that any path stands for an adapter."""
    modules: tuple[LoraModule, ...] = ()
    """Adapters that are there from the start."""
    failures: LoraFailures = field(default_factory=LoraFailures)

    def __post_init__(self) -> None:
        if self.modules and not self.is_enabled:
            raise UsageError("--lora-modules needs --enable-lora")
        if self.max_cpu_loras is not None and self.max_cpu_loras < self.max_loras:
            raise UsageError(
                f"max_cpu_loras ({self.max_cpu_loras}) must be >= max_loras ({self.max_loras})", "raise --max-cpu-loras"
            )

    @property
    def num_in_memory(self) -> int:
        return self.max_loras if self.max_cpu_loras is None else self.max_cpu_loras


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter that requests can name. Loading it again gives another `number`: its KV blocks are not these."""

    name: str
    path: str
    number: int


class AdapterRegistry:
    """The adapters of one engine, and which of them are in memory."""

    def __init__(self, options: LoraOptions) -> None:
        self.options = options
        self.load_s = options.load_s
        """How long an adapter takes to read, from now on."""
        self._by_name: dict[str, Adapter] = {}
        # Numbers of the adapters in memory, the one that is dropped next first.
        self._in_memory: OrderedDict[int, None] = OrderedDict()
        self._num_registered = 0
        self._failures = options.failures
        self._num_failing = options.failures.num_first
        for module in options.modules:
            self.register(module.name, module.path)

    @property
    def adapters(self) -> list[Adapter]:
        """All adapters, in the order in which they were loaded."""
        return list(self._by_name.values())

    @property
    def num_in_memory(self) -> int:
        return len(self._in_memory)

    def find(self, name: str) -> Adapter | None:
        return self._by_name.get(name)

    def fail(self, failures: LoraFailures) -> None:
        """Let loads fail from now on as told, and no longer as told before."""
        self._failures = failures
        self._num_failing = failures.num_first

    def check_load(self, name: str, path: str, *, in_place: bool = False, has_files: bool = True) -> None:
        """Refuse a load that cannot begin.

        Raises:
            LoraError: why.
        """
        if not name or not path:
            raise LoraError(LoraProblem.INCOMPLETE, name, path)
        if name in self._by_name and not in_place:
            raise LoraError(LoraProblem.ALREADY_LOADED, name, path)
        if not self.options.is_enabled:
            raise LoraError(LoraProblem.DISABLED, name, path)
        limit = self.options.max_loaded_loras
        if limit is not None and name not in self._by_name and len(self._by_name) >= limit:
            raise LoraError(LoraProblem.FULL, name, path)
        if not has_files and self.options.needs_files:
            raise LoraError(LoraProblem.NO_FILES, name, path)

    def hangs(self, path: str) -> bool:
        """Say whether reading from this path never ends."""
        return any(part in path for part in self._failures.hangs)

    def finish_load(self, name: str, path: str) -> Adapter:
        """Register an adapter whose load took its time.

        Raises:
            LoraError: it fails on purpose, or others have taken the room meanwhile.
        """
        if any(part in path for part in self._failures.paths):
            raise LoraError(LoraProblem.NO_FILES, name, path)
        if self._num_failing:
            self._num_failing -= 1
            raise LoraError(LoraProblem.ON_PURPOSE, name, path)
        self.check_load(name, path, in_place=True)
        return self.register(name, path)

    def register(self, name: str, path: str) -> Adapter:
        """Put an adapter into the registry and into memory."""
        self._num_registered += 1
        previous = self._by_name.get(name)
        if previous is not None:
            self._in_memory.pop(previous.number, None)
        adapter = Adapter(name, path, self._num_registered)
        self._by_name[name] = adapter
        self.use((adapter,))
        return adapter

    def unload(self, name: str) -> None:
        """Remove an adapter; requests that run with it go on.

        Raises:
            LoraError: there is none of that name.
        """
        if not name:
            raise LoraError(LoraProblem.INCOMPLETE, name)
        adapter = self._by_name.pop(name, None)
        if adapter is None:
            raise LoraError(LoraProblem.UNKNOWN, name)
        self._in_memory.pop(adapter.number, None)

    def use(self, adapters: Iterable[Adapter]) -> int:
        """Bring adapters into memory for a step, and return how many had to be read."""
        num_read = 0
        for adapter in adapters:
            if adapter.number in self._in_memory:
                self._in_memory.move_to_end(adapter.number)
                continue
            num_read += 1
            if len(self._in_memory) >= self.options.num_in_memory:
                self._in_memory.popitem(last=False)
            self._in_memory[adapter.number] = None
        return num_read


def parse_module(text: str) -> LoraModule:
    """Parse a value of `--lora-modules`: `NAME=PATH`, or a JSON object with `name` and `path`.

    Raises:
        UsageError: it is neither.
    """
    if text.startswith("{"):
        try:
            module = json.loads(text)
        except ValueError as err:
            raise UsageError(f"--lora-modules {text!r} is no JSON: {err}") from err
        name, path = module.get("name"), module.get("path")
    else:
        name, _, path = text.partition("=")
    if not (isinstance(name, str) and isinstance(path, str) and name and path):
        raise UsageError(
            f"--lora-modules {text!r} names no adapter and its path", "example: --lora-modules sql=/loras/sql"
        )
    return LoraModule(name, path)


def parse_lora_failures(specs: Iterable[str]) -> LoraFailures:
    """Parse `first=N`, `path=TEXT` and `hang=TEXT`.

    Raises:
        UsageError: something else.
    """
    num_first = 0
    paths: list[str] = []
    hangs: list[str] = []
    for spec in specs:
        kind, _, value = spec.partition("=")
        if kind == "first" and value.isdecimal():
            num_first = int(value)
        elif kind == "path" and value:
            paths.append(value)
        elif kind == "hang" and value:
            hangs.append(value)
        else:
            raise UsageError(f"unknown LoRA failure {spec!r}", "known: first=NUMBER, path=TEXT, hang=TEXT")
    return LoraFailures(num_first, tuple(paths), tuple(hangs))
