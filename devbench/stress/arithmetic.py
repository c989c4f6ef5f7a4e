"""Tier 1, a second: arithmetic whose answers are known.

Integers and sums are known exactly, in whatever order they are added; gradients are small whole
numbers; a product of random matrices is held against float64 with the tolerance of rounding; NaN and
infinity must reach what they touch and nothing else.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from devbench.frameworks.base import Framework
from devbench.frameworks.probes import Probes
from devbench.measure import numerics
from devbench.measure.visit import describe_error
from devbench.model import DTYPES, DType
from devbench.stress.records import Check, Outcome, Trial

#: Knuth's linear congruential generator (MMIX): products that use all 64 bits of a word.
MULTIPLIER: Final = 6364136223846793005
INCREMENT: Final = 1442695040888963407
ROUNDS: Final = 64
#: On a CPU no more than one thread takes at once (torch's grain): while other programs keep the CPUs
#: busy, each operation of a pool waits for its last thread to get one. On a GPU one for each thread
#: that its multiprocessors hold.
CPU_NUMBERS: Final = 1 << 15
ACCELERATOR_NUMBERS: Final = 1 << 18
#: Below 2²⁴, so that float32 counts them exactly.
SUMMANDS: Final = 1 << 20
#: Spreads the summands over both halves of a word; their sum stays below 2⁶³.
WIDE: Final = 2**23 + 1
#: Sides of the products; a GPU needs more to keep all its multiprocessors busy.
CPU_N: Final = 384
ACCELERATOR_N: Final = 1024

#: What an accelerator has units of its own for; a CPU often computes them in float32.
NARROW: Final = ("tfloat32", "bfloat16", "float16")


@dataclass(frozen=True, slots=True)
class Place:
    """Where trials are run: one device of a framework that was started."""

    framework: Framework
    address: str
    probes: Probes

    @classmethod
    def of(cls, framework: Framework, address: str) -> Place:
        return cls(framework, address, framework.probes(address, 1 << 20))

    @property
    def is_cpu(self) -> bool:
        return self.address.lower().startswith("cpu")

    def dtypes(self) -> list[DType]:
        """float32, and on an accelerator what else it has units for."""
        names = ("float32",) if self.is_cpu else ("float32", *NARROW)
        return [
            DTYPES[name]
            for name in names
            if self.framework.unsupported(DTYPES[name], self.address) is None
        ]

    def host(self, tensor: Any) -> np.ndarray:
        found = self.framework.numpy(tensor)
        if found is None:
            raise TypeError(f"{self.framework.name} gave a {type(tensor).__name__} as a result")
        return np.asarray(found)


def known_answers(framework: Framework, address: str) -> tuple[Check, ...]:
    """All of tier 1 on one device of a framework that was started in this process."""
    where = f"{framework.name}:{address}"
    return tuple(run_trial(framework, address, where, one) for one in trials(framework, address))


def trials(framework: Framework, address: str) -> Iterator[Trial]:
    place = Place.of(framework, address)
    yield Trial(1, "integers", lambda: _integers(place))
    yield Trial(1, "sums", lambda: _sums(place))
    yield Trial(1, "derivative", lambda: _derivative(place))
    yield Trial(1, "gradients", lambda: _gradients(place))
    for dtype in place.dtypes():
        yield Trial(1, "product", lambda dtype=dtype: _product(place, dtype), dtype.name)  # type: ignore[misc]
    yield Trial(1, "nan_and_infinity", lambda: _special(place))


def run_trial(framework: Framework, address: str, where: str, trial: Trial) -> Check:
    """What the trial found, whatever happens in it short of a crash."""
    start = time.perf_counter()
    raised = False
    try:
        with framework.scope(address), np.errstate(invalid="ignore"):
            found = trial.run()
    except Exception as error:  # noqa: BLE001  # elementary arithmetic that raises is a finding
        if framework.is_out_of_memory(error):
            found = Outcome("cannot tell", f"memory ran out: {describe_error(error)}")
        else:
            found = Outcome("fault", f"the framework raised {describe_error(error)}")
            raised = True
    return Check(
        where=where,
        tier=trial.tier,
        name=trial.name,
        dtype=trial.dtype,
        verdict=found.verdict,
        says=found.says,
        figures=found.figures,
        seconds=time.perf_counter() - start,
        status="failed" if raised else "ok",
        reason="error" if raised else None,
    )


def _integers(place: Place) -> Outcome:
    count = CPU_NUMBERS if place.is_cpu else ACCELERATOR_NUMBERS
    start = np.random.default_rng(0).integers(-(2**63), 2**63, count)

    def generator(x: Any) -> Any:
        for _ in range(ROUNDS):
            x = x * MULTIPLIER + INCREMENT
        return x

    found = place.host(place.probes.apply(generator, [start], DTYPES["int64"])())
    unsigned = start.view(np.uint64)
    for _ in range(ROUNDS):
        unsigned = unsigned * np.uint64(MULTIPLIER) + np.uint64(INCREMENT)
    return _exactly(
        [("number", found, unsigned.view(np.int64))],
        f"{ROUNDS} products and sums of {count:,} 64-bit integers",
    )


def _sums(place: Place) -> Outcome:
    rng = np.random.default_rng(1)
    count = SUMMANDS
    spread = rng.permutation(count).astype(np.int64) * WIDE
    # Whole numbers of both signs whose partial sums stay below 2²⁴: exact in any order of adding.
    signs = rng.integers(-8, 9, count).astype(np.float32)
    sums: list[tuple[str, np.ndarray, float]] = [
        ("sum of integers", spread, count * (count - 1) // 2 * WIDE),
        ("sum of ones", np.ones(count, np.float32), float(count)),
        ("sum of whole float32 numbers", signs, float(signs.sum(dtype=np.float64))),
    ]
    return _exactly(
        [
            (name, place.host(place.probes.total(array)()), np.asarray(known))
            for name, array, known in sums
        ],
        f"three sums of {count:,} numbers",
    )


def _derivative(place: Place) -> Outcome:
    """d/dx of x² + 2x + 1 is 8 at x = 3."""
    at = np.array([3.0], np.float32)
    [found] = place.probes.gradients(lambda x: x * x + x * 2.0 + 1.0, [at])()
    return _exactly([("d/dx", place.host(found), np.array([8.0]))], "d/dx of x² + 2x + 1 at 3 is 8")


def _gradients(place: Place) -> Outcome:
    """y = Σ(XW + b): dX repeats the row sums of W, dW the column sums of X, and db counts the rows."""
    x = np.arange(1, 13, dtype=np.float32).reshape(4, 3)
    w = np.array([[1, 2], [4, 5], [7, 8]], np.float32)
    b = np.array([4, 5], np.float32)
    found = place.probes.gradients(lambda x, w, b: x @ w + b, [x, w, b])()
    known = (
        np.tile([3.0, 9.0, 15.0], (4, 1)),
        np.array([[22.0, 22.0], [26.0, 26.0], [30.0, 30.0]]),
        np.array([4.0, 4.0]),
    )
    pairs = zip(("X.grad", "W.grad", "b.grad"), map(place.host, found), known, strict=True)
    return _exactly(list(pairs), "the gradients of Σ(XW + b)")


def _product(place: Place, dtype: DType) -> Outcome:
    """Every element of a product of random matrices against float64."""
    n = CPU_N if place.is_cpu else ACCELERATOR_N
    rng = np.random.default_rng(2)
    a, b = (rng.standard_normal((n, n)).astype(np.float32) for _ in range(2))
    with place.framework.math(dtype):
        found = place.host(place.probes.apply(matmul, [a, b], dtype)())
    known = _rounded(place, a, dtype) @ _rounded(place, b, dtype)
    error, bound = numerics.relative_error(found, known), numerics.tolerance(dtype, n)
    figures = {"rel_error": error, "tolerance": bound} if math.isfinite(error) else {}
    if error <= bound:
        says = f"{n}×{n}: largest error {error:.1e}, rounding explains {bound:.1e}"
        return Outcome("no fault found", says, figures)
    off = np.abs(found - known)
    worst = np.unravel_index(int(np.argmax(np.where(np.isnan(off), np.inf, off))), off.shape)
    wrong = int((~(off <= bound * np.abs(known).max())).sum())
    return Outcome(
        "fault",
        f"{wrong} of {n}×{n} elements {'is' if wrong == 1 else 'are'} wrong: "
        f"{_at(worst)} is {found[worst]:.7g} instead of {known[worst]:.7g}",
        figures,
    )


def _rounded(place: Place, array: np.ndarray, dtype: DType) -> np.ndarray:
    """The numbers that the device was given, at float64."""
    moved = place.framework.tensor(array, dtype, place.address)
    return place.host(moved).astype(np.float64)


def _special(place: Place) -> Outcome:
    """NaN and infinity in one element of a matrix reach its row of the product, and no other."""
    n = 64
    a, b = np.ones((n, n), np.float32), np.ones((n, n), np.float32)
    a[5, 7], a[9, 11], a[13, 2], a[13, 3] = math.nan, math.inf, math.inf, -math.inf
    known = np.full((n, n), float(n))
    known[5], known[9], known[13] = math.nan, math.inf, math.nan
    ramp = np.arange(1024, dtype=np.float32)
    cases = [("product", place.probes.apply(matmul, [a, b], DTYPES["float32"])(), known)]
    for name, value in (("NaN", math.nan), ("infinity", math.inf), ("-infinity", -math.inf)):
        touched = ramp.copy()
        touched[700] = value
        cases.append((f"sum with {name}", place.probes.total(touched)(), np.array(value)))
    found = [(name, place.host(result), answer) for name, result, answer in cases]
    return _exactly(found, "NaN and infinity through a product and three sums")


def matmul(a: Any, b: Any) -> Any:
    return a @ b


def _exactly(parts: list[tuple[str, np.ndarray, np.ndarray]], what: str) -> Outcome:
    """Whether each part is what is known, to the last bit."""
    for name, found, known in parts:
        if found.shape != known.shape:
            return Outcome("fault", f"{name} has shape {found.shape} instead of {known.shape}")
        same = (found == known) | ((found != found) & (known != known))
        if not same.all():
            where = np.unravel_index(int(np.argmin(same)), same.shape)
            wrong = int((~same).sum())
            return Outcome(
                "fault",
                f"{name}: {wrong} of {same.size:,} wrong; {_at(where)} is {found[where]} instead of "
                f"{known[where]}",
                {"wrong": wrong},
            )
    return Outcome("no fault found", what)


def _at(index: tuple[Any, ...]) -> str:
    return f"[{', '.join(map(str, index))}]" if index else "it"
