"""Matrix product: the work that processors are built for, and the usual yardstick of their rate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from devbench import Context, DType, Product, Work, benchmark


@benchmark(
    name="matmul",
    axes={
        "n": [256, 512, 1024, 2048, 4096, 8192],
        "dtype": ["float32", "bfloat16", "float16"],
    },
    quick={"n": [256, 512, 1024], "dtype": ["float32"]},
    size="n",
)
class MatMul:
    """Product of two square matrices of n × n standard normal numbers."""

    def work(self, n: int, dtype: DType) -> Work:
        # Two matrices are read and one is written, each once at least.
        size = 3 * n * n * dtype.itemsize
        return Work(flops=2 * n**3, bytes=size, footprint=size, terms=n)

    def inputs(self, rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
        # Drawn as float32, which halves the time; wider formats hold the same numbers.
        return {name: rng.standard_normal((n, n), np.float32) for name in ("a", "b")}

    def reference(self, n: int, a: np.ndarray, b: np.ndarray) -> np.ndarray | Product:
        # At float64 on one CPU, n = 2048 takes a second and n = 8192 a minute.
        product: np.ndarray | Product = a @ b if n <= 2048 else Product(a, b)
        return product

    def torch(self, ctx: Context, a: Any, b: Any) -> Callable[[], Any]:
        import torch

        product = ctx.compile(torch.matmul)
        return lambda: product(a, b)

    def tensorflow(self, ctx: Context, a: Any, b: Any) -> Callable[[], Any]:
        import tensorflow as tf

        product = ctx.compile(tf.matmul)
        return lambda: product(a, b)
