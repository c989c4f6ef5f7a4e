"""One visit of a worker to a case: build, first call, warm-up, samples, and the check of the result."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from devbench.declare import Benchmark, Context, Product, Step
from devbench.errors import DeclarationError, Unsupported
from devbench.frameworks.base import Framework
from devbench.measure import memory, numerics, sampling, sketch
from devbench.measure.cache import last_level_cache
from devbench.measure.inputs import as_reference, case_dtype, draw, held_bytes
from devbench.measure.tree import leaves, tree_map
from devbench.model import DType, ParamValue


@dataclass(frozen=True, slots=True)
class Bench:
    """The case as this worker sees it, and the framework that runs it."""

    benchmark: Benchmark
    params: Mapping[str, ParamValue]
    framework: Framework
    devices: tuple[str, ...]
    threads: int
    seed: int
    scratch: Path

    @property
    def address(self) -> str:
        return self.devices[0]

    @property
    def mode(self) -> str:
        """The axis of that name, else the framework's idiom."""
        return str(self.params.get("mode", self.framework.modes[0]))

    @contextmanager
    def build(self) -> Iterator[tuple[Step, dict[str, Any]]]:
        """A fresh step on fresh inputs (given as host arrays); closed and released at the end."""
        host = draw(self.benchmark, self.params, self.seed)
        dtype = case_dtype(self.params)
        framework, address = self.framework, self.address
        context = Context(
            framework=framework.name,
            device=framework.device(address),
            devices=tuple(framework.device(one) for one in self.devices),
            dtype=dtype,
            mode=self.mode,
            threads=self.threads,
            params=self.params,
            scratch=self.scratch,
            compile=lambda function: framework.compile(function, self.mode),
        )
        tensors = tree_map(lambda array: framework.tensor(array, dtype, address), host)
        built = self.benchmark.call(framework.name, self.params, ctx=context, **tensors)
        step = built if isinstance(built, Step) else Step(run=built)
        if self.params.get("cache") == "cold":
            step = replace(step, reset=self._flushing(step.reset))
        if not callable(step.run):
            raise DeclarationError(
                f"{self.benchmark.name}.{framework.name} returned {type(built).__name__}; it must return "
                "a callable or a devbench.Step",
                self.benchmark.where,
            )
        try:
            yield step, host
        finally:
            if step.close is not None:
                step.close()
            del step, built, tensors, context
            framework.release()

    def _flushing(self, reset: Callable[[], None] | None) -> Callable[[], None]:
        """Before each step, untimed: overwrite the caches, after whatever the step itself resets."""
        cache = self.framework.cache_bytes(self.address) or last_level_cache()
        flush = self.framework.probes(self.address, cache).flush()

        def start_cold() -> None:
            if reset is not None:
                reset()
            flush()

        return start_cold


def visit(
    bench: Bench,
    limits: sampling.Limits,
    tick_s: float,
    check: Path | None,
    doing: Callable[[str], None],
) -> dict[str, Any]:
    """Measure a case. Returns fields of a `Measurement`, whatever happens short of a crash.

    check: where the reference worker left the expected values, or None when this visit need not
    check the result (another round does).
    """
    framework = bench.framework
    facts: dict[str, Any] = {"mode": bench.mode, "threads": bench.threads, "clock_tick_s": tick_s}
    try:
        dtype = case_dtype(bench.params)
        if reason := framework.unsupported(dtype, bench.address):
            raise Unsupported(reason)
        if bench.mode not in framework.modes:
            raise Unsupported(
                f"{framework.name} has no mode {bench.mode!r}; it has {framework.modes}"
            )
        with framework.scope(bench.address):
            facts |= _time(bench, limits, tick_s, doing)
            if check is not None:
                doing("check")
                start = time.perf_counter()
                facts |= _check(bench, check)
                facts["check_s"] = time.perf_counter() - start
    except Unsupported as error:
        return facts | {"status": "skipped", "reason": "unsupported", "detail": str(error)}
    except DeclarationError as error:
        return facts | {"status": "failed", "reason": "declaration", "detail": str(error)}
    except Exception as error:  # noqa: BLE001  # whatever a benchmark does becomes its row
        if framework.is_out_of_memory(error):
            return facts | {
                "status": "oom",
                "reason": "out-of-memory",
                "detail": _first_line(error),
            }
        return facts | {"status": "failed", "reason": "error", "detail": describe_error(error)}
    return facts | {"status": "ok"}


def _time(
    bench: Bench, limits: sampling.Limits, tick_s: float, doing: Callable[[str], None]
) -> dict[str, Any]:
    framework, address = bench.framework, bench.address
    doing("build")
    resident = memory.reset_peak()
    framework.reset_peak_memory(address)
    start = time.perf_counter()
    with bench.build() as (step, host):
        framework.synchronize(address)
        facts: dict[str, Any] = {"build_s": time.perf_counter() - start}
        facts["input_bytes"] = held_bytes(host, case_dtype(bench.params))
        if step.reset is not None:
            step.reset()
        start = time.perf_counter()
        _keep_alive = step.run()
        framework.synchronize(address)
        facts["first_call_s"] = time.perf_counter() - start
        del _keep_alive

        doing("warm-up")
        timer = framework.timer(address)
        once = sampling.sampler(step, timer, 1)
        start = time.perf_counter()
        step_s = min(*once(), *once())
        if step.reset is not None or step.clock is not None:
            block = 1
        elif timer.per_step:
            block = sampling.event_block_length(step_s)
        else:
            block = sampling.block_length(step_s, tick_s, sampling.waiting_cost(timer))
        sample = sampling.sampler(step, timer, block)
        warm = sampling.warm_up(sample, limits)
        facts |= {
            "clock": timer.name if step.clock is None else "the step's own clock",
            "block": 1 if timer.per_step else block,
            "warmup_s": time.perf_counter() - start,
            "warmup_steps": warm.steps * (1 if timer.per_step else block),
            "steady": warm.steady,
            "trend": warm.trend,
        }
        doing("timing")
        start = time.perf_counter()
        facts["samples"] = sampling.take_samples(sample, limits)
        facts["timing_s"] = time.perf_counter() - start
    peak = framework.peak_memory(address)
    if peak is None and resident is not None and (most := memory.peak()) is not None:
        peak = max(0, most - resident)
    return facts | {"peak_memory_bytes": peak}


def _check(bench: Bench, expected_file: Path) -> dict[str, Any]:
    """Run a fresh build once and hold its output against the reference."""
    benchmark = bench.benchmark
    kind = benchmark.reference_kind
    if kind is None:
        return {"numerics": "unchecked", "numerics_detail": "the benchmark declares no reference"}
    with bench.build() as (step, host):
        if step.reset is not None:
            step.reset()
        observed = _output(bench, step)
        again = None if step.stateful or kind != "function" else _output(bench, step)
    dtype, terms = case_dtype(bench.params), benchmark.work(bench.params).terms
    if kind == "property":
        # The builder itself raises when its property does not hold, and it has not.
        verdict = numerics.Verdict("match")
    elif kind == "exact":
        verdict = numerics.bit_equal(observed, host)
    else:
        with np.load(expected_file) as stored:
            expected = dict(stored)
        if hasattr(benchmark.definition, "closed_form"):
            inputs = as_reference(host)
            more = benchmark.call("closed_form", bench.params, observed=observed, **inputs)
            expected |= dict(leaves(more))
        verdict = numerics.compare(dict(leaves(observed)), expected, dtype, terms)
        if again is not None and verdict.numerics == "match":
            _refuse_change(bench, observed, again, dtype, terms)
    return {
        "numerics": verdict.numerics,
        "rel_error": verdict.rel_error,
        "tolerance": verdict.tolerance,
        "numerics_detail": verdict.detail,
        "output_bytes": held_bytes(observed, dtype),
    }


def _output(bench: Bench, step: Step) -> Any:
    """What one call of the step gives, on the host."""
    result = step.run()
    output = step.output(result) if step.output is not None else result
    bench.framework.synchronize(bench.address)
    return tree_map(lambda leaf: _on_host(bench, leaf), output)


def _refuse_change(bench: Bench, first: Any, second: Any, dtype: DType, terms: int) -> None:
    """A step that gives something else each time is timed doing something else each time."""
    change = numerics.compare(dict(leaves(second)), dict(leaves(first)), dtype, terms)
    if change.numerics == "mismatch":
        raise DeclarationError(
            f"{bench.benchmark.name}.{bench.framework.name} gives another output at its second call "
            f"({change.detail}); if that is meant, as in training, return Step(..., stateful=True)",
            bench.benchmark.where,
        )


def _on_host(bench: Bench, leaf: Any) -> np.ndarray:
    array = bench.framework.numpy(leaf)
    if array is None:
        array = np.asarray(leaf)
    if array.dtype.kind not in "fiub":
        raise DeclarationError(
            f"the output of {bench.benchmark.name}.{bench.framework.name} holds a {type(leaf).__name__}, "
            "which cannot be compared with a reference; return tensors, arrays or numbers, or give "
            "Step(output=...)",
            bench.benchmark.where,
        )
    return array


def write_reference(
    benchmark: Benchmark, params: Mapping[str, ParamValue], seed: int, path: Path
) -> None:
    """Compute the declared reference at float64 and leave it in `path` as one array a leaf."""
    inputs = as_reference(draw(benchmark, params, seed))
    expected = benchmark.call("reference", params, **inputs)
    arrays: dict[str, np.ndarray] = {}
    for name, leaf in leaves(expected):
        arrays |= (
            sketch.parts(name, leaf) if isinstance(leaf, Product) else {name: np.asarray(leaf)}
        )
    part = path.with_suffix(".part.npz")
    np.savez(part, **arrays)  # type: ignore[arg-type]  # the stubs take the names for options
    part.replace(path)


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"


def describe_error(error: BaseException) -> str:
    """The error in one line, with the place in the suite's code where it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    engine = str(Path(__file__).parent.parent)
    own = [
        f for f in frames if not f.filename.startswith(engine) and "site-packages" not in f.filename
    ]
    place = f" at {own[-1].filename}:{own[-1].lineno}" if own else ""
    return f"{_first_line(error)[:400]}{place}"
