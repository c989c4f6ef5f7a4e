"""Is the result right? Every element against the reference, in the maximum norm.

The Frobenius norm would hide one doubled element among a million; the maximum does not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from devbench.declare import Product
from devbench.measure.tree import leaves
from devbench.model import DTYPES, DType, Numerics

#: Rounding of the result itself, in units of its eps: half a unit at most, and a second rounding.
RESULT_ROUNDING: Final = 1.0
#: Growth of the error of a sum of k terms, in units of eps·√k of the accumulator. Fixed by
#: measurement: correct products, networks and gradients stay below half of it, TF32 rounding of
#: the inputs of a float32 product exceeds it tenfold (tests/measure/test_numerics.py).
SUM_GROWTH: Final = 1.0

#: Marks the parts of a sketch in the path of a leaf.
SKETCH: Final = "//"
SKETCH_ROWS: Final = 64
SKETCH_VECTORS: Final = 8


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

    Leaves are host arrays, floats at float64; scalars compare as arrays of one element.
    """
    bound = tolerance(dtype, terms)
    got, wanted = dict(leaves(observed)), dict(leaves(expected))
    if any(SKETCH in path for path in wanted):
        got, wanted = _sketched(got, wanted)
    if not wanted:
        return Verdict("mismatch", None, bound, "the reference holds nothing to compare with")
    if got.keys() != wanted.keys():
        missing = ", ".join(sorted(wanted.keys() - got.keys())) or "nothing"
        extra = ", ".join(sorted(got.keys() - wanted.keys())) or "nothing"
        return Verdict(
            "mismatch", None, bound, f"the output lacks {missing} and has besides {extra}"
        )
    worst, where = 0.0, None
    for path, reference in wanted.items():
        value = np.asarray(got[path])
        reference = np.asarray(reference)
        if value.shape != reference.shape:
            return Verdict(
                "mismatch",
                None,
                bound,
                f"{path or 'output'} has shape {value.shape}, not {reference.shape}",
            )
        error = relative_error(value, reference)
        if where is None or not error <= worst:
            worst, where = error, path or "output"
    if not worst <= bound:
        return Verdict(
            "mismatch",
            worst if math.isfinite(worst) else None,
            bound,
            f"{where} is off by {worst:.3g}",
        )
    return Verdict("match", worst, bound)


def sketch(path: str, product: Product) -> dict[str, np.ndarray]:
    """What stands for a product that is too large: some rows in full, and its projections.

    A wrong element changes each projection of its row by ± its error, so none can hide, as Freivalds
    showed. Elements and rounding errors both add up to √n times their size in a projection, so the
    relative error of the projections is held against the same tolerance as that of the rows.
    """
    rows, columns = product.left.shape[0], product.right.shape[1]
    chosen = np.linspace(0, rows - 1, min(rows, SKETCH_ROWS)).astype(np.int64)
    signs = _signs(columns)
    some = product.left[chosen] @ product.right
    return {
        f"{path}{SKETCH}rows": some,
        f"{path}{SKETCH}chosen": chosen,
        f"{path}{SKETCH}projection": product.left @ (product.right @ signs),
        f"{path}{SKETCH}shape": np.array([rows, columns]),
    }


def _signs(columns: int) -> np.ndarray:
    rng = np.random.default_rng(columns)
    return rng.choice(np.array([-1.0, 1.0]), size=(columns, SKETCH_VECTORS))


def _sketched(got: dict[str, Any], wanted: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Replace outputs that a sketch stands for by the same sketch of them."""
    plain = {path: value for path, value in wanted.items() if SKETCH not in path}
    seen = dict(got)
    for path in {path.split(SKETCH)[0] for path in wanted if SKETCH in path}:
        parts = {name: wanted[f"{path}{SKETCH}{name}"] for name in ("rows", "chosen", "projection")}
        shape = tuple(wanted[f"{path}{SKETCH}shape"])
        value = np.asarray(seen.get(path, np.empty(0)), np.float64)
        if value.shape != shape:
            plain[path] = np.empty(shape)
            continue
        del seen[path]
        plain[f"{path or 'output'} (rows)"] = parts["rows"]
        seen[f"{path or 'output'} (rows)"] = value[parts["chosen"]]
        plain[f"{path or 'output'} (projected)"] = parts["projection"]
        seen[f"{path or 'output'} (projected)"] = value @ _signs(shape[1])
    return seen, plain


def relative_error(value: np.ndarray, reference: np.ndarray) -> float:
    """max|value - reference| / max|reference|; infinite where NaN or infinity appears on one side."""
    if reference.size == 0:
        return 0.0
    value, reference = value.astype(np.float64), reference.astype(np.float64)
    same = (value == reference) | (np.isnan(value) & np.isnan(reference))
    if same.all():
        return 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.where(same, 0.0, np.abs(value - reference))
    largest = float(np.max(difference))
    scale = float(np.max(np.abs(reference), initial=0.0, where=np.isfinite(reference)))
    if not math.isfinite(largest):
        return math.inf
    return largest / scale if scale > 0 else math.inf


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
