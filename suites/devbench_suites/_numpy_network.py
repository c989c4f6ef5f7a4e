"""Networks in numpy at float64, forwards and backwards: what mlp and cnn are checked against.

Images are (sample, feature) or (sample, channel, row, column); a dense weight is (out, in) and
a convolution's (out, in, row, column), as in torch. Weights and gradients are dicts with names such
as ``hidden.weight``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

Array: TypeAlias = np.ndarray
Weights: TypeAlias = Mapping[str, Array]

#: Samples that are taken through the network together, to bound the memory of the windows.
_CHUNK: Final = 64
#: The least distance of an activation from a kink. Float32 errors of activations stay below 1e-6.
_MARGIN: Final = 1e-5


class Layer(Protocol):
    def forward(self, x: Array) -> Array:
        """The layer's output; what `backward` needs is kept."""
        ...

    def backward(self, dy: Array) -> tuple[Array, dict[str, Array]]:
        """From the gradient at the output: the one at the input, and those of the weights."""
        ...


class Dense:
    def __init__(self, name: str, weights: Weights) -> None:
        self.name = name
        self.weight, self.bias = weights[f"{name}.weight"], weights[f"{name}.bias"]

    def forward(self, x: Array) -> Array:
        self.x = x
        return np.asarray(x @ self.weight.T + self.bias)

    def backward(self, dy: Array) -> tuple[Array, dict[str, Array]]:
        gradients = {f"{self.name}.weight": dy.T @ self.x, f"{self.name}.bias": dy.sum(0)}
        return dy @ self.weight, gradients


class Conv:
    """Cross-correlation with a square kernel: stride 1, no padding."""

    def __init__(self, name: str, weights: Weights) -> None:
        self.name = name
        self.weight, self.bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        self.kernel = self.weight.shape[2]

    def forward(self, x: Array) -> Array:
        self.windows = sliding_window_view(x, (self.kernel, self.kernel), axis=(2, 3))
        y = np.einsum("nchwij,ocij->nohw", self.windows, self.weight, optimize=True)
        return np.asarray(y + self.bias[:, None, None])

    def backward(self, dy: Array) -> tuple[Array, dict[str, Array]]:
        gradients = {
            f"{self.name}.weight": np.einsum("nchwij,nohw->ocij", self.windows, dy, optimize=True),
            f"{self.name}.bias": dy.sum((0, 2, 3)),
        }
        # Every input reached kernel × kernel outputs: a full correlation with the flipped kernel.
        edge = self.kernel - 1
        padded = np.pad(dy, ((0, 0), (0, 0), (edge, edge), (edge, edge)))
        windows = sliding_window_view(padded, (self.kernel, self.kernel), axis=(2, 3))
        flipped = self.weight[:, :, ::-1, ::-1]
        return np.einsum("nohwij,ocij->nchw", windows, flipped, optimize=True), gradients


class ReLU:
    def forward(self, x: Array) -> Array:
        self.positive = x > 0
        return np.where(self.positive, x, 0.0)

    def backward(self, dy: Array) -> tuple[Array, dict[str, Array]]:
        return np.where(self.positive, dy, 0.0), {}

    def margin(self, x: Array) -> Array:
        """For each sample, how near an input comes to the kink at 0."""
        return np.asarray(np.abs(x).reshape(len(x), -1).min(1))


class MaxPool:
    """The largest of each 2 × 2 square. Its gradient goes to the first of equal ones."""

    def forward(self, x: Array) -> Array:
        squares = _squares(x)
        self.shape, self.largest = x.shape, squares.argmax(-1)[..., None]
        return np.take_along_axis(squares, self.largest, -1)[..., 0]

    def backward(self, dy: Array) -> tuple[Array, dict[str, Array]]:
        squares = np.zeros((*dy.shape, 4))
        np.put_along_axis(squares, self.largest, dy[..., None], -1)
        n, c, rows, columns = dy.shape
        whole = squares.reshape(n, c, rows, columns, 2, 2).transpose(0, 1, 2, 4, 3, 5)
        return whole.reshape(self.shape), {}

    def margin(self, x: Array) -> Array:
        """For each sample, by how little the largest of a square beats the second.

        Squares of nothing but zeros do not count: the ReLU before lets no gradient through there.
        """
        ordered = np.sort(_squares(x), -1)
        gap = np.where(ordered[..., 3] > 0, ordered[..., 3] - ordered[..., 2], np.inf)
        return np.asarray(gap.reshape(len(x), -1).min(1))


def _squares(x: Array) -> Array:
    """(n, c, rows, columns) → (n, c, rows/2, columns/2, 4)."""
    n, c, rows, columns = x.shape
    split = x.reshape(n, c, rows // 2, 2, columns // 2, 2).transpose(0, 1, 2, 4, 3, 5)
    return split.reshape(n, c, rows // 2, columns // 2, 4)


class Flatten:
    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        return x.reshape(len(x), -1)

    def backward(self, dy: Array) -> tuple[Array, dict[str, Array]]:
        return dy.reshape(self.shape), {}


class Network:
    """Layers in a row, with the mean softmax cross-entropy of integer labels as its loss."""

    def __init__(self, *layers: Layer) -> None:
        self.layers = layers

    def answer(self, phase: str, images: Array, labels: Array) -> Any:
        """What a step of that phase should give, short of the updated weights."""
        if phase == "forward":
            return self.logits(images)
        loss, gradients = self.loss_and_gradients(images, labels)
        return {"loss": loss, "gradients": gradients}

    def logits(self, images: Array) -> Array:
        return np.concatenate([self._forward(images[part]) for part in _chunks(len(images))])

    def loss_and_gradients(self, images: Array, labels: Array) -> tuple[Array, dict[str, Array]]:
        total, gradients = 0.0, dict[str, Array]()
        for part in _chunks(len(images)):
            logits = self._forward(images[part])
            losses, dy = _softmax_cross_entropy(logits, labels[part])
            total += losses.sum()
            dy /= len(images)
            for layer in reversed(self.layers):
                dy, own = layer.backward(dy)
                for name, gradient in own.items():
                    gradients[name] = gradients.get(name, 0.0) + gradient
        return np.asarray(total / len(images)), gradients

    def _forward(self, x: Array) -> Array:
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def margins(self, images: Array) -> Array:
        """For each sample, how near it comes to a point where the gradient jumps."""
        nearest = []
        for part in _chunks(len(images)):
            x, margin = images[part], np.full(len(images[part]), np.inf)
            for layer in self.layers:
                if isinstance(layer, ReLU | MaxPool):
                    margin = np.minimum(margin, layer.margin(x))
                x = layer.forward(x)
            nearest.append(margin)
        return np.concatenate(nearest)


def _chunks(samples: int) -> Iterator[slice]:
    return (slice(start, start + _CHUNK) for start in range(0, samples, _CHUNK))


def _softmax_cross_entropy(logits: Array, labels: Array) -> tuple[Array, Array]:
    """Each sample's loss, and the gradient of their sum with respect to the logits."""
    shifted = logits - logits.max(1, keepdims=True)
    log_softmax = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    rows = np.arange(len(labels))
    gradient = np.exp(log_softmax)
    gradient[rows, labels] -= 1
    return -log_softmax[rows, labels], gradient


def draw_weights(rng: np.random.Generator, shapes: Mapping[str, Sequence[int]]) -> dict[str, Array]:
    """Weights and biases of the layers, uniform in ±1/√(inputs of a unit) as torch draws them.

    shapes: layer name → shape of its weight, the outputs first.
    """
    weights = {}
    for name, (units, *rest) in shapes.items():
        bound = 1 / np.sqrt(np.prod(rest))
        weights[f"{name}.weight"] = rng.uniform(-bound, bound, (units, *rest))
        weights[f"{name}.bias"] = rng.uniform(-bound, bound, units)
    return weights


def draw_images(
    rng: np.random.Generator, network: Network, batch: int, shape: Sequence[int]
) -> Array:
    """Standard normal images whose gradient does not hang on rounding.

    Where an input of a ReLU is nearly 0, or two inputs of a maximum are nearly equal, the gradient
    jumps, and two right implementations differ by a whole sample's share. Such images are drawn
    again (up to a fifth of them).
    """
    images = rng.standard_normal((batch, *shape))
    while (close := network.margins(images) < _MARGIN).any():
        images[close] = rng.standard_normal((int(close.sum()), *shape))
    return images
