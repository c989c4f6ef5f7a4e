"""A multilayer perceptron that sorts images of 28 × 28 pixels into ten classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from devbench import Context, Step, Work, benchmark
from devbench_suites._numpy_network import Dense, Network, ReLU, draw_images, draw_weights
from devbench_suites._optimizers import Adam
from devbench_suites._phases import PHASES, keras_step, torch_step
from devbench_suites._work import LayerSize, classifier_work

PIXELS = 28 * 28
CLASSES = 10


def _network(weights: Mapping[str, np.ndarray]) -> Network:
    return Network(
        Dense("hidden1", weights),
        ReLU(),
        Dense("hidden2", weights),
        ReLU(),
        Dense("logits", weights),
    )


@benchmark(
    name="mlp",
    axes={"batch": [32, 128, 512], "hidden": [100, 1024], "phase": PHASES},
    quick={"batch": [32, 256], "hidden": [100], "phase": PHASES},
    size="batch",
)
class MLP:
    """784 → hidden → hidden → 10 with ReLU, trained by Adam on the softmax cross-entropy.

    In float32. The phase forward computes the logits without keeping what a backward pass would
    need; forward_backward gives the loss and all gradients; train_step updates the weights as well.
    """

    _optimizer = Adam(learning_rate=1e-3)

    def work(self, batch: int, hidden: int, phase: str) -> Work:
        layers = [
            LayerSize(hidden, fan_in=PIXELS),
            LayerSize(hidden, fan_in=hidden),
            LayerSize(CLASSES, fan_in=hidden),
        ]
        return classifier_work(phase, batch, PIXELS, layers, self._optimizer.state)

    def inputs(self, rng: np.random.Generator, batch: int, hidden: int) -> dict[str, Any]:
        weights = draw_weights(
            rng,
            {"hidden1": (hidden, PIXELS), "hidden2": (hidden, hidden), "logits": (CLASSES, hidden)},
        )
        return {
            "images": draw_images(rng, _network(weights), batch, (PIXELS,)),
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
        """The updated weights, from the gradients that the framework itself found.

        Adam divides each gradient by its size, so a gradient near zero makes a full update of
        either sign; weights of different frameworks cannot be compared.
        """
        if phase != "train_step":
            return {}
        return {"weights": self._optimizer.first_step(weights, observed["gradients"])}

    def torch(
        self, ctx: Context, hidden: int, phase: str, images: Any, labels: Any, weights: Any
    ) -> Step:
        from collections import OrderedDict

        from torch import nn

        model = nn.Sequential(
            OrderedDict(
                hidden1=nn.Linear(PIXELS, hidden),
                relu1=nn.ReLU(),
                hidden2=nn.Linear(hidden, hidden),
                relu2=nn.ReLU(),
                logits=nn.Linear(hidden, CLASSES),
            )
        ).to(ctx.device)
        model.load_state_dict(weights)
        optimizer = self._optimizer.torch(model.parameters())
        return torch_step(ctx, phase, model, optimizer, images, labels)

    def tensorflow(
        self, ctx: Context, hidden: int, phase: str, images: Any, labels: Any, weights: Any
    ) -> Step:
        import tensorflow as tf
        from keras import Input, Sequential, layers

        model = Sequential(
            [
                Input((PIXELS,)),
                layers.Dense(hidden, activation="relu", name="hidden1"),
                layers.Dense(hidden, activation="relu", name="hidden2"),
                layers.Dense(CLASSES, name="logits"),
            ]
        )
        for layer in model.layers:  # Keras keeps a kernel as (in, out), torch a weight as (out, in)
            kernel = tf.transpose(weights[f"{layer.name}.weight"])
            layer.set_weights([kernel, weights[f"{layer.name}.bias"]])

        def canonical(values: list[Any]) -> dict[str, Any]:
            return {name: tf.transpose(value) for name, value in zip(weights, values, strict=True)}

        return keras_step(ctx, phase, model, self._optimizer.keras(), images, labels, canonical)
