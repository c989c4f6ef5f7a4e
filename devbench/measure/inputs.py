"""Inputs of a case: drawn on the host from a seed, rounded to the case's dtype, equal everywhere."""

from __future__ import annotations

import hashlib
import inspect
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from devbench.declare import ARGUMENTS, ENGINE_AXES, Benchmark
from devbench.errors import DeclarationError
from devbench.measure import kept as files
from devbench.measure.tree import leaves, tree_map
from devbench.model import DType, ParamValue, dtype, format_params

#: What is drawn sooner is not worth a file; what is larger than this part of the free disk gets none.
WORTH_KEEPING_S: Final = 0.05
PART_OF_DISK: Final = 0.1


def case_dtype(params: Mapping[str, ParamValue]) -> DType:
    """The dtype that floats are rounded to: the axis of that name, else float32."""
    return dtype(str(params.get("dtype", "float32")))


def draw(
    benchmark: Benchmark, params: Mapping[str, ParamValue], seed: int, kept: Path | None = None
) -> dict[str, Any]:
    """The inputs of a case as nested host arrays, floats rounded to its dtype.

    The seed covers the benchmark and the axes that `inputs` asks for, without the dtype: cases that
    differ in anything else (their phase, dtype or caches) start from the same numbers.
    kept: a folder in which they are kept for further visits, by processes of the same code only.

    Raises DeclarationError for inputs that are no dict of arrays, not finite, or all zeros:
    multiplying zeros draws less power and runs faster on a GPU.
    """
    if not hasattr(benchmark.definition, "inputs"):
        return {}
    asked = inspect.signature(benchmark.definition.inputs).parameters.values()
    named = {one.name for one in asked}
    every = any(one.kind is one.VAR_KEYWORD for one in asked)
    point = {
        name: value
        for name, value in params.items()
        if name in named or (every and name not in {"dtype", *ENGINE_AXES})
    }
    target = case_dtype(params)
    if kept is None:
        return _drawn(benchmark, params, point, target, seed)
    file = kept / f"inputs-{_digest(benchmark, point).hex()}-{target.name}-{seed}"
    if file.exists():
        return files.read(file)  # type: ignore[no-any-return]
    start = time.monotonic()
    inputs = _drawn(benchmark, params, point, target, seed)
    if time.monotonic() - start >= WORTH_KEEPING_S and _fits(inputs, kept):
        files.write(inputs, file)
    return inputs


def _drawn(
    benchmark: Benchmark,
    params: Mapping[str, ParamValue],
    point: Mapping[str, ParamValue],
    target: DType,
    seed: int,
) -> dict[str, Any]:
    """point: those of the params that `inputs` asks for."""
    of_seed = {name: value for name, value in point.items() if name != "dtype"}
    rng = np.random.default_rng([seed, int.from_bytes(_digest(benchmark, of_seed)[:8], "little")])
    drawn = benchmark.call("inputs", params, rng=rng)
    if not isinstance(drawn, Mapping):
        raise DeclarationError(
            f"{benchmark.name}.inputs must return a dict of arrays, not {type(drawn).__name__}",
            benchmark.where,
        )
    for name in drawn:
        if name in ARGUMENTS or name in benchmark.known_axes:
            raise DeclarationError(
                f"{benchmark.name}.inputs: {name!r} is the name of another argument; rename it",
                benchmark.where,
            )
    _refuse(benchmark, drawn, _foreign)
    inputs = {
        name: tree_map(lambda leaf: rounded(leaf, target), value) for name, value in drawn.items()
    }
    # Only now: numbers may leave the range of a narrow dtype.
    _refuse(benchmark, inputs, lambda leaf: _unfit(leaf, target))
    return inputs


def _digest(benchmark: Benchmark, point: Mapping[str, ParamValue]) -> bytes:
    return hashlib.sha256(f"{benchmark.name}[{format_params(dict(point))}]".encode()).digest()


def _fits(inputs: Any, folder: Path) -> bool:
    held = sum(leaf.nbytes for _, leaf in leaves(inputs))
    return bool(held < PART_OF_DISK * shutil.disk_usage(folder).free)


def _refuse(benchmark: Benchmark, tree: Any, problem: Callable[[Any], str | None]) -> None:
    for path, leaf in leaves(tree):
        if text := problem(leaf):
            raise DeclarationError(f"{benchmark.name}.inputs: {path} {text}", benchmark.where)


def _foreign(leaf: Any) -> str | None:
    if not isinstance(leaf, np.ndarray | np.generic):
        return f"is a {type(leaf).__name__}; give numpy arrays"
    if leaf.dtype.kind not in "fiub":
        return f"has dtype {leaf.dtype}; give floats, integers or booleans"
    return None


def _unfit(leaf: np.ndarray, target: DType) -> str | None:
    if leaf.dtype.kind != "f":
        return None
    if not np.isfinite(leaf).all():
        return f"holds NaN, infinity or what is too large for {target.name}"
    if leaf.size > 1 and not leaf.any():
        return f"is all zeros in {target.name}; draw it, since zeros are faster than numbers"
    return None


def rounded(array: np.ndarray, target: DType) -> np.ndarray:
    """Floats rounded to nearest even in `target`, held in float32 (float64 for float64).

    bfloat16 and TF32 are a float32 without its last bits, so they are rounded on the bits. What is
    too large becomes infinite. The arrays are contiguous: frameworks take no negative strides.
    """
    if array.dtype.kind != "f":
        return np.asarray(array, order="C")
    if target.name == "float64":
        return np.asarray(array, np.float64, order="C")
    with np.errstate(over="ignore"):
        if target.name == "float16":
            return np.asarray(array, np.float16, order="C").astype(np.float32)
        single = np.array(array, np.float32, order="C")
    dropped = {"bfloat16": 16, "tfloat32": 13}.get(target.name)
    if dropped is not None:
        bits = single.view(np.uint32)
        bits += ((bits >> dropped) & 1) + np.uint32((1 << (dropped - 1)) - 1)
        bits &= np.uint32(0xFFFFFFFF << dropped & 0xFFFFFFFF)
    return single


def held_bytes(tree: Any, dtype: DType) -> int:
    """What the arrays of a tree hold on a device, where floats are of the case's dtype."""
    return sum(
        leaf.size * (dtype.itemsize if leaf.dtype.kind == "f" else leaf.dtype.itemsize)
        for _, leaf in leaves(tree)
    )


def as_reference(tree: Any) -> Any:
    """The same inputs as a reference wants them: floats at float64."""
    return tree_map(
        lambda leaf: leaf.astype(np.float64) if leaf.dtype.kind == "f" else leaf,
        tree,
    )
