"""Automatic differentiation: what a gradient costs beside the value, in reverse and in forward mode.

Every gradient has a closed form, given in the class, and is checked against it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from devbench import Context, Work, benchmark
from devbench.errors import UsageError

PHASES: Final = ("forward", "forward_backward")
_FLOAT32: Final = 4
#: Numbers that go through a chain side by side.
WIDTH: Final = 1024
#: The short side of a Jacobian.
FEW: Final = 4


def _torch_step(
    ctx: Context, phase: str, function: Callable[..., Any], at: Sequence[Any]
) -> Callable[[], Any]:
    """The value of a function that gives a scalar, and in forward_backward its gradients, in torch."""
    import torch

    evaluate = ctx.compile(function)

    def forward() -> Any:
        with torch.inference_mode():  # keeps nothing that a backward pass would need
            return {"value": evaluate(*at)}

    def forward_backward() -> Any:
        value = evaluate(*at)
        return {"value": value, "gradients": torch.autograd.grad(value, at)}

    if phase == "forward":
        return forward
    for tensor in at:
        tensor.requires_grad_()
    return forward_backward


def _tensorflow_step(
    ctx: Context, phase: str, function: Callable[..., Any], at: Sequence[Any]
) -> Callable[[], Any]:
    """The same in TensorFlow."""
    import tensorflow as tf

    def forward(*at: Any) -> Any:
        return {"value": function(*at)}

    def forward_backward(*at: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(at)
            value = function(*at)
        return {"value": value, "gradients": tape.gradient(value, at)}

    step = ctx.compile(forward if phase == "forward" else forward_backward)
    return lambda: step(*at)


def _answer(phase: str, value: Any, *gradients: Any) -> dict[str, Any]:
    """What the steps above should give."""
    return {"value": value} if phase == "forward" else {"value": value, "gradients": gradients}


@benchmark(
    name="scalar_gradient",
    axes={"expression": ["polynomial", "log_product_sine"], "phase": PHASES},
    quick={"expression": ["polynomial", "log_product_sine"], "phase": PHASES},
)
class ScalarGradient:
    """A few operations on single numbers: nothing but the cost of recording and of calling.

    polynomial: x² + 2x + 1 at 3, where it is 16 and its derivative 2x + 2 is 8.
    log_product_sine: ln x₁ + x₁x₂ − sin x₂ at (2, 5), with the gradient (1/x₁ + x₂, x₁ − cos x₂);
    the example of Baydin et al. (2018), "Automatic differentiation in machine learning: a survey",
    JMLR 18(153).
    """

    _points: Final = {"polynomial": (3.0,), "log_product_sine": (2.0, 5.0)}

    def work(self, expression: str, phase: str) -> Work:
        # The numbers and the value, and a derivative for each number.
        count = len(self._points[expression])
        moved = count + 1 if phase == "forward" else 2 * count + 1
        return Work(bytes=_FLOAT32 * moved, footprint=_FLOAT32 * moved, terms=3)

    def inputs(self, expression: str) -> dict[str, Any]:
        return {"at": [np.array(number, np.float32) for number in self._points[expression]]}

    def reference(self, expression: str, phase: str, at: list[np.ndarray]) -> dict[str, Any]:
        if expression == "polynomial":
            (x,) = at
            return _answer(phase, (x + 1) ** 2, 2 * x + 2)
        x, y = at
        return _answer(phase, np.log(x) + x * y - np.sin(y), 1 / x + y, x - np.cos(y))

    def torch(self, ctx: Context, expression: str, phase: str, at: list[Any]) -> Callable[[], Any]:
        import torch

        functions: dict[str, Callable[..., Any]] = {
            "polynomial": lambda x: x**2 + 2 * x + 1,
            "log_product_sine": lambda x, y: torch.log(x) + x * y - torch.sin(y),
        }
        return _torch_step(ctx, phase, functions[expression], at)

    def tensorflow(
        self, ctx: Context, expression: str, phase: str, at: list[Any]
    ) -> Callable[[], Any]:
        import tensorflow as tf

        functions: dict[str, Callable[..., Any]] = {
            "polynomial": lambda x: x**2 + 2 * x + 1,
            "log_product_sine": lambda x, y: tf.math.log(x) + x * y - tf.sin(y),
        }
        return _tensorflow_step(ctx, phase, functions[expression], at)


@benchmark(
    name="dense_gradient",
    # The steps are small because what takes no longer than its calls predicts nothing larger.
    axes={"n": [4, 32, 256, 1024, 4096], "phase": PHASES},
    quick={"n": [4, 32, 256], "phase": PHASES},
    size="n",
)
class DenseGradient:
    """y = Σ(XW + b), X of n × ¾n and W of ¾n × ½n; at n = 4 the example 4 × 3 by 3 × 2.

    There X holds 1…12, W is [[1, 2], [4, 5], [7, 8]] and b is [4, 5]; elsewhere they are drawn
    between ½ and 1½, so that no sum cancels. The gradient of X has the row sums of W in every row,
    that of W the column sums of X in every column, and that of b is n everywhere.
    """

    def _sides(self, n: int) -> tuple[int, int, int]:
        if n % 4:
            raise UsageError(f"the sides are n, ¾n and ½n: n must be a multiple of 4, not {n}")
        return n, 3 * n // 4, n // 2

    def work(self, n: int, phase: str) -> Work:
        rows, inner, columns = self._sides(n)
        product = 2 * rows * inner * columns
        numbers = rows * inner + inner * columns + columns
        backward = phase == "forward_backward"
        # Backward there are two more products: for the gradient of X and for that of W.
        return Work(
            flops=3 * product if backward else product,
            bytes=_FLOAT32 * (2 * numbers if backward else numbers),
            footprint=_FLOAT32 * ((2 if backward else 1) * (numbers + rows * columns)),
            # Each product goes through the sum behind an element and that over all elements.
            terms=inner + rows * columns,
        )

    def inputs(self, rng: np.random.Generator, n: int) -> dict[str, Any]:
        rows, inner, columns = self._sides(n)
        if n == 4:
            x = np.arange(1, 13, dtype=np.float32).reshape(rows, inner)
            w = np.array([[1, 2], [4, 5], [7, 8]], np.float32)
            return {"at": [x, w, np.array([4, 5], np.float32)]}
        shapes = ((rows, inner), (inner, columns), (columns,))
        return {"at": [rng.random(shape, np.float32) + np.float32(0.5) for shape in shapes]}

    def reference(self, phase: str, at: list[np.ndarray]) -> dict[str, Any]:
        x, w, b = at
        of_x, of_w = w.sum(1), x.sum(0)
        return _answer(
            phase,
            of_w @ of_x + len(x) * b.sum(),
            np.broadcast_to(of_x, x.shape),
            np.broadcast_to(of_w[:, np.newaxis], w.shape),
            np.full_like(b, len(x)),
        )

    def torch(self, ctx: Context, phase: str, at: list[Any]) -> Callable[[], Any]:
        return _torch_step(ctx, phase, lambda x, w, b: (x @ w + b).sum(), at)

    def tensorflow(self, ctx: Context, phase: str, at: list[Any]) -> Callable[[], Any]:
        import tensorflow as tf

        return _tensorflow_step(ctx, phase, lambda x, w, b: tf.reduce_sum(x @ w + b), at)


@benchmark(
    name="deep_chain",
    axes={"depth": [10, 100, 1000], "phase": PHASES},
    quick={"depth": [100], "phase": PHASES},
    size="depth",
)
class DeepChain:
    """Σ sin(sin(…sin(x)…)), `depth` times, of 1024 numbers: many small operations, one after another.

    The gradient is the product of the cosines of what each link was given. Items are links.
    """

    def work(self, depth: int, phase: str) -> Work:
        # Each link reads and writes the numbers. Backward it reads what it was given and the
        # gradient behind it, and writes the gradient before it.
        backward = phase == "forward_backward"
        return Work(
            bytes=_FLOAT32 * WIDTH * depth * (5 if backward else 2),
            items=depth,
            footprint=_FLOAT32 * WIDTH * (depth + 2 if backward else 2),
            # The numbers hardly change from one link to the next, so neighbouring links round alike:
            # their errors add up like `depth`, not like its root.
            terms=depth**2 + WIDTH,
        )

    def inputs(self, rng: np.random.Generator) -> dict[str, Any]:
        return {"at": [rng.uniform(0.1, 1.5, WIDTH)]}

    def reference(self, depth: int, phase: str, at: list[np.ndarray]) -> dict[str, Any]:
        (x,) = at
        gradient = np.ones_like(x)
        for _ in range(depth):
            gradient, x = gradient * np.cos(x), np.sin(x)
        return _answer(phase, x.sum(), gradient)

    def torch(self, ctx: Context, depth: int, phase: str, at: list[Any]) -> Callable[[], Any]:
        import torch

        def chain(x: Any) -> Any:
            for _ in range(depth):
                x = torch.sin(x)
            return x.sum()

        return _torch_step(ctx, phase, chain, at)

    def tensorflow(self, ctx: Context, depth: int, phase: str, at: list[Any]) -> Callable[[], Any]:
        import tensorflow as tf

        def chain(x: Any) -> Any:
            for _ in range(depth):
                x = tf.sin(x)
            return tf.reduce_sum(x)

        return _tensorflow_step(ctx, phase, chain, at)


@benchmark(
    name="jacobian",
    axes={
        "n": [16, 64, 256, 1024],
        "shape": ["many_inputs", "many_outputs"],
        "method": ["forward", "reverse"],
    },
    quick={"n": [64], "shape": ["many_inputs"], "method": ["forward", "reverse"]},
    size="n",
)
class Jacobian:
    """The Jacobian of x ↦ tanh(Wx), from n numbers to 4 or from 4 to n.

    Forward mode takes one pass for each input, reverse mode one for each output; both frameworks
    vectorise the passes. The closed form is diag(1 − tanh²(Wx)) W.
    """

    def _sides(self, n: int, shape: str) -> tuple[int, int]:
        """Outputs, inputs."""
        return (FEW, n) if shape == "many_inputs" else (n, FEW)

    def work(self, n: int, shape: str, method: str) -> Work:
        outputs, inputs = self._sides(n, shape)
        passes = inputs if method == "forward" else outputs
        size = outputs * inputs
        return Work(
            # Wx, and a product with W or its transpose in every pass.
            flops=2 * size * (1 + passes),
            bytes=_FLOAT32 * (2 * size + inputs),
            # W, the Jacobian, the unit vectors that the passes start from, and what they give.
            footprint=_FLOAT32 * (2 * size + passes * (passes + outputs + inputs)),
            terms=max(inputs, outputs),
        )

    def inputs(self, rng: np.random.Generator, n: int, shape: str) -> dict[str, np.ndarray]:
        outputs, inputs = self._sides(n, shape)
        weight = rng.standard_normal((outputs, inputs), np.float32)
        # Sums of about one in size: tanh has slopes of every size there.
        return {"weight": weight / np.float32(inputs**0.5), "x": rng.standard_normal(inputs)}

    def reference(self, weight: np.ndarray, x: np.ndarray) -> np.ndarray:
        slope = 1 - np.tanh(weight @ x) ** 2
        jacobian: np.ndarray = slope[:, np.newaxis] * weight
        return jacobian

    def torch(self, ctx: Context, method: str, weight: Any, x: Any) -> Callable[[], Any]:
        import torch

        def function(weight: Any, x: Any) -> Any:
            return torch.tanh((weight @ x[:, None])[:, 0])

        differentiate = torch.func.jacfwd if method == "forward" else torch.func.jacrev
        jacobian = ctx.compile(differentiate(function, argnums=1))
        return lambda: jacobian(weight, x)

    def tensorflow(self, ctx: Context, method: str, weight: Any, x: Any) -> Callable[[], Any]:
        import tensorflow as tf

        def function(weight: Any, x: Any) -> Any:
            return tf.tanh(tf.linalg.matvec(weight, x))

        def forward(weight: Any, x: Any) -> Any:
            def column(tangent: Any) -> Any:
                with tf.autodiff.ForwardAccumulator(x, tangent) as accumulator:
                    value = function(weight, x)
                return accumulator.jvp(value)

            return tf.transpose(tf.vectorized_map(column, tf.eye(len(x))))

        def reverse(weight: Any, x: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = function(weight, x)
            return tape.jacobian(value, x)

        jacobian = ctx.compile(forward if method == "forward" else reverse)
        return lambda: jacobian(weight, x)
