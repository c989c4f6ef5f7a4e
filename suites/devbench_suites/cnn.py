"""A small convolutional network that sorts colour images of 32 × 32 pixels into ten classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from devbench import Context, Step, Work, benchmark
from devbench_suites._numpy_network import (
    Conv,
    Dense,
    Flatten,
    MaxPool,
    Network,
    ReLU,
    draw_images,
    draw_weights,
)
from devbench_suites._optimizers import SGD
from devbench_suites._phases import PHASES, keras_step, torch_step
from devbench_suites._work import LayerSize, classifier_work

IMAGE = (3, 32, 32)
CLASSES = 10
SHAPES = {
    "conv1": (6, 3, 5, 5),
    "conv2": (16, 6, 5, 5),
    "hidden": (120, 16 * 5 * 5),
    "logits": (CLASSES, 120),
}


def _network(weights: Mapping[str, np.ndarray]) -> Network:
    return Network(
        *(Conv("conv1", weights), ReLU(), MaxPool()),
        *(Conv("conv2", weights), ReLU(), MaxPool()),
        *(Flatten(), Dense("hidden", weights), ReLU(), Dense("logits", weights)),
    )


@benchmark(
    name="cnn",
    axes={"batch": [8, 32, 128, 512], "phase": PHASES},
    quick={"batch": [8, 128], "phase": PHASES},
    size="batch",
)
class CNN:
    """Two convolutions with max-pooling and two dense layers, trained by SGD with momentum.

    3×32×32 → conv 6, 5×5 → ReLU → pool 2×2 → conv 16, 5×5 → ReLU → pool 2×2 → dense 120 → ReLU →
    dense 10, in float32 on the softmax cross-entropy. Each framework keeps its own layout, torch
    NCHW and TensorFlow NHWC; inputs are turned round before the timing.

    The phase forward computes the logits without keeping what a backward pass would need;
    forward_backward gives the loss and all gradients; train_step updates the weights as well.
    """

    _optimizer = SGD(learning_rate=0.01, momentum=0.9)

    def work(self, batch: int, phase: str) -> Work:
        layers = [
            LayerSize(6, fan_in=3 * 5 * 5, positions=28 * 28),
            LayerSize(16, fan_in=6 * 5 * 5, positions=10 * 10),
            LayerSize(120, fan_in=16 * 5 * 5),
            LayerSize(CLASSES, fan_in=120),
        ]
        return classifier_work(phase, batch, 3 * 32 * 32, layers, self._optimizer.state)

    def inputs(self, rng: np.random.Generator, batch: int) -> dict[str, Any]:
        weights = draw_weights(rng, SHAPES)
        return {
            "images": draw_images(rng, _network(weights), batch, IMAGE),
            "labels": rng.integers(CLASSES, size=batch),
            "weights": weights,
        }

    def reference(
        self, phase: str, images: np.ndarray, labels: np.ndarray, weights: dict[str, np.ndarray]
    ) -> Any:
        return _network(weights).answer(phase, images, labels)

    def closed_form(
        self, phase: str, observed: Any, weights: dict[str, np.ndarray]
    ) -> dict[str, Any]:
        """The updated weights, from the gradients that the framework itself found."""
        if phase != "train_step":
            return {}
        return {"weights": self._optimizer.first_step(weights, observed["gradients"])}

    def torch(self, ctx: Context, phase: str, images: Any, labels: Any, weights: Any) -> Step:
        from collections import OrderedDict

        from torch import nn

        model = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(3, 6, 5),
                relu1=nn.ReLU(),
                pool1=nn.MaxPool2d(2),
                conv2=nn.Conv2d(6, 16, 5),
                relu2=nn.ReLU(),
                pool2=nn.MaxPool2d(2),
                flatten=nn.Flatten(),
                hidden=nn.Linear(16 * 5 * 5, 120),
                relu3=nn.ReLU(),
                logits=nn.Linear(120, CLASSES),
            )
        ).to(ctx.device)
        model.load_state_dict(weights)
        optimizer = self._optimizer.torch(model.parameters())
        return torch_step(ctx, phase, model, optimizer, images, labels)

    def tensorflow(self, ctx: Context, phase: str, images: Any, labels: Any, weights: Any) -> Step:
        import tensorflow as tf
        from keras import Input, Sequential, layers

        model = Sequential(
            [
                Input((32, 32, 3)),
                layers.Conv2D(6, 5, activation="relu", name="conv1"),
                layers.MaxPooling2D(2),
                layers.Conv2D(16, 5, activation="relu", name="conv2"),
                layers.MaxPooling2D(2),
                layers.Flatten(),
                layers.Dense(120, activation="relu", name="hidden"),
                layers.Dense(CLASSES, name="logits"),
            ]
        )

        def kernel(name: str, weight: Any) -> Any:
            """A weight in torch's layout as Keras wants it."""
            if name.startswith("conv"):  # out, in, row, column → row, column, in, out
                return tf.transpose(weight, (2, 3, 1, 0))
            if name == "hidden":  # its inputs come channel by channel, in Keras pixel by pixel
                split = tf.reshape(weight, (120, 16, 5, 5))
                return tf.reshape(tf.transpose(split, (2, 3, 1, 0)), (16 * 5 * 5, 120))
            return tf.transpose(weight)

        def weight(name: str, kernel: Any) -> Any:
            """The way back."""
            if name.startswith("conv"):
                return tf.transpose(kernel, (3, 2, 0, 1))
            if name == "hidden":
                split = tf.reshape(kernel, (5, 5, 16, 120))
                return tf.reshape(tf.transpose(split, (3, 2, 0, 1)), (120, 16 * 5 * 5))
            return tf.transpose(kernel)

        for name in SHAPES:
            model.get_layer(name).set_weights(
                [kernel(name, weights[f"{name}.weight"]), weights[f"{name}.bias"]]
            )

        def canonical(values: list[Any]) -> dict[str, Any]:
            kernels, biases = values[::2], values[1::2]
            answer: dict[str, Any] = {}
            for name, one, bias in zip(SHAPES, kernels, biases, strict=True):
                answer |= {f"{name}.weight": weight(name, one), f"{name}.bias": tf.identity(bias)}
            return answer

        images = tf.transpose(images, (0, 2, 3, 1))
        return keras_step(ctx, phase, model, self._optimizer.keras(), images, labels, canonical)
