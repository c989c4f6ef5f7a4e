from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from devbench import Unsupported
from devbench.measure import sketch
from devbench_suites.matmul import _no_int8_in_torch
from tests.suites.harness import Child, builtin, verdict

MATMUL = builtin("matmul")
BATCHED = builtin("matmul_batched", "matmul")
SKINNY = builtin("matmul_skinny", "matmul")
ASPECTS = ["tall", "inner", "outer"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_the_product_is_right_and_its_flops_are_those_that_torch_counts(
    child: Child, dtype: str
) -> None:
    params: dict[str, Any] = {"n": 96, "dtype": dtype}
    answer = child.run(MATMUL, params)
    found = verdict(MATMUL[0], params, answer.inputs, answer.observed)
    assert found.numerics == "match", found
    swapped = answer.inputs | {"b": np.ascontiguousarray(answer.inputs["b"].T)}
    assert verdict(MATMUL[0], params, swapped, answer.observed).numerics == "mismatch"
    if answer.flops is not None:
        assert answer.flops == MATMUL[0].work(params).flops == 2 * 96**3


def test_int8_is_summed_in_int32_and_equal_to_the_last_bit(child: Child) -> None:
    params: dict[str, Any] = {"n": 96, "dtype": "int8"}
    answer = child.run(MATMUL, params)
    assert answer.inputs["a"].dtype == np.int8
    assert {answer.inputs["a"].min(), answer.inputs["a"].max()} == {-128, 127}
    assert answer.observed.dtype == np.int32
    found = verdict(MATMUL[0], params, answer.inputs, answer.observed)
    assert (found.numerics, found.rel_error, found.tolerance) == ("match", 0, 0)
    answer.observed[17, 3] += 1
    found = verdict(MATMUL[0], params, answer.inputs, answer.observed)
    assert found.numerics == "mismatch"


def test_sums_of_int8_that_overflow_are_caught() -> None:
    params: dict[str, Any] = {"n": 96, "dtype": "int8"}
    a, b = np.random.default_rng(1).integers(-128, 128, (2, 96, 96), np.int8)
    found = verdict(MATMUL[0], params, {"a": a, "b": b}, a @ b)
    assert found.numerics == "mismatch"


def test_a_large_int8_product_is_checked_by_rows_and_projections_exactly() -> None:
    a, b = np.random.default_rng(1).integers(-128, 128, (2, 2049, 2049), np.int8)
    few = {"a": a[:, :64], "b": b[:64]}  # few terms take less time
    product = MATMUL[0].call("reference", {"n": 2049, "dtype": "int8"}, **few)
    parts = sketch.parts("", product)
    right = a[:, :64].astype(np.float32) @ b[:64].astype(np.float32)  # exact below 2**24
    found = sketch.collect(parts)[""].projected_error(right.astype(np.float64))
    assert found == 0


def test_every_product_of_a_batch_is_right_and_counted(child: Child) -> None:
    params: dict[str, Any] = {"batch": 5, "n": 24, "dtype": "bfloat16"}
    answer = child.run(BATCHED, params)
    found = verdict(BATCHED[0], params, answer.inputs, answer.observed)
    assert found.numerics == "match", found
    shuffled = answer.observed[::-1]
    assert verdict(BATCHED[0], params, answer.inputs, shuffled).numerics == "mismatch"
    if answer.flops is not None:
        assert answer.flops == BATCHED[0].work(params).flops


def test_a_skinny_int8_product_is_exact(child: Child) -> None:
    params: dict[str, Any] = {"n": 80, "aspect": "inner", "dtype": "int8"}
    answer = child.run(SKINNY, params)
    assert verdict(SKINNY[0], params, answer.inputs, answer.observed).rel_error == 0


@pytest.mark.parametrize("aspect", ASPECTS)
def test_a_skinny_product_is_right_and_counted(child: Child, aspect: str) -> None:
    params: dict[str, Any] = {"n": 80, "aspect": aspect, "dtype": "float32"}
    answer = child.run(SKINNY, params)
    shape = {"tall": (80, 32), "inner": (32, 32), "outer": (80, 80)}[aspect]
    assert answer.observed.shape == shape
    found = verdict(SKINNY[0], params, answer.inputs, answer.observed)
    assert found.numerics == "match", found
    if answer.flops is not None:
        assert answer.flops == SKINNY[0].work(params).flops


def test_work_counts_each_matrix_once_in_its_own_width() -> None:
    work = MATMUL[0].work({"n": 100, "dtype": "float16"})
    assert work.bytes == work.footprint == 3 * 100 * 100 * 2
    assert work.terms == 100
    assert MATMUL[0].work({"n": 100, "dtype": "int8"}).bytes == (2 * 1 + 4) * 100 * 100
    work = BATCHED[0].work({"batch": 7, "n": 100, "dtype": "float32"})
    assert work.bytes == 7 * 3 * 100 * 100 * 4


@pytest.mark.parametrize(
    ("aspect", "numbers", "terms"),
    [
        ("tall", 1000 * 1000 + 2 * 32 * 1000, 1000),
        ("inner", 2 * 32 * 1000 + 32 * 32, 1000),
        ("outer", 1000 * 1000 + 2 * 32 * 1000, 32),
    ],
)
def test_work_of_a_skinny_product_follows_its_sides(aspect: str, numbers: int, terms: int) -> None:
    work = SKINNY[0].work({"n": 1000, "aspect": aspect, "dtype": "float32"})
    assert work.bytes == work.footprint == 4 * numbers
    assert work.terms == terms


def test_int8_is_refused_where_tensorflow_would_move_it_to_the_cpu() -> None:
    params: dict[str, Any] = {"n": 100, "dtype": "int8"}
    on_gpu: dict[str, Any] = {"ctx": SimpleNamespace(device="/GPU:0"), "a": None, "b": None}
    with pytest.raises(Unsupported, match="on CPUs only"):
        MATMUL[0].call("tensorflow", params, **on_gpu)


@pytest.mark.parametrize(
    ("left", "right", "is_cuda", "reason"),
    [
        ((32, 96), (96, 32), False, None),
        ((32, 96), (96, 32), True, None),
        ((5, 24, 24), (5, 24, 24), False, "several matrices at once"),
        ((100, 100), (100, 100), False, None),
        ((100, 100), (100, 100), True, "multiples of 8, not 100 × 100 by 100 × 100"),
        ((16, 16), (16, 16), True, "more than 16 rows"),
    ],
)
def test_an_int8_product_that_torch_lacks_is_refused_with_its_reason(
    left: tuple[int, ...], right: tuple[int, ...], is_cuda: bool, reason: str | None
) -> None:
    a = SimpleNamespace(shape=left, ndim=len(left), is_cuda=is_cuda)
    said = _no_int8_in_torch(a, SimpleNamespace(shape=right))
    assert said is None if reason is None else reason in (said or "")
