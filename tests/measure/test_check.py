"""The check of a first call, with a framework that is numpy."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from devbench import Context, Step, benchmark
from devbench.declare import Benchmark
from devbench.errors import DeclarationError
from devbench.measure.bench import Bench
from devbench.measure.check import check, write_reference
from tests.plugins.devbench_fake import FakeFramework

Make = Callable[[np.ndarray], Step]


def declared(make: Make, kind: Literal["function", "exact", "property"]) -> Benchmark:
    class Declared:
        def inputs(self, rng: np.random.Generator) -> dict[str, Any]:
            return {"x": rng.standard_normal(8)}

        def fake(self, ctx: Context, x: np.ndarray) -> Step:
            return make(x)

    reference = (lambda self, x: x) if kind == "function" else kind
    Declared.reference = reference  # type: ignore[attr-defined]
    return benchmark(name="declared", axes={})(Declared)


def checked(make: Make, kind: Literal["function", "exact", "property"], folder: Path) -> Any:
    one = declared(make, kind)
    file = folder / "expected.npz"
    if kind == "function":
        write_reference(one, {}, 0, file, None)
    bench = Bench(one, {}, FakeFramework(), ("cpu",), 1, 0, folder)
    with bench.build() as (step, host):
        return check(bench, step, host, step.run(), file)


def growing(x: np.ndarray) -> Step:
    calls = [0]

    def run() -> np.ndarray:
        calls[0] += 1
        return x * np.float32(calls[0])

    return Step(run)


def one_bit_at_the_second_call(x: np.ndarray) -> Step:
    calls = [0]

    def run() -> np.ndarray:
        calls[0] += 1
        copy = x.copy()
        copy.view(np.uint32)[3] ^= calls[0] - 1
        return copy

    return Step(run)


@pytest.mark.parametrize("kind", ["function", "exact"])
def test_a_stateless_step_whose_output_changes_is_named_with_its_line(
    kind: Literal["function", "exact"], tmp_path: Path
) -> None:
    with pytest.raises(
        DeclarationError, match=r"test_check\.py:\d+: .*another output at its second"
    ):
        checked(growing, kind, tmp_path)


def test_a_copy_may_not_differ_in_a_bit_from_call_to_call_and_a_result_may(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match="another output at its second call"):
        checked(one_bit_at_the_second_call, "exact", tmp_path)
    assert checked(one_bit_at_the_second_call, "function", tmp_path)["numerics"] == "match"


def test_a_step_that_says_that_it_is_stateful_is_called_once(tmp_path: Path) -> None:
    def make(x: np.ndarray) -> Step:
        return Step(growing(x).run, stateful=True)

    assert checked(make, "exact", tmp_path)["numerics"] == "exact"


def test_what_is_drawn_may_differ_each_time(tmp_path: Path) -> None:
    assert checked(growing, "property", tmp_path)["numerics"] == "match"


@pytest.mark.parametrize("kind", ["function", "exact", "property"])
@pytest.mark.parametrize("nothing", [[], {}, {"a": []}], ids=str)
def test_an_output_without_a_number_in_it_is_named_with_its_line(
    nothing: Any, kind: Literal["function", "exact", "property"], tmp_path: Path
) -> None:
    with pytest.raises(DeclarationError, match=r"test_check\.py:\d+: .*holds nothing to compare"):
        checked(lambda x: Step(lambda: nothing), kind, tmp_path)


def test_a_value_where_the_reference_has_names_is_told_as_such(tmp_path: Path) -> None:
    found = checked(lambda x: Step(lambda: {"y": x}), "function", tmp_path)
    assert found["numerics_detail"] == "the output lacks a lone value and has besides y"


#: Steps of torch on a CPU, where a tensor may lie in the very memory of a host array.
IN_PLACE = """
import json
from pathlib import Path
import numpy as np, torch
from devbench import Step, benchmark
from devbench.errors import DeclarationError
from devbench.frameworks.torch import TorchFramework
from devbench.measure.bench import Bench
from devbench.measure.check import check, write_reference

framework = TorchFramework()
framework.start(None, 1)

def told(make, reference):
    class Declared:
        def inputs(self, rng):
            return {"x": rng.standard_normal(8), "n": np.arange(8)}

        def torch(self, ctx, x, n):
            return make(x, n)

    Declared.reference = reference
    one = benchmark(name="declared", axes={})(Declared)
    if callable(reference):
        write_reference(one, {}, 0, Path("expected"), None)
    bench = Bench(one, {}, framework, ("cpu",), 1, 0, Path())
    with bench.build() as (step, host):
        try:
            return check(bench, step, host, step.run(), Path("expected"))["numerics"]
        except DeclarationError as error:
            return str(error)

array = np.arange(8)
print(json.dumps({
    "doubles": told(lambda x, n: lambda: (x.mul_(2), n), "exact"),
    "counts": told(lambda x, n: lambda: torch.add(n, 1, out=n), lambda self, n: n + 1),
    "counts in numpy": told(lambda x, n: lambda: np.add(array, 1, out=array), lambda self, n: n + 1),
}))
"""


@pytest.mark.torch
def test_a_step_of_torch_that_writes_into_its_inputs_on_a_cpu_is_not_held_against_itself(
    tmp_path: Path,
) -> None:
    file = tmp_path / "in_place.py"
    file.write_text(IN_PLACE)
    done = subprocess.run(
        [sys.executable, str(file)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["doubles"] == "mismatch"
    for name in ("counts", "counts in numpy"):
        assert "gives another output at its second call" in told[name], name
