"""What training a classifier in float32 must do, move and hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from devbench import Work

_FLOAT32: Final = 4
_INT64: Final = 8


@dataclass(frozen=True, slots=True)
class LayerSize:
    """A layer with weights: each unit sums `fan_in` products at `positions` places of the image."""

    units: int
    fan_in: int
    positions: int = 1

    @property
    def weights(self) -> int:
        return self.units * (self.fan_in + 1)  # and the bias

    @property
    def multiply_adds(self) -> int:
        return self.units * self.fan_in * self.positions

    @property
    def outputs(self) -> int:
        return self.units * self.positions


def classifier_work(
    phase: str,
    batch: int,
    image: int,
    layers: Sequence[LayerSize],
    optimizer_state: int,
    label_itemsize: int = _INT64,
) -> Work:
    """The work of one step.

    image: numbers in one image. optimizer_state: numbers that the optimizer keeps for each weight.
    label_itemsize: bytes of one label.

    flops: the products of dense and convolutional layers, a multiply-add counted as two, as is
    usual (torch's FlopCounterMode counts so too). Bias, ReLU, pooling, loss and the optimizer's
    dozen operations a weight are left out. The backward pass does each layer's product twice, for
    the weights' gradient and for the input's; the first layer's input, the images, needs none.

    bytes: images, labels and weights are read once, logits or gradients written once; the optimizer
    reads and writes its state and writes the weights. Activations may stay in a cache.

    footprint: all of these, and each layer's output before and after its ReLU, twice where their
    gradients are needed too.
    """
    forward = 2 * batch * sum(layer.multiply_adds for layer in layers)
    weights = sum(layer.weights for layer in layers)
    activations = 2 * batch * sum(layer.outputs for layer in layers)
    longest = max(layer.fan_in for layer in layers)
    images = batch * image
    if phase == "forward":
        logits = batch * layers[-1].outputs
        return Work(
            flops=forward,
            bytes=_FLOAT32 * (images + weights + logits),
            items=batch,
            footprint=_FLOAT32 * (images + weights + activations),
            terms=longest,
        )
    backward = 2 * forward - 2 * batch * layers[0].multiply_adds
    moved, held = images + 2 * weights, images + 2 * weights + 2 * activations
    if phase == "train_step":
        moved += weights + 2 * optimizer_state * weights
        held += optimizer_state * weights
    return Work(
        flops=forward + backward,
        bytes=_FLOAT32 * moved + label_itemsize * batch,
        items=batch,
        footprint=_FLOAT32 * held + label_itemsize * batch,
        # A weight's gradient sums over every sample and every position.
        terms=max(longest, batch * max(layer.positions for layer in layers)),
    )
