"""Is the result right? Every element against the reference, in the maximum norm.

The Frobenius norm would hide one doubled element among a million; the maximum does not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from devbench.measure import sketch
from devbench.measure.tree import leaves
from devbench.model import DTYPES, DType, Numerics

#: Rounding of the result itself, in units of its eps: half a unit at most, and a second rounding.
RESULT_ROUNDING: Final = 1.0
#: Growth of the error of a sum of k terms, in units of eps·√k of the accumulator. Fixed by
#: measurement: correct products, networks and gradients stay below half of it, TF32 rounding of
#: the inputs of a float32 product exceeds it tenfold (tests/measure/test_numerics.py).
SUM_GROWTH: Final = 1.0
#: Numbers that are compared at a time.
PIECE: Final = 1 << 17


@dataclass(frozen=True, slots=True)
class Verdict:
    """rel_error: max|y - ref| / max|ref|, the largest of all leaves; `detail` names the leaf."""

    numerics: Numerics
    rel_error: float | None = None
    tolerance: float | None = None
    detail: str | None = None


def tolerance(dtype: DType, terms: int) -> float:
    """Largest relative error that rounding explains, for elements that are sums of `terms` terms.

    Narrow formats accumulate in float32 and round the result once: c₁·eps(dtype) + c₂·eps(acc)·√k,
    the probabilistic bound of Higham & Mary (2019), "A new approach to probabilistic rounding error
    analysis", SIAM J. Sci. Comput. 41(5).
    """
    if dtype.eps is None:
        return 0.0
    accumulator = min(dtype.eps, DTYPES["float32"].eps or 0.0)
    return RESULT_ROUNDING * dtype.eps + SUM_GROWTH * accumulator * math.sqrt(max(terms, 1))


def compare(observed: Any, expected: Any, dtype: DType, terms: int) -> Verdict:
    """Hold nested outputs against the reference, leaf by leaf.

    Leaves are host arrays, floats at float64; scalars compare as arrays of one element. A product
    that was too large to compute is there as its `sketch`.
    """
    bound = tolerance(dtype, terms)
    got, wanted = dict(leaves(observed)), dict(leaves(expected))
    sketches = sketch.collect(wanted)
    expected_paths = {path for path in wanted if not sketch.is_part(path)} | sketches.keys()
    if not wanted:
        return Verdict("mismatch", None, bound, "the reference holds nothing to compare with")
    if got.keys() != expected_paths:
        missing, extra = expected_paths - got.keys(), got.keys() - expected_paths
        return Verdict(
            "mismatch",
            None,
            bound,
            f"the output lacks {_named(missing)} and has besides {_named(extra)}",
        )
    worst, where = -1.0, ""
    for path in sorted(expected_paths):
        name = path or "output"
        value = np.asarray(got[path])
        one = sketches.get(path)
        reference = np.asarray(wanted[path]) if one is None else None
        shape = reference.shape if reference is not None else one.shape if one else ()
        if value.shape != shape:
            return Verdict("mismatch", None, bound, f"{name} has shape {value.shape}, not {shape}")
        if reference is not None:
            errors = [(relative_error(value, reference), name)]
        elif one is not None:
            errors = [
                (relative_error(value[one.chosen], one.rows), f"{name} (rows)"),
                (one.projected_error(value), f"{name} (projected)"),
            ]
        for error, part in errors:
            if not error <= worst:
                worst, where = error, part
    if not worst <= bound:
        known = worst if math.isfinite(worst) else None
        return Verdict("mismatch", known, bound, f"{where} is off by {worst:.3g}")
    return Verdict("match", worst, bound)


def _named(paths: Set[str]) -> str:
    """A lone leaf, which has no path, is what was returned itself."""
    return ", ".join(path or "a lone value" for path in sorted(paths)) or "nothing"


def relative_error(value: np.ndarray, reference: np.ndarray) -> float:
    """max|value - reference| / max|reference|; infinite where NaN or infinity appears on one side."""
    if reference.size == 0:
        return 0.0
    value = value.astype(np.float64, copy=False)
    reference = reference.astype(np.float64, copy=False)
    with np.errstate(invalid="ignore", over="ignore"):
        largest = _largest_difference(value.reshape(-1), reference.reshape(-1))
        if math.isfinite(largest):  # then so are all numbers on both sides
            scale = max(float(reference.max()), -float(reference.min()))
            return largest / scale if scale > 0 else 0.0 if largest == 0 else math.inf
        same = (value == reference) | (np.isnan(value) & np.isnan(reference))
        if same.all():
            return 0.0
        difference = np.where(same, 0.0, np.abs(value - reference))
    largest = float(np.max(difference))
    scale = float(np.max(np.abs(reference), initial=0.0, where=np.isfinite(reference)))
    if not math.isfinite(largest):
        return math.inf
    return largest / scale if scale > 0 else math.inf


def _largest_difference(value: np.ndarray, reference: np.ndarray) -> float:
    """In pieces that stay in the cache: a layer of 4096 by 4096 is 134 MB, and so would be each array on
    the way to its figure."""
    pieces = (slice(start, start + PIECE) for start in range(0, value.size, PIECE))
    # By numpy's max, which does not lose a NaN.
    return float(np.max([np.max(np.abs(value[one] - reference[one])) for one in pieces]))


def bit_equal(observed: Any, expected: Mapping[str, Any]) -> Verdict:
    """For ``reference = "exact"``: the same leaves in the same order, bit for bit."""
    got = [np.asarray(leaf) for _, leaf in leaves(observed)]
    wanted = [np.asarray(leaf) for _, leaf in leaves(expected)]
    if not wanted:
        return Verdict("mismatch", None, 0.0, "no inputs went in to compare with")
    if len(got) != len(wanted):
        return Verdict("mismatch", None, 0.0, f"{len(got)} outputs where {len(wanted)} went in")
    for index, (value, reference) in enumerate(zip(got, wanted, strict=True)):
        if not _same_bits(value, reference):
            return Verdict("mismatch", None, 0.0, f"output {index} differs from what went in")
    return Verdict("exact", 0.0, 0.0)


def _same_bits(value: np.ndarray, reference: np.ndarray) -> bool:
    """Equal numbers, told apart where ``==`` does not: zero from minus zero."""
    if not np.array_equal(value, reference, equal_nan=True):
        return False
    floats = value.dtype.kind == "f" and reference.dtype.kind == "f"
    return not floats or np.array_equal(np.signbit(value), np.signbit(reference))
