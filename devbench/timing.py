"""`devbench.time`: the one-line replacement of ``time.time()`` round a call, in a live process."""

from __future__ import annotations

import math
import statistics
import sys
import time as clocks
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from devbench import registry
from devbench.errors import UsageError
from devbench.frameworks.base import Framework, Timer, WallTimer
from devbench.measure import sampling
from devbench.measure.tree import leaves

#: Where torch puts tensors that have a shape only: nothing is computed there.
_NOWHERE: Final = "meta"


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

    The framework and the device are found from the tensors and models among the arguments and in the
    result: an accelerator before the CPU. Where none of them is on an accelerator, every accelerator
    that the process has opened is waited for: what the function works on may never be seen. `seconds` is
    the time for samples. The call is repeated, so it must do the same work each time.

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

    frameworks = _imported()
    given = (function, args, kwargs)  # a model is a function too
    _wait(_places(frameworks, given))
    start = clocks.perf_counter()
    result = run()
    places = _places(frameworks, (given, result))
    _wait(places)
    first_call_s = clocks.perf_counter() - start
    del result

    timer, device = _timer(places)
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


@dataclass(frozen=True, slots=True)
class _Place:
    """A device of a framework. seen: a tensor or a model lies on it; else the process has only opened it."""

    framework: Framework
    address: str
    seen: bool

    def __str__(self) -> str:
        return f"{self.framework.name}:{self.address}"

    @property
    def is_cpu(self) -> bool:
        return self.address.lower().startswith("cpu")


def _timer(places: Sequence[_Place]) -> tuple[Timer, str]:
    """The device's own timer where it is known for certain which one works; else a wall clock that waits
    for all that may."""
    if not places:
        return WallTimer(None, "no tensor of a framework seen"), "the host"
    names = " and ".join(map(str, places))
    if len(places) == 1 and places[0].seen:
        return places[0].framework.timer(places[0].address), names
    host = "" if any(one.seen for one in places) else "the host and "
    return WallTimer(lambda: _wait(places), f"{names} waited for a block"), host + names


def _wait(places: Iterable[_Place]) -> None:
    for place in places:
        place.framework.synchronize(place.address)


def _imported() -> list[Framework]:
    """The frameworks that this process has imported already."""
    found = [one for one in registry.frameworks().values() if one.module in sys.modules]
    for framework in found:
        framework.adopt()
    return found


def _places(frameworks: Sequence[Framework], tree: Any) -> list[_Place]:
    """The accelerators that something in the tree lies on; where it is on none, the CPU's framework, if
    any, and the accelerators that the process has opened."""
    seen = dict.fromkeys(
        _Place(framework, address, seen=True)
        for _, leaf in leaves(tree)
        for framework in frameworks
        if (address := framework.address_of(leaf)) is not None and address != _NOWHERE
    )
    if accelerators := [place for place in seen if not place.is_cpu]:
        return accelerators
    opened = (
        _Place(framework, address, seen=False)
        for framework in frameworks
        for address in framework.opened()
    )
    return [*list(seen)[:1], *opened]


def _human(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"
