"""Benchmarks that behave, and one for each way in which a benchmark can misbehave."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from devbench import Context, Step, Unsupported, Work, benchmark


@benchmark(
    name="sum",
    axes={"n": [100, 200, 300, 400], "dtype": ["float32", "bfloat16"]},
    quick={"n": [100, 200]},
    size="n",
)
class Sum:
    """The sum of n numbers: what every well-behaved case looks like."""

    def work(self, n: int) -> Work:
        return Work(flops=n, bytes=4 * n, items=n, footprint=4 * n, terms=n)

    def inputs(self, rng: np.random.Generator, n: int) -> dict[str, Any]:
        return {"x": rng.standard_normal(n)}

    def reference(self, x: np.ndarray) -> Any:
        return x.sum()

    def fake(self, ctx: Context, x: np.ndarray) -> Callable[[], Any]:
        return lambda: x.sum()


@benchmark(
    name="trouble",
    axes={"n": [1, 2, 3], "kind": ["fine"]},
    size="n",
)
class Trouble:
    """What happens at n = 2 is told by the environment variable FAKE_TROUBLE."""

    def work(self, n: int) -> Work:
        return Work(flops=n * float(os.environ.get("FAKE_FLOPS_FACTOR", "1")) ** n)

    def inputs(self, rng: np.random.Generator) -> dict[str, Any]:
        return {"x": rng.standard_normal(4)}

    def reference(self, x: np.ndarray) -> Any:
        return x * 2

    def fake(self, ctx: Context, n: int, x: np.ndarray) -> Step:
        trouble = os.environ.get("FAKE_TROUBLE", "")

        def run() -> Any:
            if n == 2 and trouble:
                _misbehave(trouble)
                if trouble == "wrong":
                    return x * 3
            return x * 2

        if n == 2 and trouble == "unsupported":
            raise Unsupported("this device has no such unit")
        return Step(run=run)


def _misbehave(trouble: str) -> None:
    if trouble == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if trouble == "exit":
        os._exit(7)
    if trouble == "hang":
        time.sleep(1000)
    if trouble == "oom":
        raise MemoryError("no memory left for n=2")
    if trouble == "raise":
        raise ValueError("two is not to its taste")


@benchmark(name="careless", axes={"how": ["changes", "nothing", "stateful", "luckless"]})
class Careless:
    """Steps whose output cannot be held against anything."""

    def inputs(self, rng: np.random.Generator) -> dict[str, Any]:
        return {"x": rng.standard_normal(4)}

    def reference(self, how: str, x: np.ndarray) -> Any:
        if how == "luckless":
            raise ArithmeticError("the reference has no luck")
        return x

    def fake(self, ctx: Context, how: str, x: np.ndarray) -> Step:
        calls = [0]

        def run() -> Any:
            calls[0] += 1
            return None if how == "nothing" else x * calls[0]

        return Step(run, stateful=how == "stateful")


@benchmark(name="race", axes={"n": [104, 152]}, quick={"n": [104, 152]}, size="n")
class Race:
    """One thread takes 0.1 µs · n², several take 1.78 ms whatever n is: they win from 133.4 on.

    It spins until the clock says so, and a step that was held up meanwhile is no longer for it.
    """

    def inputs(self, rng: np.random.Generator, n: int) -> dict[str, Any]:
        return {"x": rng.standard_normal(n)}

    def reference(self, x: np.ndarray) -> Any:
        return 2 * x

    def fake(self, ctx: Context, n: int, x: np.ndarray) -> Callable[[], Any]:
        seconds = 1e-7 * n**2 if ctx.threads == 1 else 1.78e-3

        def run() -> Any:
            end = time.perf_counter() + seconds
            while time.perf_counter() < end:
                pass
            return 2 * x

        return run
