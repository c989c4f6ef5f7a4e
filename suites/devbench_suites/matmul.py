"""Matrix products: the work that processors are built for, and the usual yardstick of their rate.

Square ones, many small ones at once, and ones with a thin side, which memory limits. In every dtype
the numbers are standard normal; in int8 they are integers of its whole range, multiplied and summed
in int32 by the framework's own product for that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from devbench import Context, DType, Product, Unsupported, Work, benchmark

DTYPES: Final = ("float32", "tfloat32", "bfloat16", "float16", "float64", "int8")
#: The thin side of a skinny product.
THIN: Final = 32


def _work(rows: int, inner: int, columns: int, dtype: DType, batch: int = 1) -> Work:
    """Of `batch` products of rows × inner by inner × columns.

    Each matrix is read or written once at least. Operations on integers count as FLOP.
    """
    result = dtype.itemsize if dtype.is_float else 4  # int32
    moved = (rows * inner + inner * columns) * dtype.itemsize + rows * columns * result
    return Work(
        flops=2 * batch * rows * inner * columns,
        bytes=batch * moved,
        footprint=batch * moved,
        terms=inner,
    )


def _draw(rng: np.random.Generator, dtype: DType, *shape: int) -> np.ndarray:
    if not dtype.is_float:
        limits = np.iinfo(dtype.name)
        return rng.integers(limits.min, limits.max, shape, dtype.name, endpoint=True)
    # Drawn as float32, which halves the time; wider formats hold the same numbers.
    return rng.standard_normal(shape, np.float32)


class _Product:
    """What the products have in common: a @ b, of matrices or of stacks of them."""

    def reference(self, a: np.ndarray, b: np.ndarray) -> np.ndarray | Product:
        # float64 is exact for int8 too: sums stay far below 2**53.
        a, b = a.astype(np.float64, copy=False), b.astype(np.float64, copy=False)
        # On one CPU, two square matrices of 2048 take a second and of 8192 a minute.
        if a.ndim == 2 and len(a) * b.shape[1] > 2048**2:
            return Product(a, b)
        product: np.ndarray = a @ b
        return product

    def torch(self, ctx: Context, dtype: DType, a: Any, b: Any) -> Callable[[], Any]:
        """int8 on a GPU follows torch's source and has not yet run on one."""
        import torch

        if not dtype.is_float:
            if reason := _no_int8_in_torch(a, b):
                raise Unsupported(reason)
            try:
                torch._int_mm(a[:32, :32].contiguous(), b[:32, :32].contiguous())
            except NotImplementedError:
                raise Unsupported(f"torch has no int8 product on {ctx.device}") from None
        # `a @ b` of int8 would also sum in int8, and overflow.
        product = ctx.compile(torch.matmul if dtype.is_float else torch._int_mm)
        return lambda: product(a, b)

    def tensorflow(self, ctx: Context, dtype: DType, a: Any, b: Any) -> Callable[[], Any]:
        if not dtype.is_float and "GPU" in ctx.device:
            # TensorFlow 2.21 registers BatchMatMulV3 of int8 for CPUs, and places there what a GPU
            # has no kernel for, without a word.
            raise Unsupported("TensorFlow has an int8 product on CPUs only")
        import tensorflow as tf

        def product(a: Any, b: Any) -> Any:
            return tf.matmul(a, b, output_type=None if dtype.is_float else tf.int32)

        compiled = ctx.compile(product)
        return lambda: compiled(a, b)


def _no_int8_in_torch(a: Any, b: Any) -> str | None:
    """Why torch cannot multiply these int8 tensors; None when it can."""
    if a.ndim > 2:
        return "torch has no int8 product of several matrices at once"
    (rows, inner), columns = a.shape, b.shape[1]
    if a.is_cuda and (rows <= 16 or inner % 8 or columns % 8):
        return (
            "on a GPU torch multiplies int8 matrices of more than 16 rows whose other sides are "
            f"multiples of 8, not {rows} × {inner} by {inner} × {columns}"
        )
    return None


@benchmark(
    name="matmul",
    axes={"n": [256, 512, 1024, 2048, 4096, 8192], "dtype": DTYPES},
    quick={"n": [256, 512, 1024], "dtype": ["float32"]},
    size="n",
)
class MatMul(_Product):
    """Product of two square matrices of n × n standard normal numbers."""

    def work(self, n: int, dtype: DType) -> Work:
        return _work(n, n, n, dtype)

    def inputs(self, rng: np.random.Generator, n: int, dtype: DType) -> dict[str, np.ndarray]:
        return {name: _draw(rng, dtype, n, n) for name in ("a", "b")}


@benchmark(
    name="matmul_batched",
    axes={"batch": [16, 256], "n": [32, 64, 128, 256], "dtype": DTYPES},
    quick={"batch": [16], "n": [64, 256], "dtype": ["float32"]},
    size="n",
)
class BatchedMatMul(_Product):
    """`batch` products of n × n matrices in one call, as the heads of an attention layer make."""

    def work(self, batch: int, n: int, dtype: DType) -> Work:
        return _work(n, n, n, dtype, batch)

    def inputs(
        self, rng: np.random.Generator, batch: int, n: int, dtype: DType
    ) -> dict[str, np.ndarray]:
        return {name: _draw(rng, dtype, batch, n, n) for name in ("a", "b")}


@benchmark(
    name="matmul_skinny",
    axes={"n": [1024, 4096, 8192], "aspect": ["tall", "inner", "outer"], "dtype": DTYPES},
    quick={"n": [1024], "aspect": ["tall", "inner", "outer"], "dtype": ["float32"]},
    size="n",
)
class SkinnyMatMul(_Product):
    """A product with a side of 32 beside n: few operations a byte, so that memory limits it.

    tall: n × n by n × 32, a layer on a small batch. inner: 32 × n by n × 32, a few long sums. outer:
    n × 32 by 32 × n, a large result of short sums.
    """

    def _sides(self, n: int, aspect: str) -> tuple[int, int, int]:
        """Rows, inner side, columns."""
        return {"tall": (n, n, THIN), "inner": (THIN, n, THIN), "outer": (n, THIN, n)}[aspect]

    def work(self, n: int, aspect: str, dtype: DType) -> Work:
        return _work(*self._sides(n, aspect), dtype)

    def inputs(
        self, rng: np.random.Generator, n: int, aspect: str, dtype: DType
    ) -> dict[str, np.ndarray]:
        rows, inner, columns = self._sides(n, aspect)
        return {"a": _draw(rng, dtype, rows, inner), "b": _draw(rng, dtype, inner, columns)}
