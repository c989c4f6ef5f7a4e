"""Runs suites in a child process, one a framework: torch and TensorFlow never share a process.

The child answers jobs until its input ends, so that a framework is imported once a test session.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from devbench.declare import Benchmark
from devbench.measure.bench import Bench
from devbench.measure.inputs import as_reference, case_dtype, draw
from devbench.measure.numerics import Verdict, compare
from devbench.measure.tree import leaves, tree_map
from devbench.model import Target
from devbench.registry import Source, frameworks, load_suite

SEED = 20
CPU = {"torch": "cpu", "tensorflow": "CPU:0"}
Params = Mapping[str, Any]


def builtin(name: str, suite: str | None = None) -> tuple[Benchmark, Source]:
    """A built-in benchmark of a suite (of the same name unless told), and where a child loads it from."""
    source = Source(suite or name, "module", f"devbench_suites.{suite or name}")
    return {benchmark.name: benchmark for benchmark in load_suite(source)}[name], source


def changed(benchmark: Benchmark, attributes: Mapping[str, Any]) -> Benchmark:
    """The benchmark with other attributes on its definition."""
    definition = copy(benchmark.definition)
    for name, value in attributes.items():
        setattr(definition, name, value)
    return replace(benchmark, definition=definition)


def expected(benchmark: Benchmark, params: Params, inputs: Any, observed: Any) -> Any:
    """What the step should have given, from the reference and the closed form."""
    exact = as_reference(inputs)
    answer = benchmark.call("reference", params, **exact)
    if not hasattr(benchmark.definition, "closed_form"):
        return answer
    more = benchmark.call("closed_form", params, observed=observed, **exact)
    return answer | more if more else answer


def verdict(benchmark: Benchmark, params: Params, inputs: Any, observed: Any) -> Verdict:
    """The engine's own comparison and tolerance."""
    wanted = expected(benchmark, params, inputs, observed)
    terms = benchmark.work(params).terms
    return compare(dict(leaves(observed)), dict(leaves(wanted)), case_dtype(params), terms)


@dataclass(frozen=True)
class Answer:
    """inputs: as given to the builder. flops: counted by the framework, where it can.

    metrics: what the step adds to its row, asked for after the one run.
    """

    inputs: dict[str, Any]
    observed: Any
    flops: int | None
    metrics: dict[str, Any]


class Child:
    """A process with one framework in it. log: a file for what it prints, shown when it fails."""

    def __init__(self, framework: str, log: IO[str]) -> None:
        adapter = frameworks()[framework]
        target = Target(framework, (CPU[framework],))
        self._log = log
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, framework],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={
                **os.environ,
                **adapter.environment(target, threads=2),
                "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            },
        )

    def run(
        self,
        suite: tuple[Benchmark, Source],
        params: Params,
        inputs: dict[str, Any] | None = None,
        **attributes: Any,
    ) -> Answer:
        """Build the case on the inputs (drawn unless given), run its step once, give its output."""
        benchmark, source = suite
        inputs = draw(benchmark, params, SEED) if inputs is None else inputs
        job = (source, benchmark.name, dict(params), inputs, attributes)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            pickle.dump(job, self._process.stdin)
            self._process.stdin.flush()
            observed, flops, metrics = pickle.load(self._process.stdout)
        except (EOFError, BrokenPipeError):
            self._process.wait()
            self._log.seek(0)
            raise AssertionError(f"the child failed:\n{self._log.read()[-4000:]}") from None
        return Answer(inputs, observed, flops, metrics)

    def close(self) -> None:
        self._process.communicate(timeout=60)  # closes its input, which ends it


def _serve(name: str) -> None:
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a framework prints is no answer
    framework = frameworks()[name]
    framework.start(Target(name, (CPU[name],)), 2)
    # Collecting after each case takes 0.15 to 0.33 s of CPU; tests hold little.
    framework.release = lambda: None  # type: ignore[method-assign]
    while True:
        try:
            source, benchmark_name, params, inputs, attributes = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        declared = {benchmark.name: benchmark for benchmark in load_suite(source)}
        benchmark = changed(declared[benchmark_name], attributes)
        # `inputs` is bound early, since a later job gives others.
        benchmark = changed(benchmark, {"inputs": lambda inputs=inputs: inputs})
        with tempfile.TemporaryDirectory() as scratch:
            bench = Bench(benchmark, params, framework, (CPU[name],), 2, SEED, Path(scratch))
            with framework.scope(CPU[name]), bench.build() as (step, _):
                result = step.run()
                output = step.output(result) if step.output is not None else result
                observed = tree_map(lambda leaf: _on_host(framework, leaf), output)
                metrics = dict(step.metrics()) if step.metrics is not None else {}
                flops = _count_flops(step.run) if name == "torch" else None
        pickle.dump((observed, flops, metrics), replies)
        replies.flush()


def _on_host(framework: Any, leaf: Any) -> np.ndarray:
    array = leaf if isinstance(leaf, np.ndarray | np.generic) else framework.numpy(leaf)
    assert array is not None, f"{type(leaf)} is no tensor of {framework.name}"
    return np.array(array)


def _count_flops(run: Callable[[], Any]) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


if __name__ == "__main__":
    _serve(sys.argv[1])
