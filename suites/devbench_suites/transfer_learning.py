"""A trained network put to a new task: only its last layer trained, or all of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from devbench import Context, Step, Work, benchmark
from devbench_suites._numpy_resnet import draw_resnet, frozen_reference, reference
from devbench_suites._optimizers import SGD
from devbench_suites._resnet import refuse_few_values, resnet_work
from devbench_suites._resnet_models import (
    keras_resnet,
    keras_resnet_step,
    torch_resnet,
    torch_resnet_step,
)

CLASSES = 10


@benchmark(
    name="transfer_learning",
    axes={"batch": [8, 32, 128], "image": [224], "trained": ["head", "all"]},
    quick={"batch": [4], "image": [64], "trained": ["head", "all"]},
    size="batch",
)
class TransferLearning:
    """One training step of ResNet-18 with a new last layer for ten classes, by SGD with momentum.

    trained=head: the body is frozen. Its weights get no gradient and its batch normalizations use
    and keep their running statistics, so its part of the step is a forward pass. Nothing of it may
    move: how many of its numbers have other bits after the step is part of the output, and must be
    0. trained=all: every weight is updated, and the running statistics as well, as in `resnet18`.

    The weights are drawn, not downloaded: how long a step takes does not depend on them.
    """

    _optimizer = SGD(learning_rate=0.01, momentum=0.9)

    def work(self, batch: int, image: int, trained: str) -> Work:
        state, frozen = self._optimizer.state, trained == "head"
        return resnet_work("train_step", batch, image, CLASSES, state, frozen)

    def inputs(
        self, rng: np.random.Generator, batch: int, image: int, trained: str
    ) -> dict[str, Any]:
        return draw_resnet(rng, batch, image, CLASSES, smooth=trained == "all")

    def reference(
        self,
        trained: str,
        images: np.ndarray,
        labels: np.ndarray,
        weights: dict[str, np.ndarray],
        statistics: dict[str, np.ndarray],
    ) -> Any:
        if trained == "head":
            return frozen_reference(images, labels, weights, statistics)
        return reference("train_step", images, labels, weights, statistics)

    def closed_form(self, observed: Any, weights: dict[str, np.ndarray]) -> dict[str, Any]:
        """The updated weights, from the gradients that the framework itself found."""
        gradients = observed["gradients"]
        trained = {name: weights[name] for name in weights if name in gradients}
        return {"weights": self._optimizer.first_step(trained, gradients)}

    def torch(
        self,
        ctx: Context,
        batch: int,
        image: int,
        trained: str,
        images: Any,
        labels: Any,
        weights: Any,
        statistics: Any,
    ) -> Step:
        model = torch_resnet(CLASSES, weights, statistics).to(ctx.device)
        if trained == "head":
            model.eval()
            model.requires_grad_(False)
            model.fc.requires_grad_(True)
        else:
            refuse_few_values(batch, image)
            model.train()
        optimizer = self._optimizer.torch(p for p in model.parameters() if p.requires_grad)
        return torch_resnet_step(
            ctx, "train_step", model, optimizer, images, labels, weights, statistics
        )

    def tensorflow(
        self,
        ctx: Context,
        batch: int,
        image: int,
        trained: str,
        images: Any,
        labels: Any,
        weights: Any,
        statistics: Any,
    ) -> Step:
        import tensorflow as tf

        model = keras_resnet(image, CLASSES, weights, statistics)
        if trained == "head":
            for layer in model.layers:  # a BatchNormalization then uses its running statistics
                layer.trainable = layer.name == "fc"
        else:
            refuse_few_values(batch, image)
        images = tf.transpose(images, (0, 2, 3, 1))
        return keras_resnet_step(
            ctx,
            "train_step",
            model,
            self._optimizer.keras(),
            images,
            labels,
            weights,
            statistics,
        )
