"""`devbench.time`: the one-line replacement of ``time.time()`` round a call, in a live process."""

from __future__ import annotations

import math
import statistics
import sys
import time as clocks
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from devbench import registry
from devbench.errors import UsageError
from devbench.frameworks.base import Framework, Timer, WallTimer
from devbench.measure import sampling
from devbench.measure.tree import leaves


@dataclass(frozen=True, slots=True)
class Timing:
    """What a call takes, in seconds. p5 and p95 are percentiles of the samples of this one process:
    another process may differ by more, which ``devbench run`` shows and this cannot."""

    median: float
    p5: float
    p95: float
    first_call_s: float
    samples: tuple[float, ...]
    block: int
    device: str
    clock: str
    steady: bool | None

    def __str__(self) -> str:
        doubt = "" if self.steady is not False else "; still trending when the warm-up ended"
        return (
            f"{_human(self.median)} on {self.device} "
            f"(90 % of {len(self.samples)} samples in {_human(self.p5)} – {_human(self.p95)}; "
            f"first call {_human(self.first_call_s)}{doubt})"
        )

    __repr__ = __str__


def time(function: Callable[..., Any], *args: Any, seconds: float = 0.5, **kwargs: Any) -> Timing:
    """Time ``function(*args, **kwargs)``: synchronised, warmed up, the first call apart.

    The framework and the device are found from the tensors among the arguments, and, where there
    are none, in the result. `seconds` is the time for samples. The call is repeated, so it must do
    the same work each time.

    >>> import devbench, torch
    >>> a = torch.randn(1000, 1000)
    >>> devbench.time(torch.matmul, a, a)  # doctest: +SKIP
    9.49 ms on torch:cpu (90 % of 53 samples in 9.34 ms – 9.9 ms; first call 11.2 ms)
    """
    if not callable(function):
        raise UsageError(
            f"devbench.time takes a function and its arguments, e.g. devbench.time(f, x), not "
            f"{type(function).__name__}; write f, not f(x)"
        )
    if not 0 < seconds < math.inf:
        raise UsageError(f"seconds must be a number above zero, not {seconds!r}")

    def run() -> Any:
        return function(*args, **kwargs)

    found = _find((args, kwargs))
    if found is not None:
        found[0].synchronize(found[1])
    start = clocks.perf_counter()
    result = run()
    if found is None:
        found = _find(result)
    if found is not None:
        found[0].synchronize(found[1])
    first_call_s = clocks.perf_counter() - start
    del result

    timer, device = _timer(found)
    block = sampling.find_block(timer, run, sampling.clock_tick())
    limits = sampling.Limits(warmup_s=2 * seconds, share_s=seconds)

    def sample() -> tuple[float, ...]:
        return timer(run, block)

    warm = sampling.warm_up(sample, limits)
    samples = sorted(sampling.take_samples(sample, limits))
    return Timing(
        median=statistics.median(samples),
        p5=samples[round(0.05 * (len(samples) - 1))],
        p95=samples[round(0.95 * (len(samples) - 1))],
        first_call_s=first_call_s,
        samples=tuple(samples),
        block=1 if timer.per_step else block,
        device=device,
        clock=timer.name,
        steady=warm.steady,
    )


def _timer(found: tuple[Framework, str] | None) -> tuple[Timer, str]:
    if found is None:
        return WallTimer(None, "no tensor of a framework seen"), "the host"
    framework, address = found
    return framework.timer(address), f"{framework.name}:{address}"


def _find(tree: Any) -> tuple[Framework, str] | None:
    """The framework and address of the first tensor, among frameworks that are imported already."""
    imported = [one for one in registry.frameworks().values() if one.module in sys.modules]
    for framework in imported:
        framework.adopt()
    for _, leaf in leaves(tree):
        for framework in imported:
            address = framework.address_of(leaf)
            if address is not None:
                return framework, address
    return None


def _human(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"
