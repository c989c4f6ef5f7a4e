from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devbench.declare import Benchmark, benchmark
from devbench.errors import DeclarationError, UsageError
from devbench.measure.inputs import as_reference, case_dtype, draw, held_bytes, rounded
from devbench.measure.tree import leaves
from devbench.model import DTYPES, dtype

Rng = np.random.Generator


def declare(inputs: Callable[[Rng], Any] | None, name: str = "probe") -> Benchmark:
    """A benchmark that draws what `inputs` draws."""

    class Probe:
        def torch(self) -> Callable[[], None]:
            return lambda: None

    if inputs is not None:
        method = inputs
        Probe.inputs = lambda self, rng, n: method(rng)  # type: ignore[attr-defined]
    return benchmark(name=name, axes={"n": [1, 2], "dtype": ["float32", "float16"]}, size="n")(
        Probe
    )


def normal(rng: Rng) -> dict[str, Any]:
    return {"a": rng.standard_normal((3, 4)), "more": [{"w": rng.standard_normal(5)}]}


def params(n: int = 1, dtype: str = "float32") -> dict[str, Any]:
    return {"n": n, "dtype": dtype}


def digest(inputs: Mapping[str, Any]) -> str:
    return hashlib.sha256(
        b"".join(np.ascontiguousarray(leaf).tobytes() for _, leaf in leaves(inputs))
    ).hexdigest()


# ---- the same numbers everywhere

SCRIPT = """
import hashlib, numpy as np
from devbench.declare import benchmark
from devbench.measure.inputs import draw

@benchmark(name="probe", axes={"n": [1]})
class Probe:
    def inputs(self, rng, n): return {"a": rng.standard_normal(1000)}
    def torch(self): return lambda: None

print(hashlib.sha256(draw(Probe, {"n": 1}, 7)["a"].tobytes()).hexdigest())
"""


def test_two_processes_draw_the_same_numbers(tmp_path: Path) -> None:
    script = tmp_path / "draws.py"
    script.write_text(SCRIPT)
    here = draw(declare(lambda rng: {"a": rng.standard_normal(1000)}), {"n": 1}, 7)
    there = [
        subprocess.run(
            [sys.executable, "-X", f"utf8={flag}", script],
            check=True,
            capture_output=True,
            text=True,
            env={"PYTHONHASHSEED": str(flag)},
        ).stdout.strip()
        for flag in (0, 1)
    ]
    assert there == [digest(here), digest(here)]


def test_inputs_depend_on_seed_params_and_name() -> None:
    base = digest(draw(declare(normal), params(), 0))
    assert digest(draw(declare(normal), params(), 0)) == base
    assert digest(draw(declare(normal), params(), 1)) != base
    assert digest(draw(declare(normal), params(2), 0)) != base
    assert digest(draw(declare(normal, "other"), params(), 0)) != base


def test_an_axis_that_inputs_do_not_ask_for_changes_nothing() -> None:
    probe = benchmark(name="probe", axes={"n": [1], "phase": ["forward", "backward"]})(
        type(
            "Probe",
            (),
            {
                "__module__": __name__,
                "inputs": lambda self, rng, n: {"a": rng.standard_normal(9)},
                "torch": lambda self: lambda: None,
            },
        )
    )
    one, other = (draw(probe, {"n": 1, "phase": phase}, 0) for phase in ("forward", "backward"))
    assert digest(one) == digest(other)


def test_a_narrower_case_starts_from_the_same_numbers() -> None:
    wide = draw(declare(normal), params(dtype="float64"), 3)
    narrow = draw(declare(normal), params(dtype="bfloat16"), 3)
    for (_, one), (_, other) in zip(leaves(wide), leaves(narrow), strict=True):
        np.testing.assert_array_equal(rounded(one, DTYPES["bfloat16"]), other)


def test_nesting_survives_drawing() -> None:
    assert [path for path, _ in leaves(draw(declare(normal), params(), 0))] == ["a", "more.0.w"]


def test_a_benchmark_without_inputs_has_none() -> None:
    assert draw(declare(None), params(), 0) == {}


def test_without_a_dtype_axis_floats_are_float32() -> None:
    assert case_dtype({"n": 1}).name == "float32"


def test_an_unknown_dtype_is_refused_with_close_matches() -> None:
    with pytest.raises(UsageError, match="did you mean 'bfloat16'"):
        case_dtype({"dtype": "bfloat"})


# ---- rounding

SINGLES = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.lists(SINGLES, min_size=1, max_size=30))
def test_rounding_to_bfloat16_agrees_with_another_implementation(numbers: list[float]) -> None:
    single = np.array(numbers, np.float32)
    with np.errstate(over="ignore"):
        expected = single.astype(ml_dtypes.bfloat16).astype(np.float32)
    ours = rounded(single, DTYPES["bfloat16"])
    np.testing.assert_array_equal(ours.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        (0x3F808000, 0x3F800000),  # halfway, below is even
        (0x3F818000, 0x3F820000),  # halfway, above is even
        (0x3F808001, 0x3F810000),
        (0x3F807FFF, 0x3F800000),
        (0xBF818000, 0xBF820000),
        (0x7F7FFFFF, 0x7F800000),  # beyond the largest
        (0x80000000, 0x80000000),  # minus zero
        (0x00000001, 0x00000000),
    ],
)
def test_bfloat16_rounds_to_nearest_even_on_the_bits(bits: int, expected: int) -> None:
    single = np.array(bits, np.uint32).view(np.float32)
    assert int(rounded(single, DTYPES["bfloat16"]).view(np.uint32)) == expected


@given(st.lists(st.floats(-65000, 65000), min_size=1, max_size=30))
def test_rounding_to_float16_rounds_once(numbers: list[float]) -> None:
    double = np.array(numbers)
    ours = rounded(double, DTYPES["float16"])
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours, double.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize("name", ["float64", "float32", "bfloat16", "float16"])
def test_rounding_what_is_rounded_changes_nothing(name: str) -> None:
    once = rounded(np.random.default_rng(0).standard_normal((20, 3)), DTYPES[name])
    np.testing.assert_array_equal(rounded(once, DTYPES[name]), once)


def test_inputs_that_took_long_are_kept_and_read_back_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devbench.measure.inputs.WORTH_KEEPING_S", 0.0)
    drawn: list[int] = []

    def counting(rng: Rng) -> dict[str, Any]:
        drawn.append(1)
        return normal(rng)

    probe = declare(counting)
    alone = draw(probe, params(), seed=1)
    kept = [draw(probe, params(), 1, tmp_path) for _ in range(2)]
    assert len(drawn) == 2
    assert {digest(one) for one in (alone, *kept)} == {digest(alone)}
    # Neither another seed nor another point takes them for its own, nor a narrower dtype.
    assert digest(draw(probe, params(), 2, tmp_path)) != digest(alone)
    assert digest(draw(probe, params(n=2), 1, tmp_path)) != digest(alone)
    narrow = draw(probe, params(dtype="float16"), 1, tmp_path)
    assert len(drawn) == 5
    assert digest(narrow) == digest(draw(probe, params(dtype="float16"), 1))


def test_inputs_for_which_the_disk_has_no_room_are_drawn_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devbench.measure.inputs.WORTH_KEEPING_S", 0.0)
    monkeypatch.setattr("devbench.measure.inputs.PART_OF_DISK", 0.0)
    draw(declare(normal), params(), 1, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_rounding_does_not_touch_the_array_it_was_given() -> None:
    given_in = np.linspace(0, 1, 7, dtype=np.float32)
    before = given_in.copy()
    for name in ("bfloat16", "float32"):
        rounded(given_in, DTYPES[name])[:] = -1
        np.testing.assert_array_equal(given_in, before)


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint8, np.bool_])
def test_integers_and_booleans_stay_as_they_are(dtype: type) -> None:
    array: np.ndarray = np.array([0, 1, 1, 0]).astype(dtype)
    drawn = draw(declare(lambda rng: {"labels": array}), params(dtype="float16"), 0)
    assert drawn["labels"].dtype == dtype
    np.testing.assert_array_equal(drawn["labels"], array)


@pytest.mark.parametrize("name", ["float64", "float32", "bfloat16", "float16", "int8"])
def test_reversed_and_broadcast_arrays_become_plain_ones(name: str) -> None:
    target = DTYPES[name] if name != "int8" else DTYPES["float32"]
    kind = np.int8 if name == "int8" else np.float64
    for array in (np.arange(1, 7, dtype=kind)[::-1], np.broadcast_to(np.ones(1, kind), (3, 2))):
        assert rounded(array, target).flags.c_contiguous


def test_a_scalar_keeps_its_shape() -> None:
    for name in ("float64", "float32", "bfloat16", "float16"):
        assert rounded(np.array(1.5), DTYPES[name]).shape == ()


def test_references_compute_at_float64_from_the_rounded_inputs() -> None:
    drawn = draw(declare(lambda rng: {"x": rng.random(9), "i": np.arange(9)}), params(), 0)
    exact = as_reference(drawn)
    assert (exact["x"].dtype, exact["i"].dtype) == (np.float64, drawn["i"].dtype)
    np.testing.assert_array_equal(exact["x"], drawn["x"])


# ---- what is refused


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (lambda rng: [rng.random(3)], "must return a dict of arrays, not list"),
        (lambda rng: None, "must return a dict of arrays, not NoneType"),
        (lambda rng: {"a": {"b": [1.0]}}, "a.b.0 is a float; give numpy arrays"),
        (lambda rng: {"a": rng.random(3) * 1j}, "a has dtype complex128"),
        (lambda rng: {"a": np.array(["x"])}, "a has dtype <U1"),
        (lambda rng: {"a": np.array([object()])}, "a has dtype object"),
        (lambda rng: {"a": np.array([1.0, np.nan])}, "a holds NaN"),
        (lambda rng: {"a": np.float64(np.nan)}, "a holds NaN"),
        (lambda rng: {"a": [np.array([1.0]), np.array([-np.inf, 1])]}, "a.1 holds NaN"),
        (lambda rng: {"a": np.array([1.0, 1e300])}, "too large for float32"),
        (lambda rng: {"a": np.zeros((2, 2))}, "a is all zeros"),
        (lambda rng: {"a": np.full(4, 1e-60)}, "a is all zeros in float32"),
        (lambda rng: {"n": rng.random(3)}, "'n' is the name of another argument"),
        (lambda rng: {"ctx": rng.random(3)}, "'ctx' is the name of another argument"),
    ],
)
def test_unusable_inputs_are_refused_with_file_and_line(
    inputs: Callable[[Rng], Any], message: str
) -> None:
    with pytest.raises(DeclarationError, match=re.escape(message)) as caught:
        draw(declare(inputs), params(), 0)
    assert re.match(rf"{re.escape(__file__)}:\d+: probe\.inputs", str(caught.value))


def test_numbers_too_large_for_float16_are_refused_there_only() -> None:
    probe = declare(lambda rng: {"a": np.array([1.0, 70000.0])})
    assert draw(probe, params(dtype="bfloat16"), 0)["a"][1] == pytest.approx(70000, rel=2**-8)
    with pytest.raises(DeclarationError, match="too large for float16"):
        draw(probe, params(dtype="float16"), 0)


def test_a_single_zero_is_a_number_like_any_other() -> None:
    assert draw(declare(lambda rng: {"bias": np.zeros(1)}), params(), 0)["bias"] == 0


# ---- against the frameworks

TORCH = """
import sys, numpy as np, torch
from devbench.measure.inputs import rounded
from devbench.model import DTYPES, dtype
numbers = np.random.default_rng(5).standard_normal(200_000).astype(np.float32) * 100
for name in ("bfloat16", "float16", "float32"):
    theirs = torch.from_numpy(numbers).to(getattr(torch, name)).to(torch.float32).numpy()
    assert (rounded(numbers, DTYPES[name]).view(np.uint32) == theirs.view(np.uint32)).all(), name
print("same bits")
"""


@pytest.mark.torch
def test_rounding_gives_the_bits_that_torch_gives() -> None:
    done = subprocess.run([sys.executable, "-c", TORCH], check=True, capture_output=True, text=True)
    assert done.stdout == "same bits\n"


def test_held_bytes_count_floats_in_the_dtype_of_the_case_and_integers_in_their_own() -> None:
    tree = {
        "x": np.ones((3, 5), np.float32),
        "labels": [np.ones(7, np.int64)],
        "one": np.float64(1),
    }
    assert held_bytes(tree, dtype("bfloat16")) == 2 * 15 + 8 * 7 + 2
    assert held_bytes(tree, dtype("float64")) == 8 * 15 + 8 * 7 + 8
    assert held_bytes({}, dtype("float32")) == 0
