from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from devbench.declare import Product
from devbench.measure.inputs import rounded
from devbench.measure.numerics import Verdict, bit_equal, compare, relative_error, tolerance
from devbench.measure.sketch import parts
from devbench.model import DTYPES, DType

Array: TypeAlias = NDArray[Any]
FLOATS = ("float64", "float32", "bfloat16", "float16")
NARROW = FLOATS[1:]


def product(a: Array, b: Array, dtype: DType) -> Array:
    """A correct product: sums in float32 (float64 for float64), rounded once; as float64."""
    width = np.float64 if dtype.name == "float64" else np.float32
    return rounded(a.astype(width) @ b.astype(width), dtype).astype(np.float64)


def operands(n: int, terms: int, dtype: DType, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return (
        rounded(rng.standard_normal((n, terms)), dtype),
        rounded(rng.standard_normal((terms, n)), dtype),
    )


def exact(a: Array, b: Array) -> Array:
    reference: Array = a.astype(np.float64) @ b.astype(np.float64)
    return reference


def tf32(array: Array) -> Array:
    """Rounded to the 10 bits of mantissa that tensor cores keep of a float32 under TF32."""
    bits = array.astype(np.float32).view(np.uint32)
    bits = bits + ((bits >> 13) & 1) + np.uint32(0x0FFF)
    return (bits & np.uint32(0xFFFFE000)).view(np.float32)


# ---- what is right is accepted


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("terms", [1, 16, 256, 4096])
def test_a_correct_product_is_accepted(name: str, terms: int) -> None:
    dtype = DTYPES[name]
    for seed in range(3):
        a, b = operands(64, terms, dtype, seed)
        verdict = compare(product(a, b, dtype), exact(a, b), dtype, terms)
        assert verdict.numerics == "match", verdict


@pytest.mark.parametrize("terms", [256, 4096, 65536])
def test_a_float32_sum_in_plain_order_stays_well_inside_the_tolerance(terms: int) -> None:
    """The worst order that a library uses: one running sum, with a rounding at each term."""
    rng = np.random.default_rng(terms)
    a, b = rng.standard_normal((2, 60, terms)).astype(np.float32)
    running = np.cumsum(a * b, axis=1, dtype=np.float32)[:, -1]
    reference = (a.astype(np.float64) * b).sum(axis=1)
    bound = tolerance(DTYPES["float32"], terms)
    assert relative_error(running, reference) < bound / 2


# ---- what is wrong is caught


@pytest.fixture(scope="module")
def million() -> dict[str, tuple[Array, Array]]:
    """A product of a thousand by a thousand elements in each format, and its reference."""
    made = {}
    for name in NARROW:
        a, b = operands(1000, 64, DTYPES[name], 7)
        made[name] = product(a, b, DTYPES[name]), exact(a, b)
    return made


@pytest.mark.parametrize("name", NARROW)
@pytest.mark.parametrize("rank", [0.25, 0.5, 0.75, 1.0])
def test_one_doubled_element_of_a_million_is_caught(
    million: dict[str, tuple[Array, Array]], name: str, rank: float
) -> None:
    observed, reference = million[name]
    observed = observed.copy()
    by_size = np.argsort(np.abs(observed), axis=None)
    observed.flat[by_size[int(rank * (observed.size - 1))]] *= 2
    verdict = compare(observed, reference, DTYPES[name], 64)
    assert verdict.numerics == "mismatch"
    assert compare(million[name][0], reference, DTYPES[name], 64).numerics == "match"


def test_the_frobenius_norm_would_not_tell_a_doubled_element_from_bfloat16(
    million: dict[str, tuple[Array, Array]],
) -> None:
    """Why the maximum is compared: the norm of the whole barely moves."""
    right, reference = million["bfloat16"]
    wrong = right.copy()
    wrong.flat[np.argsort(np.abs(wrong), axis=None)[wrong.size // 2]] *= 2

    def frobenius(observed: Array) -> float:
        return float(np.linalg.norm(observed - reference) / np.linalg.norm(reference))

    assert frobenius(wrong) < 1.2 * frobenius(right)
    assert relative_error(wrong, reference) > 5 * relative_error(right, reference)


@pytest.mark.parametrize("bit", range(23, 31))
def test_a_flipped_exponent_bit_of_one_weight_is_caught_in_float32(bit: int) -> None:
    a, b = operands(128, 1024, DTYPES["float32"])
    reference = exact(a, b)
    b = b.copy()
    b.view(np.uint32)[17, 5] ^= np.uint32(1 << bit)
    with np.errstate(over="ignore", invalid="ignore"):
        observed = product(a, b, DTYPES["float32"])
    assert compare(observed, reference, DTYPES["float32"], 1024).numerics == "mismatch"


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_a_weight_that_became_huge_is_caught_in_a_narrow_format(name: str) -> None:
    dtype = DTYPES[name]
    a, b = operands(128, 1024, dtype)
    reference = exact(a, b)
    b = b.copy()
    b[17, 5] *= 2.0**8
    observed = product(a, b, dtype)
    assert compare(observed, reference, dtype, 1024).numerics == "mismatch"


@pytest.mark.parametrize("terms", [64, 256, 1024, 8192])
def test_tf32_rounding_of_the_inputs_of_a_float32_product_is_caught(terms: int) -> None:
    dtype = DTYPES["float32"]
    a, b = operands(128, terms, dtype)
    verdict = compare(product(tf32(a), tf32(b), dtype), exact(a, b), dtype, terms)
    assert verdict.numerics == "mismatch"
    assert verdict.rel_error is not None
    assert verdict.rel_error > 10 * tolerance(dtype, terms)


@pytest.mark.parametrize("made", [np.nan, np.inf, -np.inf])
def test_nan_or_infinity_on_one_side_is_caught(made: float) -> None:
    clean = np.arange(1.0, 7.0)
    spoilt = clean.copy()
    spoilt[3] = made
    for observed, expected in ((spoilt, clean), (clean, spoilt)):
        verdict = compare(observed, expected, DTYPES["float32"], 1)
        assert verdict.numerics == "mismatch"
        assert verdict.rel_error is None
        assert verdict.detail == "output is off by inf"


def test_nan_and_infinity_in_the_same_places_are_equal() -> None:
    both = np.array([1.0, np.nan, np.inf, -np.inf, 2.0])
    assert compare(both, both.copy(), DTYPES["float32"], 1) == Verdict(
        "match", 0.0, tolerance(DTYPES["float32"], 1)
    )
    near = both * (1 + 1e-9)
    assert compare(near, both, DTYPES["float32"], 1).numerics == "match"
    assert compare(-both, both, DTYPES["float32"], 1).numerics == "mismatch"


def test_differences_that_overflow_are_infinite() -> None:
    assert relative_error(np.array([1e308]), np.array([-1e308])) == math.inf


# ---- shapes and leaves


def test_a_transposed_result_has_another_shape() -> None:
    verdict = compare({"y": np.ones((2, 3))}, {"y": np.ones((3, 2))}, DTYPES["float32"], 1)
    assert verdict.numerics == "mismatch"
    assert verdict.detail == "y has shape (2, 3), not (3, 2)"


def test_a_result_is_not_broadcast_against_its_reference() -> None:
    verdict = compare(np.ones(1), np.ones(5), DTYPES["float32"], 1)
    assert verdict.detail == "output has shape (1,), not (5,)"


def test_missing_and_surplus_leaves_are_named() -> None:
    observed = {"loss": np.ones(1), "grads": [np.ones(2)]}
    expected = {"loss": np.ones(1), "weights": np.ones(2)}
    verdict = compare(observed, expected, DTYPES["float32"], 1)
    assert verdict.numerics == "mismatch"
    assert verdict.detail == "the output lacks weights and has besides grads.0"


def test_the_worst_leaf_is_named_with_its_error() -> None:
    expected = {"a": np.ones(3), "b": [np.ones(3), np.ones(3)]}
    observed = {"a": np.ones(3) * 1.001, "b": [np.ones(3) * 1.1, np.ones(3)]}
    verdict = compare(observed, expected, DTYPES["float32"], 1)
    assert verdict.rel_error == pytest.approx(0.1)
    assert verdict.detail == "b.0 is off by 0.1"


@pytest.mark.parametrize("nothing", [{}, []])
def test_a_reference_that_holds_nothing_is_no_match(nothing: Any) -> None:
    assert compare(nothing, nothing, DTYPES["float32"], 1).numerics == "mismatch"


def test_empty_arrays_of_one_shape_are_equal() -> None:
    assert relative_error(np.ones((0, 3)), np.ones((0, 3))) == 0
    assert compare(np.ones((0, 3)), np.ones((0, 3)), DTYPES["float32"], 1).numerics == "match"


def test_scalars_compare_as_single_elements() -> None:
    float32 = DTYPES["float32"]
    assert compare(2.5, np.float64(2.5), float32, 1) == Verdict("match", 0.0, tolerance(float32, 1))
    assert compare({"loss": 2.5}, {"loss": np.array(2.6)}, float32, 1).numerics == "mismatch"


def test_a_reference_of_zeros_allows_only_zeros() -> None:
    zeros = np.zeros(4)
    assert compare(zeros, zeros, DTYPES["float16"], 1).rel_error == 0
    assert compare(np.full(4, 1e-30), zeros, DTYPES["float16"], 1).numerics == "mismatch"


def test_integers_must_agree_to_the_last_one() -> None:
    numbers = np.arange(100)
    assert tolerance(DTYPES["int32"], 1000) == 0
    assert compare(numbers, numbers, DTYPES["int32"], 1000).numerics == "match"
    assert compare(numbers + (numbers == 40), numbers, DTYPES["int32"], 1000).numerics == "mismatch"


def test_booleans_are_compared() -> None:
    mask = np.array([True, False, True])
    assert compare(mask, mask, DTYPES["float32"], 1).numerics == "match"
    assert compare(~mask, mask, DTYPES["float32"], 1).numerics == "mismatch"


def test_the_tolerance_grows_with_eps_and_with_the_root_of_the_terms() -> None:
    eps32 = 2.0**-23
    assert tolerance(DTYPES["float32"], 1) == pytest.approx(2 * eps32)
    assert tolerance(DTYPES["float32"], 10000) == pytest.approx(101 * eps32)
    assert tolerance(DTYPES["bfloat16"], 10000) == pytest.approx(2.0**-7 + 100 * eps32)
    assert tolerance(DTYPES["float64"], 10000) == pytest.approx(101 * 2.0**-52)
    assert tolerance(DTYPES["float32"], 0) == tolerance(DTYPES["float32"], 1)


# ---- bit for bit


def change_one(array: Array) -> Array:
    changed = array.copy()
    changed[1] = np.nextafter(changed[1], np.float32(9))
    return changed


@pytest.mark.parametrize(
    "spoil",
    [
        change_one,
        lambda array: -array,  # -0.0 == 0.0
        lambda array: array[:-1],
        lambda array: array.reshape(2, 2),
        lambda array: array[::-1],
    ],
)
def test_a_copy_that_differs_in_a_bit_is_caught(spoil: Callable[[Array], Array]) -> None:
    went_in = np.array([0.0, 1.0, 2.0, 3.0], np.float32)
    assert bit_equal([went_in.astype(np.float64)], {"x": went_in}) == Verdict("exact", 0.0, 0.0)
    assert bit_equal([spoil(went_in)], {"x": went_in}).numerics == "mismatch"


def test_a_lost_sign_of_zero_is_a_difference() -> None:
    zeros = np.array([0.0, 1.0])
    verdict = bit_equal(np.array([-0.0, 1.0]), {"x": zeros})
    assert verdict.detail == "output 0 differs from what went in"


def test_copied_integers_booleans_and_nan_are_exact() -> None:
    inputs = {"i": np.arange(3), "b": np.array([True, False]), "f": np.array([np.nan, 1.0])}
    assert bit_equal(list(inputs.values()), inputs).numerics == "exact"


def test_a_lost_output_is_counted() -> None:
    inputs = {"a": np.ones(2), "b": np.ones(2)}
    assert bit_equal(np.ones(2), inputs).detail == "1 outputs where 2 went in"


def test_nothing_copied_is_no_exact_copy() -> None:
    assert bit_equal([], {}).numerics == "mismatch"


def sketched(left: np.ndarray, right: np.ndarray) -> dict[str, np.ndarray]:
    return parts("", Product(left, right))


def test_a_sketch_accepts_a_right_product_and_catches_one_wrong_element() -> None:
    rng = np.random.default_rng(3)
    a, b = (rng.standard_normal((1000, 1000)).astype(np.float32) for _ in range(2))
    expected = sketched(a.astype(np.float64), b.astype(np.float64))
    right = (a @ b).astype(np.float64)
    assert compare({"": right}, expected, DTYPES["float32"], 1000).numerics == "match"
    wrong = right.copy()
    wrong[501, 77] *= 2  # not among the rows that are compared in full
    verdict = compare({"": wrong}, expected, DTYPES["float32"], 1000)
    assert verdict.numerics == "mismatch"
    assert verdict.detail is not None
    assert verdict.detail.startswith("output (projected) is off by")


def test_a_sketch_tells_a_wrong_shape_and_nan() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.standard_normal((70, 30)), rng.standard_normal((30, 90))
    expected = sketched(a, b)
    assert compare({"": (a @ b).T}, expected, DTYPES["float64"], 30).numerics == "mismatch"
    holes = a @ b
    holes[3, 3] = np.nan
    assert compare({"": holes}, expected, DTYPES["float64"], 30).numerics == "mismatch"
    assert compare({"": a @ b}, expected, DTYPES["float64"], 30).numerics == "match"


def test_a_sketch_catches_a_doubled_element_of_bfloat16_and_accepts_its_rounding() -> None:
    rng = np.random.default_rng(5)
    a, b = (rounded(rng.standard_normal((1024, 256)), DTYPES["bfloat16"]) for _ in range(2))
    exact = a.astype(np.float64) @ b.T.astype(np.float64)
    expected = sketched(a.astype(np.float64), b.T.astype(np.float64))
    right = rounded(exact, DTYPES["bfloat16"]).astype(np.float64)
    assert compare({"": right}, expected, DTYPES["bfloat16"], 256).numerics == "match"
    typical = np.argwhere((np.abs(exact) > exact.std()) & (np.abs(exact) < 1.1 * exact.std()))
    caught = 0
    for row, column in typical[:: len(typical) // 20][:20]:
        wrong = right.copy()
        wrong[row, column] *= 2
        caught += compare({"": wrong}, expected, DTYPES["bfloat16"], 256).numerics == "mismatch"
    assert caught == 20
