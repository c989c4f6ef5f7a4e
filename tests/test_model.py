from __future__ import annotations

import doctest
import math
import re
from dataclasses import FrozenInstanceError, fields
from typing import get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devbench import errors, model
from devbench.errors import DevbenchError, UsageError, unknown
from devbench.model import (
    COLUMNS,
    DTYPES,
    Case,
    Device,
    Result,
    Target,
    Work,
    dtype,
    format_params,
    format_value,
)

# ---- dtypes


def test_eps_is_the_distance_from_one_to_the_next_number() -> None:
    import ml_dtypes
    import numpy as np

    for name, one in DTYPES.items():
        if name == "tfloat32":  # numpy has none: 10 bits of fraction, as in a float16
            assert (one.itemsize, one.eps, one.storage) == (4, DTYPES["float16"].eps, "float32")
            continue
        numpy_type = np.dtype(getattr(ml_dtypes, name, None) or name)
        assert one.itemsize == numpy_type.itemsize
        assert one.is_float == (one.eps is not None)
        if one.eps is not None:
            assert one.eps == float(ml_dtypes.finfo(numpy_type).eps)  # type: ignore[no-untyped-call]


def test_an_unknown_dtype_is_answered_with_close_matches() -> None:
    with pytest.raises(UsageError, match="there is no dtype 'flaot32'; did you mean 'float32'"):
        dtype("flaot32")


# ---- ids


@pytest.mark.parametrize(
    ("value", "text"),
    [(1024, "1024"), (True, "true"), (False, "false"), ("float32", "float32"), (0.5, "0.5")],
)
def test_values_read_in_a_case_id_as_they_are_typed(value: model.ParamValue, text: str) -> None:
    assert format_value(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_in_a_case_id_loses_no_digit(value: float) -> None:
    assert float(format_value(value)) == value


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (Target("torch", ("cpu",)), "torch:cpu"),
        (Target("torch", ("cpu",), 1), "torch:cpu;threads=1"),
        (Target("torch", ("cuda:0", "cuda:1", "cuda:2")), "torch:cuda:0-2"),
        (Target("tensorflow", ("GPU:1", "GPU:2"), 4), "tensorflow:GPU:1-2;threads=4"),
        (Target("torch", ("cuda:0", "cuda:2")), "torch:cuda:0+cuda:2"),
        (Target("torch", ("cuda:1", "cuda:0")), "torch:cuda:1+cuda:0"),
        (Target("torch", ("cpu", "cuda:0")), "torch:cpu+cuda:0"),
        (Target("torch", ("cuda:0", "xpu:1")), "torch:cuda:0+xpu:1"),
    ],
)
def test_a_target_reads_as_a_person_would_write_it(target: Target, text: str) -> None:
    assert str(target) == text
    assert Target.from_json(target.to_json()) == target


def test_a_case_id_names_benchmark_params_and_target() -> None:
    target = Target("torch", ("cuda:0",))
    case = Case("suite", "matmul", (("n", 1024), ("dtype", "float32")), target)
    assert case.id == "matmul[n=1024,dtype=float32]@torch:cuda:0"
    assert format_params({}) == ""


def test_cases_are_equal_whatever_work_they_declare() -> None:
    target = Target("torch", ("cpu",))
    assert Case("s", "b", (), target, Work(flops=1)) == Case("s", "b", (), target, Work(flops=2))


def test_a_device_is_known_by_framework_and_address() -> None:
    gpu = Device("torch", "cuda:0", "cuda", "A GPU", "GPU-1234")
    assert (gpu.id, gpu.is_cpu) == ("torch:cuda:0", False)
    assert Device("torch", "cpu", "cpu", "CPU", "cpu").is_cpu


# ---- work


def test_work_that_is_possible_has_no_problem() -> None:
    assert Work().problems() == []
    assert Work(flops=2 * 10**15, bytes=0, items=2.5, footprint=1, terms=10).problems() == []


def test_bytes_over_what_does_not_exist_are_named() -> None:
    assert "over='wifi'; there is: memory, h2d" in Work(bytes=1, over="wifi").problems()[0]


@pytest.mark.parametrize("value", [-1, math.nan, math.inf, -math.inf, 10**400])
@pytest.mark.parametrize("name", [item.name for item in fields(Work) if item.name != "over"])
def test_work_that_is_negative_or_not_finite_is_named(name: str, value: float) -> None:
    (problem,) = Work(**{name: value}).problems()  # type: ignore[arg-type]
    assert problem.startswith(f"work gives {name}=")
    assert "finite and not negative" in problem


@pytest.mark.parametrize("value", ["1e9", True, [1]])
def test_work_that_is_no_number_is_named(value: object) -> None:
    (problem,) = Work(flops=value).problems()  # type: ignore[arg-type]
    assert problem == f"work gives flops={value!r}, which is not a number"


# ---- records


def test_every_column_of_the_table_says_its_unit_and_meaning() -> None:
    assert list(COLUMNS) == [item.name for item in fields(Result)]
    hints = get_type_hints(Result)
    for name, (unit, doc) in COLUMNS.items():
        assert doc, name
        if float in get_args(hints[name]):
            assert unit, f"{name} is a quantity without a unit"


def test_records_are_frozen() -> None:
    records: list[tuple[object, str]] = [
        (DTYPES["int8"], "name"),
        (Work(), "flops"),
        (Target("t", ()), "threads"),
    ]
    for record, name in records:
        with pytest.raises(FrozenInstanceError):
            setattr(record, name, 1)


# ---- errors


def test_the_tree_of_errors_in_the_page_is_the_one_in_the_code() -> None:
    def tree(cls: type, depth: int = 0) -> list[tuple[int, str]]:
        subclasses: list[type] = cls.__subclasses__()
        children = [one for one in subclasses if one.__module__ == errors.__name__]
        return [(depth, cls.__name__), *(e for child in children for e in tree(child, depth + 1))]

    drawn = re.findall(r"^    ([│├└─ ]*)([A-Z]\w+) {2,}\S", errors.__doc__ or "", re.MULTILINE)
    assert [(len(prefix) // 4, name) for prefix, name in drawn] == tree(DevbenchError)


def test_exit_codes_tell_usage_from_nothing_measured_and_from_lack_of_time() -> None:
    codes = {cls.__name__: cls.exit_code for cls in _descendants(DevbenchError)}
    assert {name for name, code in codes.items() if code == 2} == {
        "UsageError",
        "DeclarationError",
        "StoreError",
        "RunFileError",
    }
    assert codes["NothingMeasured"] == 3
    assert codes["BudgetExhausted"] == 124


def _descendants(cls: type[DevbenchError]) -> list[type[DevbenchError]]:
    own = [one for one in cls.__subclasses__() if one.__module__ == errors.__name__]
    return [*own, *(one for child in own for one in _descendants(child))]


def test_the_example_in_the_docstring_of_unknown_is_true() -> None:
    assert doctest.testmod(errors) == (0, 1)


@pytest.mark.parametrize(
    ("given_name", "known", "text"),
    [
        ("zzz", ["a", "b"], "there is no x 'zzz'; known: a, b"),
        ("zzz", [], "there is no x 'zzz'"),
        ("ab", ["abc", "abd"], "there is no x 'ab'; did you mean 'abd' or 'abc'? Known: abc, abd"),
    ],
)
def test_an_unknown_name_is_answered_with_what_there_is(
    given_name: str, known: list[str], text: str
) -> None:
    assert unknown("x", given_name, known) == text
    assert unknown("x", given_name, known, "Look there") == f"{text}. Look there"


def test_many_known_names_do_not_bury_the_close_match() -> None:
    assert unknown("x", "name3", [f"name{i}" for i in range(30)]).endswith("?")
