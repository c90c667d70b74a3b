"""Adapters of the simulated engine: registry, memory, batches. No clock, no network."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybrix.base.errors import UsageError
from pybrix.engine.adapters import AdapterRefused, check_load, check_unload
from pybrix.simulator.blocks import root_hash
from pybrix.simulator.lora import (
    Adapter,
    AdapterRegistry,
    LoraError,
    LoraFailures,
    LoraModule,
    LoraOptions,
    LoraProblem,
    parse_lora_failures,
    parse_module,
)
from pybrix.simulator.loraprotocol import render_sglang, render_vllm_error
from pybrix.simulator.model import Model, ModelOptions, Sequence

ON = LoraOptions(is_enabled=True, max_loras=2, load_s=1.0)


def load(registry: AdapterRegistry, name: str, path: str = "") -> Adapter:
    registry.check_load(name, path or f"/loras/{name}")
    return registry.finish_load(name, path or f"/loras/{name}")


def names(registry: AdapterRegistry) -> list[str]:
    return [adapter.name for adapter in registry.adapters]


@pytest.mark.parametrize(
    ("options", "name", "path", "want"),
    [
        pytest.param(ON, "", "/x", LoraProblem.INCOMPLETE, id="no name"),
        pytest.param(ON, "sql", "", LoraProblem.INCOMPLETE, id="no path"),
        pytest.param(ON, "there", "/y", LoraProblem.ALREADY_LOADED, id="loaded before, from elsewhere"),
        pytest.param(LoraOptions(), "sql", "/x", LoraProblem.DISABLED, id="without --enable-lora"),
        pytest.param(replace(ON, max_loaded_loras=1), "sql", "/x", LoraProblem.FULL, id="full"),
        pytest.param(replace(ON, needs_files=True), "sql", "/x", LoraProblem.NO_FILES, id="no files"),
    ],
)
def test_a_load_is_refused(options: LoraOptions, name: str, path: str, want: LoraProblem) -> None:
    registry = AdapterRegistry(options)
    if options.is_enabled:
        registry.register("there", "/x")
    with pytest.raises(LoraError) as caught:
        registry.check_load(name, path, has_files=False)
    assert caught.value.problem is want


def test_an_adapter_is_there_until_it_is_unloaded() -> None:
    registry = AdapterRegistry(ON)
    first = load(registry, "sql")
    assert registry.find("sql") == first
    registry.unload("sql")
    assert registry.adapters == []
    assert registry.num_in_memory == 0
    with pytest.raises(LoraError) as caught:
        registry.unload("sql")
    assert caught.value.problem is LoraProblem.UNKNOWN
    assert load(registry, "sql").number != first.number


def test_loading_in_place_takes_the_place_of_the_old_one() -> None:
    registry = AdapterRegistry(replace(ON, max_loaded_loras=1))
    load(registry, "sql")
    registry.check_load("sql", "/v2", in_place=True)
    assert registry.finish_load("sql", "/v2").path == "/v2"
    assert (len(registry.adapters), registry.num_in_memory) == (1, 1)


def test_the_first_loads_fail_and_then_none() -> None:
    registry = AdapterRegistry(replace(ON, failures=LoraFailures(num_first=2)))
    for _ in range(2):
        with pytest.raises(LoraError) as caught:
            load(registry, "sql")
        assert caught.value.problem is LoraProblem.ON_PURPOSE
    load(registry, "sql")
    registry.fail(parse_lora_failures(["path=bad", "first=1"]))
    with pytest.raises(LoraError) as caught:
        load(registry, "other", "/loras/bad/x")
    assert caught.value.problem is LoraProblem.NO_FILES
    registry.fail(LoraFailures())
    load(registry, "other", "/loras/bad/x")
    assert names(registry) == ["sql", "other"]


def test_loads_at_the_same_time_do_not_exceed_the_limit() -> None:
    registry = AdapterRegistry(replace(ON, max_loaded_loras=1))
    registry.check_load("a", "/a")
    registry.check_load("b", "/b")
    registry.finish_load("a", "/a")
    with pytest.raises(LoraError) as caught:
        registry.finish_load("b", "/b")
    assert caught.value.problem is LoraProblem.FULL


def test_memory_drops_the_least_recently_used_and_the_registry_nothing() -> None:
    registry = AdapterRegistry(replace(ON, max_cpu_loras=2))
    a, b, c = (load(registry, name) for name in "abc")
    assert names(registry) == ["a", "b", "c"]
    assert registry.num_in_memory == 2
    assert registry.use([b, c]) == 0
    assert registry.use([a]) == 1
    assert registry.use([c]) == 0
    assert registry.use([b]) == 1


@given(st.lists(st.sampled_from("abcdef"), max_size=40), st.integers(1, 4))
def test_memory_is_never_exceeded_and_reading_is_what_was_not_there(uses: list[str], size: int) -> None:
    registry = AdapterRegistry(replace(ON, max_loras=1, max_cpu_loras=size))
    adapters = {name: registry.register(name, f"/{name}") for name in "abcdef"}
    recent = list("abcdef")[-size:]
    for name in uses:
        assert registry.use([adapters[name]]) == (name not in recent)
        recent = [*(other for other in recent if other != name), name][-size:]
        assert registry.num_in_memory == size


def test_modules_are_there_from_the_start() -> None:
    registry = AdapterRegistry(replace(ON, modules=(parse_module("a=/x"), parse_module('{"name":"b","path":"o/r"}'))))
    assert [(adapter.name, adapter.path) for adapter in registry.adapters] == [("a", "/x"), ("b", "o/r")]


@pytest.mark.parametrize("text", ["a", "=x", "a=", "{", "{}", '{"name":1,"path":"x"}'])
def test_what_is_no_module_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--lora-modules"):
        parse_module(text)


@pytest.mark.parametrize("spec", ["first", "first=x", "path=", "explode=1"])
def test_failures_that_make_no_sense_are_refused(spec: str) -> None:
    with pytest.raises(UsageError, match="known: first"):
        parse_lora_failures([spec])


def test_options_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(UsageError, match="max_cpu_loras"):
        LoraOptions(max_loras=4, max_cpu_loras=2)
    with pytest.raises(UsageError, match="--enable-lora"):
        LoraOptions(modules=(LoraModule("a", "/x"),))


@pytest.mark.parametrize(
    ("problem", "is_load", "want"),
    [
        (LoraProblem.DISABLED, True, "AdapterUnsupported"),
        (LoraProblem.INCOMPLETE, True, "AdapterRefused"),
        (LoraProblem.ALREADY_LOADED, True, "AlreadyLoaded"),
        (LoraProblem.NO_FILES, True, "AdapterRefused"),
        (LoraProblem.FULL, True, "CapacityFull"),
        (LoraProblem.ON_PURPOSE, True, "AdapterRefused"),
        (LoraProblem.UNKNOWN, False, "UnknownAdapter"),
    ],
)
def test_clients_understand_both_engines_words(problem: LoraProblem, is_load: bool, want: str) -> None:
    err = LoraError(problem, "sql", "/loras/sql")
    check = check_load if is_load else check_unload
    for status, body in (render_vllm_error(err, 2), render_sglang([Adapter("a", "/a", 1)], err, 2)):
        with pytest.raises(AdapterRefused) as caught:
            check(status, body)
        assert caught.value.reason == want, body


def batch(model: Model, now_s: float = 0.0) -> tuple[list[str], float]:
    """Make one step; return the adapters that were in it and how long it took."""
    step = model.begin_step(now_s)
    assert step is not None
    model.finish_step(step, now_s + step.duration_s)
    return [seq.adapter.name if seq.adapter else "base" for seq, _ in step.work], step.duration_s


def test_a_batch_holds_so_many_adapters_and_others_overtake() -> None:
    registry = AdapterRegistry(replace(ON, max_loras=1, max_cpu_loras=3, load_s=0.0))
    a, b = (load(registry, name) for name in "ab")
    model = Model(ModelOptions(block_size=4, num_blocks=64), registry)

    def submit(name: str, adapter: Adapter | None) -> Sequence:
        return model.submit(name.encode() * 16, b"outp" * 2, root_hash(name), 0.0, adapter)

    submit("1", a)
    waiting = [submit("2", b), submit("4", b)]
    submit("3", None)
    submit("5", a)
    assert batch(model)[0] == ["a", "base", "a"]
    assert list(model.waiting) == waiting
    assert batch(model)[0] == ["a", "base", "a"]
    assert batch(model)[0] == ["b", "b"]
    assert batch(model)[0] == ["b", "b"]
    assert model.is_idle


def test_a_step_waits_for_adapters_that_are_not_in_memory() -> None:
    registry = AdapterRegistry(replace(ON, max_loras=1))
    a, _ = load(registry, "a"), load(registry, "b")
    model = Model(ModelOptions(decode_step_s=0.0, decode_per_sequence_s=0.0, prefill_tokens_per_s=1e9), registry)
    model.submit(b"x" * 16, b"outp" * 2, root_hash("a"), 0.0, a)
    assert batch(model)[1] == pytest.approx(1.0, abs=1e-6)
    assert batch(model)[1] == pytest.approx(0.0, abs=1e-6)
