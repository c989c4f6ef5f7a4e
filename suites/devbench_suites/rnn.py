"""A recurrent layer, whose steps follow one another: the classic case in which a CPU can win."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from devbench import Context, Step, Work, benchmark
from devbench_suites._rnn import lstm, lstm_gradients

FEATURES: Final = 128
UNITS: Final = 128
_FLOAT32: Final = 4


@benchmark(
    name="lstm",
    axes={
        "sequence": [16, 64, 256, 1024],
        "batch": [1, 64],
        "phase": ["forward", "forward_backward"],
    },
    quick={"sequence": [16, 64], "batch": [1], "phase": ["forward", "forward_backward"]},
    size="sequence",
)
class LSTM:
    """One LSTM layer of 128 units over sequences of 128 features, from a state of zeros, in float32.

    The step gives the hidden state at every place of the sequence. forward_backward gives, from a
    random gradient at all of them, the gradients at the weights and at the input as well.

    Both frameworks order the gates alike (input, forget, cell, output). torch adds two biases where
    Keras has one: it gets half of that in each, and each has the gradient of the whole. On a GPU
    both call cuDNN; on a CPU Keras loops over the places.
    """

    def work(self, sequence: int, batch: int, phase: str) -> Work:
        """The gates are products of input and of hidden state with 4 · 128 columns each.

        A backward pass does each product twice. Their activations, some thirty operations a unit
        and place, are left out. Kept for it are the four gates, the cell's state and its tanh.
        """
        places = batch * sequence
        weights = 4 * UNITS * (FEATURES + UNITS + 1)
        forward = 2 * places * 4 * UNITS * (FEATURES + UNITS)
        ends = places * (FEATURES + UNITS)
        if phase == "forward":
            moved, held = ends + weights, ends + weights + 6 * places * UNITS
        else:
            moved, held = 2 * (ends + weights), 2 * (ends + weights + 6 * places * UNITS)
        return Work(
            flops=forward if phase == "forward" else 3 * forward,
            bytes=_FLOAT32 * moved,
            items=places,
            footprint=_FLOAT32 * held,
            # A weight's gradient sums over every place, and each hangs on the sums of those before.
            terms=FEATURES + UNITS + (sequence if phase == "forward" else places),
        )

    def inputs(self, rng: np.random.Generator, sequence: int, batch: int) -> dict[str, Any]:
        bound = 1 / np.sqrt(UNITS)
        shapes = {"input": (4 * UNITS, FEATURES), "recurrent": (4 * UNITS, UNITS)}
        weights = {name: rng.uniform(-bound, bound, shape) for name, shape in shapes.items()}
        return {
            "x": rng.standard_normal((batch, sequence, FEATURES)),
            "upstream": rng.standard_normal((batch, sequence, UNITS)),
            "weights": weights | {"bias": rng.uniform(-bound, bound, 4 * UNITS)},
        }

    def reference(
        self, phase: str, x: np.ndarray, upstream: np.ndarray, weights: dict[str, np.ndarray]
    ) -> Any:
        if phase == "forward":
            return lstm(x, weights)
        output, gradients = lstm_gradients(x, upstream, weights)
        return {"output": output, "gradients": gradients}

    def torch(self, ctx: Context, phase: str, x: Any, upstream: Any, weights: Any) -> Step:
        import torch

        layer = torch.nn.LSTM(FEATURES, UNITS, batch_first=True).to(ctx.device)
        layer.load_state_dict(
            {
                "weight_ih_l0": weights["input"],
                "weight_hh_l0": weights["recurrent"],
                "bias_ih_l0": weights["bias"] / 2,
                "bias_hh_l0": weights["bias"] / 2,
            }
        )
        x.requires_grad_(phase == "forward_backward")
        through = ctx.compile(layer)

        def forward() -> Any:
            with torch.inference_mode():
                return through(x)[0]

        def forward_backward() -> Any:
            x.grad = None
            layer.zero_grad()
            output = through(x)[0]
            output.backward(upstream)
            return output

        def named(output: Any) -> dict[str, Any]:
            weights = (layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0)
            return _named(output, x.grad, [one.grad for one in weights])

        return Step(forward) if phase == "forward" else Step(forward_backward, named)

    def tensorflow(self, ctx: Context, phase: str, x: Any, upstream: Any, weights: Any) -> Step:
        import tensorflow as tf
        from keras import layers

        layer = layers.LSTM(UNITS, return_sequences=True)
        layer.build(x.shape)
        kernels = [tf.transpose(weights[name]) for name in ("input", "recurrent")]
        layer.set_weights([*kernels, weights["bias"]])
        variables = layer.trainable_variables

        def forward(x: Any) -> Any:
            return layer(x, training=False)

        def forward_backward(x: Any, upstream: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(x)
                output = layer(x, training=True)
            wanted = [x, *variables]
            return output, tape.gradient(output, wanted, output_gradients=upstream)

        def named(result: Any) -> dict[str, Any]:
            output, (dx, *others) = result
            return _named(output, dx, [tf.transpose(one) for one in others])

        if phase == "forward":
            through = ctx.compile(forward)
            return Step(lambda: through(x))
        learn = ctx.compile(forward_backward)
        return Step(lambda: learn(x, upstream), named)


def _named(output: Any, dx: Any, weights: Sequence[Any]) -> dict[str, Any]:
    gradients = dict(zip(("input", "recurrent", "bias"), weights, strict=True))
    return {"output": output, "gradients": {"x": dx, "weights": gradients}}
