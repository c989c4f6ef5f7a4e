from __future__ import annotations

import inspect
import sys
from types import FunctionType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest

from devbench.errors import UsageError
from devbench.measure.inputs import draw
from devbench_suites._draws import check_draws
from tests.suites.harness import SEED, Child, builtin, verdict

NAMES = (
    "elementwise",
    "reduction",
    "transpose",
    "reshape",
    "gather_scatter",
    "sort",
    "random_numbers",
)
SUITES = {name: builtin(name, "tensor_ops") for name in NAMES}
POINTS: list[tuple[str, dict[str, Any]]] = [
    (name, {"op": op, "n": 4**8} if op else {"n": 4**8})
    for name in NAMES
    if name != "random_numbers"
    for op in SUITES[name][0].axes.get("op", ("",))
]


@pytest.mark.parametrize(("name", "params"), POINTS)
def test_the_result_is_that_of_the_reference(
    child: Child, name: str, params: dict[str, Any]
) -> None:
    answer = child.run(SUITES[name], params)
    found = verdict(SUITES[name][0], params, answer.inputs, answer.observed)
    assert found.numerics == "match", found
    if name not in ("elementwise", "reduction") or params["op"] == "row_max":
        assert found.rel_error == 0  # numbers are moved or chosen, and none is computed


@pytest.mark.parametrize(("name", "params"), POINTS)
def test_no_function_of_tensorflow_is_compiled_with_arguments_that_are_not_given(
    monkeypatch: pytest.MonkeyPatch, name: str, params: dict[str, Any]
) -> None:
    """Binding the defaults of a public one, six of tf.gather's, is paid in each call."""
    monkeypatch.setitem(sys.modules, "tensorflow", MagicMock())
    compiled: list[Any] = []

    def compile_(function: Any) -> MagicMock:
        compiled.append(function)
        return MagicMock()

    context = SimpleNamespace(device="/GPU:0", compile=compile_)
    benchmark = SUITES[name][0]
    inputs = {key: MagicMock() for key in draw(benchmark, params, SEED)}
    benchmark.call("tensorflow", params, ctx=context, **inputs)
    assert compiled
    for function in compiled:
        assert isinstance(function, FunctionType), function
        arguments = inspect.signature(function).parameters.values()
        assert all(argument.default is argument.empty for argument in arguments)


def test_a_scatter_in_place_of_a_gather_is_caught() -> None:
    params: dict[str, Any] = {"op": "gather", "n": 4**6}
    inputs = draw(SUITES["gather_scatter"][0], params, SEED)
    scattered = np.empty_like(inputs["x"])
    scattered[inputs["index"]] = inputs["x"]
    found = verdict(SUITES["gather_scatter"][0], params, inputs, scattered)
    assert found.numerics == "mismatch"


def test_one_number_left_out_of_a_sum_is_caught() -> None:
    for op in ("row_sum", "column_sum"):
        params = {"op": op, "n": 4**10}
        x = np.random.default_rng(2).standard_normal((4**10 // 1024, 1024), np.float32)
        short = x.astype(np.float64)
        short[5, 7] = 0
        observed = short.sum(1 if op == "row_sum" else 0)
        assert verdict(SUITES["reduction"][0], params, {"x": x}, observed).numerics == "mismatch"


def test_a_reshape_that_copies_is_refused() -> None:
    definition: Any = SUITES["reshape"][0].definition
    with pytest.raises(RuntimeError, match="it was copied"):
        definition._refuse_copy(False)


def test_a_view_moves_nothing_at_any_size() -> None:
    assert {SUITES["reshape"][0].work({"n": n}).bytes for n in (4**6, 4**13)} == {0}


@pytest.mark.parametrize("op", ["uniform", "normal"])
def test_draws_have_the_moments_and_the_range_of_their_distribution(child: Child, op: str) -> None:
    """The builder's own check has passed by then; here it is done once more, from outside."""
    first = child.run(SUITES["random_numbers"], {"op": op, "n": 4**8}).observed
    assert first.shape == (4**8,)
    check_draws(op, first, np.zeros(4**8))


def test_right_draws_pass_the_check_at_every_size() -> None:
    rng = np.random.default_rng(5)
    for n in (1000, 10**6):
        for _ in range(20):
            check_draws("uniform", rng.random(n, np.float32), np.zeros(n))
            check_draws("normal", rng.standard_normal(n, np.float32), np.zeros(n))


@pytest.mark.parametrize(
    ("op", "spoil", "complaint"),
    [
        ("uniform", lambda x: x * 0.99, "the mean"),
        ("normal", lambda x: x + 0.02, "the mean"),
        ("normal", lambda x: x * 1.02, "the variance"),
        ("uniform", lambda x: np.full_like(x, 0.5), "the variance"),
        ("uniform", lambda x: np.where(x > 0.9999, 1.0, x), r"should be in \[0"),
        ("uniform", lambda x: x - 1e-5, r"should be in \[0"),
        ("normal", lambda x: np.append(x[1:], 9.0), "reach from"),
        ("uniform", lambda x: np.append(x[1:], np.nan), "the mean"),
    ],
)
def test_draws_of_another_distribution_are_refused(op: str, spoil: Any, complaint: str) -> None:
    rng = np.random.default_rng(5)
    n = 10**6
    right = rng.random(n) if op == "uniform" else rng.standard_normal(n)
    with pytest.raises(ValueError, match=complaint):
        check_draws(op, spoil(right), np.zeros(n))


def test_a_generator_that_starts_over_is_refused() -> None:
    numbers = np.random.default_rng(5).random(1000)
    with pytest.raises(ValueError, match="the same numbers"):
        check_draws("uniform", numbers, numbers)


def test_bytes_are_what_must_be_read_and_written_once() -> None:
    n = 4**8
    rows = n // 64
    for name, params, moved in (
        ("elementwise", {"op": "chain"}, 3 * 4 * n),
        ("elementwise", {"op": "normal_density"}, 2 * 4 * n),
        ("reduction", {"op": "row_sum"}, 4 * (n + n // 1024)),
        ("reduction", {"op": "column_sum"}, 4 * (n + 1024)),
        ("transpose", {}, 2 * 4 * n),
        ("gather_scatter", {"op": "gather"}, 2 * 4 * n + 8 * rows),
        ("sort", {}, 2 * 4 * n),
        ("random_numbers", {"op": "normal"}, 4 * n),
    ):
        assert SUITES[name][0].work(params | {"n": n}).bytes == moved, name


def test_a_count_that_makes_no_matrix_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="multiple of it, not 1000"):
        SUITES["reduction"][0].work({"op": "row_sum", "n": 1000})
    with pytest.raises(UsageError, match="must be a square, not 1000"):
        SUITES["transpose"][0].work({"n": 1000})
