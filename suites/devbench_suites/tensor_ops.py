"""What surrounds matrix products: operations that memory limits, on n numbers in float32.

Bytes are what an operation must read and write at the least, each number once; so the rate in bytes
per second shows how close it comes to the memory, and how often it went there. Indices are int64,
which is what torch wants.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from devbench import Context, Step, Work, benchmark
from devbench.errors import UsageError
from devbench_suites._draws import FEWEST, check_draws

_FLOAT32: Final = 4
_INT64: Final = 8
#: Powers of 4, which are squares too.
SIZES: Final = [4**8, 4**10, 4**12, 4**13]
QUICK: Final = [4**10]
#: Numbers in a row where a matrix is wanted, and in a row that is moved as a whole.
WIDTH: Final = 1024
MOVED: Final = 64


def _rows(n: int, width: int) -> int:
    if n % width:
        raise UsageError(f"n numbers in rows of {width}: n must be a multiple of it, not {n}")
    return n // width


@benchmark(
    name="elementwise",
    axes={"op": ["chain", "normal_density", "log_sin_product"], "n": SIZES},
    quick={"op": ["chain", "normal_density", "log_sin_product"], "n": QUICK},
    size="n",
)
class Elementwise:
    """An expression of each of n numbers. Step by step it goes to memory and back for each operation.

    chain: relu(xy + x)·y − x. normal_density: exp(−(x − μ)²/2σ²) / (σ√2π) with μ = 0.5, σ = 1.5.
    log_sin_product: ln x + xy − sin y.
    """

    _mean = 0.5
    _deviation = 1.5

    def work(self, op: str, n: int) -> Work:
        # Roundings of five operations in a row add up as those of a sum do. Beside inputs and
        # result there are up to two intermediate results.
        read = 1 if op == "normal_density" else 2
        return Work(bytes=_FLOAT32 * n * (read + 1), footprint=_FLOAT32 * n * (read + 3), terms=5)

    def inputs(self, rng: np.random.Generator, op: str, n: int) -> dict[str, Any]:
        if op == "log_sin_product":  # ln wants positive numbers
            return {"numbers": [rng.uniform(0.5, 2.5, n), rng.standard_normal(n, np.float32)]}
        count = 1 if op == "normal_density" else 2
        return {"numbers": [rng.standard_normal(n, np.float32) for _ in range(count)]}

    def reference(self, op: str, numbers: list[np.ndarray]) -> np.ndarray:
        x, y = numbers[0], numbers[-1]
        value: np.ndarray
        if op == "chain":
            value = np.maximum(x * y + x, 0) * y - x
        elif op == "normal_density":
            z = (x - self._mean) / self._deviation
            value = np.exp(-(z**2) / 2) / (self._deviation * math.sqrt(2 * math.pi))
        else:
            value = np.log(x) + x * y - np.sin(y)
        return value

    def torch(self, ctx: Context, op: str, numbers: list[Any]) -> Callable[[], Any]:
        import torch

        scale = 1 / (self._deviation * math.sqrt(2 * math.pi))
        narrowing = -1 / (2 * self._deviation**2)
        expressions: dict[str, Callable[..., Any]] = {
            "chain": lambda x, y: torch.relu(x * y + x) * y - x,
            "normal_density": lambda x: torch.exp((x - self._mean) ** 2 * narrowing) * scale,
            "log_sin_product": lambda x, y: torch.log(x) + x * y - torch.sin(y),
        }
        expression = ctx.compile(expressions[op])
        return lambda: expression(*numbers)

    def tensorflow(self, ctx: Context, op: str, numbers: list[Any]) -> Callable[[], Any]:
        import tensorflow as tf

        scale = 1 / (self._deviation * math.sqrt(2 * math.pi))
        narrowing = -1 / (2 * self._deviation**2)
        expressions: dict[str, Callable[..., Any]] = {
            "chain": lambda x, y: tf.nn.relu(x * y + x) * y - x,
            "normal_density": lambda x: tf.exp((x - self._mean) ** 2 * narrowing) * scale,
            "log_sin_product": lambda x, y: tf.math.log(x) + x * y - tf.sin(y),
        }
        expression = ctx.compile(expressions[op])
        return lambda: expression(*numbers)


@benchmark(
    name="reduction",
    axes={"op": ["row_sum", "column_sum", "row_max"], "n": SIZES},
    quick={"op": ["row_sum"], "n": QUICK},
    size="n",
)
class Reduction:
    """Sums or maxima of a matrix with rows of 1024 normal numbers, along the rows or across them."""

    def work(self, op: str, n: int) -> Work:
        rows = _rows(n, WIDTH)
        results, terms = {
            "row_sum": (rows, WIDTH),
            "column_sum": (WIDTH, rows),
            "row_max": (rows, 1),
        }[op]
        size = _FLOAT32 * (n + results)
        return Work(bytes=size, footprint=size, terms=terms)

    def inputs(self, rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
        return {"x": rng.standard_normal((_rows(n, WIDTH), WIDTH), np.float32)}

    def reference(self, op: str, x: np.ndarray) -> np.ndarray:
        found: np.ndarray = {
            "row_sum": lambda: x.sum(1),
            "column_sum": lambda: x.sum(0),
            "row_max": lambda: x.max(1),
        }[op]()
        return found

    def torch(self, ctx: Context, op: str, x: Any) -> Callable[[], Any]:
        import torch

        reductions = {
            "row_sum": lambda x: torch.sum(x, dim=1),
            "column_sum": lambda x: torch.sum(x, dim=0),
            "row_max": lambda x: torch.amax(x, dim=1),
        }
        reduce = ctx.compile(reductions[op])
        return lambda: reduce(x)

    def tensorflow(self, ctx: Context, op: str, x: Any) -> Callable[[], Any]:
        import tensorflow as tf

        reductions = {
            "row_sum": lambda x: tf.reduce_sum(x, axis=1),
            "column_sum": lambda x: tf.reduce_sum(x, axis=0),
            "row_max": lambda x: tf.reduce_max(x, axis=1),
        }
        reduce = ctx.compile(reductions[op])
        return lambda: reduce(x)


@benchmark(name="transpose", axes={"n": SIZES}, quick={"n": QUICK}, size="n")
class Transpose:
    """Rows of a square matrix of n numbers become columns, in memory and not only in name."""

    def _side(self, n: int) -> int:
        side = math.isqrt(n)
        if side * side != n:
            raise UsageError(f"n numbers in a square matrix: n must be a square, not {n}")
        return side

    def work(self, n: int) -> Work:
        size = 2 * _FLOAT32 * self._side(n) ** 2
        return Work(bytes=size, footprint=size)

    def inputs(self, rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
        return {"x": rng.standard_normal((self._side(n), self._side(n)), np.float32)}

    def reference(self, x: np.ndarray) -> np.ndarray:
        return x.T

    def torch(self, ctx: Context, x: Any) -> Callable[[], Any]:
        turn = ctx.compile(lambda x: x.T.contiguous())  # without it, only the strides are swapped
        return lambda: turn(x)

    def tensorflow(self, ctx: Context, x: Any) -> Callable[[], Any]:
        import tensorflow as tf

        turn = ctx.compile(
            lambda x: tf.transpose(x)
        )  # bare, its further arguments cost 0.3 ms a call
        return lambda: turn(x)


# Without a size axis: along n nothing gets slower, so nothing may be predicted.
@benchmark(name="reshape", axes={"n": SIZES}, quick={"n": [4**6, 4**10]})
class Reshape:
    """Another view of the same numbers, in rows of 1024. It moves no byte, so every n takes as long.

    That the result shares the memory of its input is verified, but for TensorFlow on a GPU, which
    tells no addresses: there only the times show it.
    """

    def work(self, n: int) -> Work:
        _rows(n, WIDTH)
        return Work(bytes=0, footprint=_FLOAT32 * n)

    def inputs(self, rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
        return {"x": rng.standard_normal(n, np.float32)}

    def reference(self, n: int, x: np.ndarray) -> np.ndarray:
        return x.reshape(_rows(n, WIDTH), WIDTH)

    def torch(self, ctx: Context, x: Any) -> Callable[[], Any]:
        view = ctx.compile(lambda x: x.reshape(-1, WIDTH))
        self._refuse_copy(view(x).data_ptr() == x.data_ptr())
        return lambda: view(x)

    def tensorflow(self, ctx: Context, x: Any) -> Callable[[], Any]:
        import tensorflow as tf

        view = ctx.compile(lambda x: tf.reshape(x, (-1, WIDTH)))
        if "CPU" in ctx.device:
            # A CPU tensor lends its memory through Python's buffer protocol.
            self._refuse_copy(np.shares_memory(memoryview(view(x)), memoryview(x)))
        return lambda: view(x)

    def _refuse_copy(self, shared: bool) -> None:
        if not shared:
            raise RuntimeError("the result of reshape has memory of its own: it was copied")


@benchmark(
    name="gather_scatter",
    axes={"op": ["gather", "scatter"], "n": SIZES},
    quick={"op": ["gather", "scatter"], "n": QUICK},
    size="n",
)
class GatherScatter:
    """Rows of 64 numbers in random order, as an embedding reads them and as its gradient adds them up.

    gather: row i of the result is row index[i]. scatter: row i is added to row index[i] of zeros.
    The index holds each row once, so that the bytes are exact and no order of summation matters.
    """

    def work(self, n: int) -> Work:
        size = 2 * _FLOAT32 * n + _INT64 * _rows(n, MOVED)
        return Work(bytes=size, footprint=size)

    def inputs(self, rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
        rows = _rows(n, MOVED)
        return {"x": rng.standard_normal((rows, MOVED), np.float32), "index": rng.permutation(rows)}

    def reference(self, op: str, x: np.ndarray, index: np.ndarray) -> np.ndarray:
        moved = np.zeros_like(x)
        if op == "gather":
            moved[:] = x[index]
        else:
            moved[index] = x
        return moved

    def torch(self, ctx: Context, op: str, x: Any, index: Any) -> Callable[[], Any]:
        import torch

        moves = {
            "gather": lambda x, index: torch.index_select(x, 0, index),
            "scatter": lambda x, index: torch.zeros_like(x).index_add_(0, index, x),
        }
        move = ctx.compile(moves[op])
        return lambda: move(x, index)

    def tensorflow(self, ctx: Context, op: str, x: Any, index: Any) -> Callable[[], Any]:
        import tensorflow as tf

        moves = {
            # Of two arguments: binding the six of tf.gather itself costs time in each call.
            "gather": lambda x, index: tf.gather(x, index),
            "scatter": lambda x, index: tf.scatter_nd(
                index[:, tf.newaxis], x, tf.shape(x, out_type=index.dtype)
            ),
        }
        move = ctx.compile(moves[op])
        return lambda: move(x, index)


@benchmark(name="sort", axes={"n": SIZES}, quick={"n": QUICK}, size="n")
class Sort:
    """n normal numbers in ascending order. Both frameworks find the order as well as the numbers."""

    def work(self, n: int) -> Work:
        # torch keeps the order too, as int64.
        return Work(bytes=2 * _FLOAT32 * n, items=n, footprint=(2 * _FLOAT32 + _INT64) * n)

    def inputs(self, rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
        return {"x": rng.standard_normal(n, np.float32)}

    def reference(self, x: np.ndarray) -> np.ndarray:
        return np.sort(x)

    def torch(self, ctx: Context, x: Any) -> Callable[[], Any]:
        import torch

        sort = ctx.compile(lambda x: torch.sort(x).values)
        return lambda: sort(x)

    def tensorflow(self, ctx: Context, x: Any) -> Callable[[], Any]:
        import tensorflow as tf

        sort = ctx.compile(lambda x: tf.sort(x))
        return lambda: sort(x)


@benchmark(
    name="random_numbers",
    axes={"op": ["uniform", "normal"], "n": SIZES},
    quick={"op": ["uniform", "normal"], "n": QUICK},
    size="n",
)
class RandomNumbers:
    """n numbers from the framework's generator: uniform on [0, 1), or standard normal.

    Frameworks draw different numbers, so what is checked is that they are not those of the call
    before, and that mean, variance and range are what so many draws allow.
    """

    reference = "property"

    def work(self, n: int) -> Work:
        if n < FEWEST:
            raise UsageError(f"{n} random numbers are too few to be checked: take {FEWEST} or more")
        return Work(bytes=_FLOAT32 * n, items=n, footprint=_FLOAT32 * n)

    def torch(self, ctx: Context, op: str, n: int) -> Step:
        import torch

        generator = torch.Generator(ctx.device).manual_seed(1)
        kind = torch.rand if op == "uniform" else torch.randn
        draw = ctx.compile(lambda: kind(n, generator=generator, device=ctx.device))
        before = draw().cpu().numpy()

        def checked(numbers: Any) -> Any:
            check_draws(op, numbers.cpu().numpy(), before)
            return numbers

        return Step(draw, checked, stateful=True)

    def tensorflow(self, ctx: Context, op: str, n: int) -> Step:
        import tensorflow as tf

        generator = tf.random.Generator.from_seed(1)
        kind = generator.uniform if op == "uniform" else generator.normal
        draw = ctx.compile(lambda: kind([n]))
        before = draw().numpy()

        def checked(numbers: Any) -> Any:
            check_draws(op, numbers.numpy(), before)
            return numbers

        return Step(draw, checked, stateful=True)
