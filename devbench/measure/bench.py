"""A case as its worker sees it, and how a step is built from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from devbench.declare import Benchmark, Context, Step
from devbench.errors import DeclarationError, Unsupported
from devbench.frameworks.base import Framework
from devbench.measure.cache import last_level_cache
from devbench.measure.inputs import case_dtype, draw
from devbench.measure.tree import tree_map
from devbench.model import ParamValue


@dataclass(frozen=True, slots=True)
class Bench:
    """The case as this worker sees it, and the framework that runs it. repeat: steps taken for one.
    kept: where inputs are kept from visit to visit (`devbench.measure.inputs.draw`). bystanders: threads
    of the process that are neither the framework's nor the step's (`devbench.measure.binding`)."""

    benchmark: Benchmark
    params: Mapping[str, ParamValue]
    framework: Framework
    devices: tuple[str, ...]
    threads: int
    seed: int
    scratch: Path
    repeat: int = 1
    kept: Path | None = None
    bystanders: frozenset[int] = frozenset()

    @property
    def address(self) -> str:
        return self.devices[0]

    @property
    def mode(self) -> str:
        """The axis of that name, else the framework's idiom."""
        return str(self.params.get("mode", self.framework.modes[0]))

    def draw(self) -> dict[str, Any]:
        """The inputs as host arrays."""
        return draw(self.benchmark, self.params, self.seed, self.kept)

    @contextmanager
    def build(
        self, host: dict[str, Any] | None = None, flush: Callable[[], None] | None = None
    ) -> Iterator[tuple[Step, dict[str, Any]]]:
        """A fresh step on inputs (drawn unless given, as host arrays); closed and released at the end.
        flush: what overwrites the caches before each step, untimed; where they are to be cold, made
        unless given."""
        host = self.draw() if host is None else host
        flush = self.flush() if flush is None else flush
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
        if flush is not None:
            step = replace(step, reset=_then(step.reset, flush))
        if not callable(step.run):
            raise DeclarationError(
                f"{self.benchmark.name}.{framework.name} returned {type(built).__name__}; it must return "
                "a callable or a devbench.Step",
                self.benchmark.where,
            )
        try:
            yield (step if self.repeat == 1 else _repeated(step, self.repeat)), host
        finally:
            if step.close is not None:
                step.close()
            del step, built, tensors, context
            framework.release()

    def flush(self) -> Callable[[], None] | None:
        """Overwrites the caches; None for a case that leaves them hot."""
        if self.params.get("cache") != "cold":
            return None
        cache = self.framework.cache_bytes(self.address) or last_level_cache(self.threads)
        return self.framework.probes(self.address, cache).flush()


def _then(reset: Callable[[], None] | None, flush: Callable[[], None]) -> Callable[[], None]:
    """Flushes after whatever the step itself resets."""

    def start_cold() -> None:
        if reset is not None:
            reset()
        flush()

    return start_cold


def _repeated(step: Step, times: int) -> Step:
    """So many steps as one. Raises Unsupported where something happens between two of them."""
    if step.reset is not None or step.clock is not None:
        raise Unsupported("a step that is reset each time, or times itself, cannot be repeated")
    once = step.run

    def run() -> Any:
        for _ in range(times - 1):
            once()
        return once()

    return replace(step, run=run)
