"""Networks in numpy at float64, forwards and backwards: what networks of suites are checked against.

Images are (sample, feature) or (sample, channel, row, column); a dense weight is (out, in) and
a convolution's (out, in, row, column), as in torch. Weights and gradients are dicts with names such
as ``hidden.weight``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

Array: TypeAlias = np.ndarray
Weights: TypeAlias = Mapping[str, Array]

#: Images that are taken through the network together, to bound the memory of the windows.
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
    """Cross-correlation with a square kernel, padded by zeros. A convolution without bias has none."""

    def __init__(self, name: str, weights: Weights, stride: int = 1, padding: int = 0) -> None:
        self.name = name
        self.weight, self.bias = weights[f"{name}.weight"], weights.get(f"{name}.bias")
        self.stride, self.padding = stride, padding

    def forward(self, x: Array) -> Array:
        padded = _padded(x, self.padding, 0.0)
        self.shape, self.windows = padded.shape, _windows(padded, self.weight.shape[2], self.stride)
        y = np.einsum("nchwij,ocij->nohw", self.windows, self.weight, optimize=True)
        return np.asarray(y if self.bias is None else y + self.bias[:, None, None])

    def backward(self, dy: Array) -> tuple[Array, dict[str, Array]]:
        gradients = {
            f"{self.name}.weight": np.einsum("nchwij,nohw->ocij", self.windows, dy, optimize=True)
        }
        if self.bias is not None:
            gradients[f"{self.name}.bias"] = dy.sum((0, 2, 3))
        shares = np.einsum("nohw,ocij->ijnchw", dy, self.weight, optimize=True)
        return _put_back(shares, self.shape, self.stride, self.padding), gradients


class BatchNorm:
    """Each channel less its mean, over its standard deviation, times a weight, plus a bias.

    Mean and (biased) variance are those of the samples that it is given together, as in training;
    or fixed ones (`statistics`: ``NAME.running_mean`` and ``NAME.running_var``), as in evaluation.
    Ioffe & Szegedy (2015), "Batch normalization", ICML.
    """

    def __init__(
        self, name: str, weights: Weights, epsilon: float, statistics: Weights | None = None
    ) -> None:
        self.name, self.epsilon = name, epsilon
        self.weight, self.bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        self.fixed: tuple[Array, Array] | None = None
        if statistics is not None:
            self.fixed = statistics[f"{name}.running_mean"], statistics[f"{name}.running_var"]

    def forward(self, x: Array) -> Array:
        self.mean, self.variance = self.fixed or _moments(x)
        self.scale = (1 / np.sqrt(self.variance + self.epsilon))[:, None, None]
        self.normal = (x - self.mean[:, None, None]) * self.scale
        y = self.normal * self.weight[:, None, None] + self.bias[:, None, None]
        return np.asarray(y)

    def backward(self, dy: Array) -> tuple[Array, dict[str, Array]]:
        axes = (0, 2, 3)
        gradients = {
            f"{self.name}.weight": (dy * self.normal).sum(axes),
            f"{self.name}.bias": dy.sum(axes),
        }
        dx = dy
        if self.fixed is None:  # mean and variance depend on the input too
            dx = dy - dy.mean(axes, keepdims=True)
            dx -= self.normal * (dy * self.normal).mean(axes, keepdims=True)
        return dx * self.scale * self.weight[:, None, None], gradients


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
    """The largest of each square window. Its gradient goes to the first of equal ones."""

    def __init__(self, kernel: int = 2, stride: int = 2, padding: int = 0) -> None:
        self.kernel, self.stride, self.padding = kernel, stride, padding

    def forward(self, x: Array) -> Array:
        windows = self._flat_windows(x)
        self.largest = windows.argmax(-1)
        return np.take_along_axis(windows, self.largest[..., None], -1)[..., 0]

    def backward(self, dy: Array) -> tuple[Array, dict[str, Array]]:
        places = np.arange(self.kernel**2).reshape(self.kernel, self.kernel, 1, 1, 1, 1)
        shares = np.where(self.largest == places, dy, 0.0)
        return _put_back(shares, self.shape, self.stride, self.padding), {}

    def gaps(self, x: Array) -> tuple[Array, Array]:
        """The largest of each window, and by how little it beats the second."""
        second, largest = np.moveaxis(np.partition(self._flat_windows(x), -2)[..., -2:], -1, 0)
        return largest, largest - second

    def margin(self, x: Array) -> Array:
        """For each sample, by how little the largest of a window beats the second.

        Windows of nothing but zeros do not count: the ReLU before lets no gradient through there.
        """
        largest, gap = self.gaps(x)
        return np.asarray(np.where(largest > 0, gap, np.inf).reshape(len(x), -1).min(1))

    def _flat_windows(self, x: Array) -> Array:
        padded = _padded(x, self.padding, -np.inf)
        self.shape = padded.shape
        windows = _windows(padded, self.kernel, self.stride)
        return np.reshape(windows, (*windows.shape[:4], self.kernel**2))


class GlobalAveragePool:
    """The mean of each channel: (sample, channel, row, column) → (sample, channel)."""

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        return np.asarray(x.mean((2, 3)))

    def backward(self, dy: Array) -> tuple[Array, dict[str, Array]]:
        share = dy[:, :, None, None] / (self.shape[2] * self.shape[3])
        return np.broadcast_to(share, self.shape), {}


class Residual:
    """The sum of two ways through it; a shortcut without layers passes the input on."""

    def __init__(self, main: Sequence[Layer], shortcut: Sequence[Layer]) -> None:
        self.ways = tuple(main), tuple(shortcut)

    def forward(self, x: Array) -> Array:
        main, shortcut = (_forward(way, x) for way in self.ways)
        return np.asarray(main + shortcut)

    def backward(self, dy: Array) -> tuple[Array, dict[str, Array]]:
        (main, ours), (shortcut, theirs) = (_backward(way, dy) for way in self.ways)
        return main + shortcut, ours | theirs


def _moments(x: Array) -> tuple[Array, Array]:
    return x.mean((0, 2, 3)), x.var((0, 2, 3))


def _padded(x: Array, padding: int, value: float) -> Array:
    sides = (padding, padding)
    return np.pad(x, ((0, 0), (0, 0), sides, sides), constant_values=value) if padding else x


def _windows(x: Array, kernel: int, stride: int) -> Array:
    """(n, c, rows, columns) → (n, c, windows down, windows across, kernel, kernel), a view."""
    return sliding_window_view(x, (kernel, kernel), axis=(2, 3))[:, :, ::stride, ::stride]


def _put_back(shares: Array, shape: tuple[int, ...], stride: int, padding: int) -> Array:
    """Each input's gradient: the sum of its shares in the windows that it is part of.

    shares: (kernel, kernel, n, c, windows down, windows across). shape: of the padded input.
    """
    dx = np.zeros(shape)
    rows, columns = (stride * (count - 1) + 1 for count in shares.shape[4:])
    for i, j in np.ndindex(shares.shape[:2]):
        dx[:, :, i : i + rows : stride, j : j + columns : stride] += shares[i, j]
    return dx[:, :, padding : shape[2] - padding, padding : shape[3] - padding]


def _forward(layers: Iterable[Layer], x: Array) -> Array:
    for layer in layers:
        x = layer.forward(x)
    return x


def _backward(layers: Sequence[Layer], dy: Array) -> tuple[Array, dict[str, Array]]:
    gradients: dict[str, Array] = {}
    for layer in reversed(layers):
        dy, own = layer.backward(dy)
        gradients |= own
    return dy, gradients


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
        return np.concatenate([_forward(self.layers, images[part]) for part in _chunks(images)])

    def loss_and_gradients(self, images: Array, labels: Array) -> tuple[Array, dict[str, Array]]:
        total, gradients = 0.0, dict[str, Array]()
        for part in _chunks(images):
            logits = _forward(self.layers, images[part])
            losses, dy = _softmax_cross_entropy(logits, labels[part])
            total += losses.sum()
            for name, gradient in _backward(self.layers, dy / len(images))[1].items():
                gradients[name] = gradients.get(name, 0.0) + gradient
        return np.asarray(total / len(images)), gradients

    def margins(self, images: Array) -> Array:
        """For each sample, how near it comes to a point where the gradient jumps."""
        nearest = []
        for part in _chunks(images):
            x, margin = images[part], np.full(len(images[part]), np.inf)
            for layer in self.layers:
                if isinstance(layer, ReLU | MaxPool):
                    margin = np.minimum(margin, layer.margin(x))
                x = layer.forward(x)
            nearest.append(margin)
        return np.concatenate(nearest)


def _chunks(images: Array) -> Iterator[slice]:
    """All samples of plain features at once: each chunk costs a pass over all gradients."""
    samples = len(images)
    together = _CHUNK if images.ndim > 2 else max(1, samples)
    return (slice(start, start + together) for start in range(0, samples, together))


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
