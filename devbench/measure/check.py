"""Is the result of a step right? Its output against the reference, and the reference itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from devbench.declare import Benchmark, Product, Step
from devbench.errors import DeclarationError
from devbench.measure import kept as kept_files
from devbench.measure import numerics, sketch
from devbench.measure.bench import Bench
from devbench.measure.inputs import as_reference, case_dtype, draw, held_bytes
from devbench.measure.tree import leaves, tree_map
from devbench.model import DType, ParamValue


def write_reference(
    benchmark: Benchmark, params: Mapping[str, ParamValue], seed: int, path: Path, kept: Path | None
) -> None:
    """Compute the declared reference at float64 and leave it in `path` as one array a leaf.
    kept: where inputs are kept."""
    inputs = as_reference(draw(benchmark, params, seed, kept))
    expected = benchmark.call("reference", params, **inputs)
    arrays: dict[str, np.ndarray] = {}
    for name, leaf in leaves(expected):
        arrays |= (
            sketch.parts(name, leaf) if isinstance(leaf, Product) else {name: np.asarray(leaf)}
        )
    kept_files.write(arrays, path)


def check(
    bench: Bench, step: Step, host: Any, first_result: Any, expected_file: Path
) -> dict[str, Any]:
    """Hold the first call of a fresh build against what its benchmark declares.

    host: the inputs. first_result: what the call returned. expected_file: the reference's values.
    Raises DeclarationError for an output that cannot be compared, or that changes from call to call
    though the step is not said to be stateful.
    """
    benchmark = bench.benchmark
    kind = benchmark.reference_kind
    if kind is None:
        return {"numerics": "unchecked", "numerics_detail": "the benchmark declares no reference"}
    observed = _output(bench, step, first_result)
    dtype, terms = case_dtype(bench.params), benchmark.work(bench.params).terms
    if not any(True for _ in leaves(observed)):
        raise DeclarationError(
            f"the output of {benchmark.name}.{bench.framework.name} holds nothing to compare; return "
            "what the step computed",
            benchmark.where,
        )
    if kind == "property":
        # The builder itself raises when its property does not hold, and it has not.
        verdict = numerics.Verdict("match")
    elif kind == "exact":
        verdict = numerics.bit_equal(observed, host)
    else:
        expected = kept_files.read(expected_file)
        if hasattr(benchmark.definition, "closed_form"):
            inputs = as_reference(host)
            more = benchmark.call("closed_form", bench.params, observed=observed, **inputs)
            expected |= dict(leaves(more))
        verdict = numerics.compare(dict(leaves(observed)), expected, dtype, terms)
    # Random numbers, which have a property only, are meant to differ.
    if kind != "property" and verdict.numerics != "mismatch" and not step.stateful:
        _refuse_change(bench, step, observed, None if kind == "exact" else dtype, terms)
    return {
        "numerics": verdict.numerics,
        "rel_error": verdict.rel_error,
        "tolerance": verdict.tolerance,
        "numerics_detail": verdict.detail,
        "output_bytes": held_bytes(observed, dtype),
    }


def _output(bench: Bench, step: Step, result: Any) -> Any:
    """What a call returned, as it is compared, on the host."""
    output = step.output(result) if step.output is not None else result
    bench.framework.synchronize(bench.address)
    return tree_map(lambda leaf: _on_host(bench, leaf), output)


def _refuse_change(bench: Bench, step: Step, first: Any, dtype: DType | None, terms: int) -> None:
    """A step that gives something else each time is timed doing something else each time.

    dtype: whose rounding is allowed; None where no bit may change.
    """
    if step.reset is not None:
        step.reset()
    second = _output(bench, step, step.run())
    before = dict(leaves(first))
    change = (
        numerics.bit_equal(second, before)
        if dtype is None
        else numerics.compare(second, before, dtype, terms)
    )
    if change.numerics == "mismatch":
        raise DeclarationError(
            f"{bench.benchmark.name}.{bench.framework.name} gives another output at its second call "
            f"({change.detail}); if that is meant, as in training, return Step(..., stateful=True)",
            bench.benchmark.where,
        )


def _on_host(bench: Bench, leaf: Any) -> np.ndarray:
    array = bench.framework.numpy(leaf)
    if array is None:
        array = np.array(leaf)  # the next step may write into it
    if array.dtype.kind not in "fiub":
        raise DeclarationError(
            f"the output of {bench.benchmark.name}.{bench.framework.name} holds a {type(leaf).__name__}, "
            "which cannot be compared with a reference; return tensors, arrays or numbers, or give "
            "Step(output=...)",
            bench.benchmark.where,
        )
    return array
