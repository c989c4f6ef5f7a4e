"""Losses besides the softmax cross-entropy: in torch, in Keras, and in numpy with their gradients.

Each is the mean over the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

import numpy as np

from devbench_suites._numpy_network import Array, Layer, Network

#: torch adds it to the norm that it divides by; of a norm of 0.2 that is forty times the eps of
#: float32, so TensorFlow, which adds nothing, is made to do the same.
CLIP_EPSILON: Final = 1e-6


class Loss(Protocol):
    def torch(self, outputs: Any, labels: Any) -> Any: ...

    def keras(self, labels: Any, outputs: Any) -> Any:
        """The labels come first, as Keras calls a loss."""
        ...

    def numpy(self, outputs: Array, labels: Array) -> tuple[Array, Array]:
        """Each sample's loss, and the gradient of their sum with respect to the outputs."""
        ...


class BinaryCrossEntropy:
    """Of probabilities p: −y·ln p − (1−y)·ln(1−p), for labels y of 0.0 and 1.0.

    torch bounds the logarithms at −100 and Keras p at 1e-7 from either end; probabilities of a
    network that has not been trained for long are far from both.
    """

    def torch(self, outputs: Any, labels: Any) -> Any:
        from torch.nn.functional import binary_cross_entropy

        return binary_cross_entropy(outputs, labels)

    def keras(self, labels: Any, outputs: Any) -> Any:
        import keras

        return keras.losses.BinaryCrossentropy()(labels, outputs)

    def numpy(self, outputs: Array, labels: Array) -> tuple[Array, Array]:
        losses = -labels * np.log(outputs) - (1 - labels) * np.log1p(-outputs)
        return losses, (outputs - labels) / (outputs * (1 - outputs))


class FocalLoss:
    """−(1−p)²·ln p, where p is the softmax probability of the right class.

    Lin, Goyal, Girshick, He & Dollár (2017), "Focal loss for dense object detection", with γ = 2.
    Neither framework has it for integer labels, so it is written as anybody would write a loss of
    their own.
    """

    def torch(self, outputs: Any, labels: Any) -> Any:
        import torch

        log_p = torch.log_softmax(outputs, 1).gather(1, labels[:, None])
        return -((1 - log_p.exp()) ** 2 * log_p).mean()

    def keras(self, labels: Any, outputs: Any) -> Any:
        import tensorflow as tf

        log_p = tf.gather(tf.nn.log_softmax(outputs), labels, axis=1, batch_dims=1)
        return -tf.reduce_mean((1 - tf.exp(log_p)) ** 2 * log_p)

    def numpy(self, outputs: Array, labels: Array) -> tuple[Array, Array]:
        powers = np.exp(outputs - outputs.max(1, keepdims=True))
        softmax = powers / powers.sum(1, keepdims=True)
        rows = np.arange(len(labels))
        p = softmax[rows, labels]
        # dp/dz is p·(1 at the right class − softmax).
        slope = (2 * (1 - p) * np.log(p) - (1 - p) ** 2 / p) * p
        gradient = -slope[:, None] * softmax
        gradient[rows, labels] += slope
        return -((1 - p) ** 2) * np.log(p), gradient


class Sigmoid:
    """As a layer of a numpy network."""

    def forward(self, x: Array) -> Array:
        self.y = np.asarray(1 / (1 + np.exp(-x)))
        return self.y

    def backward(self, dy: Array) -> tuple[Array, dict[str, Array]]:
        return dy * self.y * (1 - self.y), {}


class TrainedOn(Network):
    """A numpy network with another loss than the softmax cross-entropy."""

    def __init__(self, loss: Loss, *layers: Layer) -> None:
        super().__init__(*layers)
        self._loss = loss

    def loss_and_gradients(self, images: Array, labels: Array) -> tuple[Array, dict[str, Array]]:
        x = images
        for layer in self.layers:
            x = layer.forward(x)
        losses, dy = self._loss.numpy(x, labels)
        dy = dy / len(images)
        gradients = dict[str, Array]()
        for layer in reversed(self.layers):
            dy, own = layer.backward(dy)
            gradients |= own
        return np.asarray(losses.mean()), gradients


def clipped(gradients: Mapping[str, Array], norm: float) -> tuple[dict[str, Array], Array]:
    """The gradients scaled so that their common norm is at most `norm`, and their norm before.

    Pascanu, Mikolov & Bengio (2013), "On the difficulty of training recurrent neural networks".
    """
    before = np.sqrt(sum(np.sum(gradient**2) for gradient in gradients.values()))
    scale = min(1.0, norm / (before + CLIP_EPSILON))
    return {name: scale * gradient for name, gradient in gradients.items()}, np.asarray(before)
