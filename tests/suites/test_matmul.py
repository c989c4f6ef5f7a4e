from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.suites.harness import Child, builtin, verdict

MATMUL = builtin("matmul")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_product_is_that_of_the_reference(child: Child, dtype: str) -> None:
    params = {"n": 96, "dtype": dtype}
    answer = child.run(MATMUL, params)
    found = verdict(MATMUL[0], params, answer.inputs, answer.observed)
    assert found.numerics == "match", found


def test_a_transposed_factor_is_caught(child: Child) -> None:
    params = {"n": 96, "dtype": "bfloat16"}
    answer = child.run(MATMUL, params)
    swapped = answer.inputs | {"b": np.ascontiguousarray(answer.inputs["b"].T)}
    assert verdict(MATMUL[0], params, swapped, answer.observed).numerics == "mismatch"


@pytest.mark.torch
def test_declared_flops_are_those_that_torch_counts(torch_child: Child) -> None:
    params: dict[str, Any] = {"n": 96, "dtype": "float32"}
    assert torch_child.run(MATMUL, params).flops == MATMUL[0].work(params).flops == 2 * 96**3


def test_work_counts_each_matrix_once_in_its_own_width() -> None:
    work = MATMUL[0].work({"n": 100, "dtype": "float16"})
    assert work.bytes == work.footprint == 3 * 100 * 100 * 2
    assert work.terms == 100
