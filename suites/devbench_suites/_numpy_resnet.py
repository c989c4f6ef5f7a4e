"""ResNet-18 in numpy: the inputs of its steps, and what these should give."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from devbench_suites._numpy_network import (
    BatchNorm,
    Conv,
    Dense,
    GlobalAveragePool,
    Layer,
    MaxPool,
    Network,
    ReLU,
    Residual,
)
from devbench_suites._resnet import BLOCKS, EPSILON, FEATURES, MOMENTUM, convolutions, distinct

#: The standard deviation of what a convolution gives, roughly: so small that epsilon matters, and a
#: network with another one is found out.
_SPREAD: Final = 0.1
#: How far the bias before a ReLU may be moved.
_REACH: Final = 0.25
#: How clear a maximum must be in the stem's pooling. Errors of float32 are a tenth of it there.
_CLEAR: Final = 1e-5 * _SPREAD


def draw_resnet(
    rng: np.random.Generator, batch: int, image: int, classes: int, smooth: bool
) -> dict[str, Any]:
    """Images, labels, weights and running statistics.

    smooth: the gradient does not hang on rounding. At the kink of a ReLU, or where two inputs of a
    maximum are nearly equal, the gradient jumps, and two right implementations differ by a whole
    image's share; of the millions of activations some always come close. So pixels under an unclear
    maximum are drawn again, and each bias before a ReLU is moved by at most 0.25, to where no
    activation is near the kink: the middle of the widest gap between them.
    """
    weights, statistics = _draw_weights(rng, classes)
    count = distinct(batch)
    images = rng.standard_normal((count, 3, image, image))
    labels = rng.integers(classes, size=count)
    if smooth:
        _clear_maxima(rng, weights, images)
        body = _body(weights, None, lambda bias: _ClearingReLU(weights[bias]))
        Network(*body).logits(images)
    repeats = batch // count
    return {
        "images": np.tile(images.astype(np.float32), (repeats, 1, 1, 1)),
        "labels": np.tile(labels, repeats),
        "weights": weights,
        "statistics": statistics,
    }


def _draw_weights(
    rng: np.random.Generator, classes: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Weights, and running statistics like those of a network that was trained with them."""
    weights: dict[str, np.ndarray] = {}
    statistics: dict[str, np.ndarray] = {}
    for size in convolutions(image=224):
        shape, spread = (size.channels, size.inputs, size.kernel, size.kernel), _SPREAD
        weights[f"{size.name}.weight"] = rng.normal(0, spread * size.fan_in**-0.5, shape)
        weights[f"{size.norm}.weight"] = rng.uniform(0.5, 1.5, size.channels)
        weights[f"{size.norm}.bias"] = rng.uniform(-0.5, 0.5, size.channels)
        statistics |= {
            f"{size.norm}.running_mean": spread * rng.uniform(-0.5, 0.5, size.channels),
            f"{size.norm}.running_var": spread**2 * rng.uniform(0.5, 1.5, size.channels),
        }
    bound = FEATURES**-0.5
    weights["fc.weight"] = rng.uniform(-bound, bound, (classes, FEATURES))
    weights["fc.bias"] = rng.uniform(-bound, bound, classes)
    return weights, statistics


def _clear_maxima(
    rng: np.random.Generator, weights: Mapping[str, np.ndarray], images: np.ndarray
) -> None:
    """Redraw the pixels in the middle of each window of the stem whose maximum is not clear.

    Normalization multiplies all values of a channel by a positive number, so it keeps their order.
    """
    stem, pool = Conv("conv1", weights, stride=2, padding=3), MaxPool(3, 2, 1)
    while True:
        _, gaps = pool.gaps(stem.forward(images))
        unclear = np.argwhere((gaps < _CLEAR).any(1))
        if not len(unclear):
            return
        for index, row, column in unclear:  # strides of 2 and 2: its centre is at 4·row, 4·column
            rows, columns = (slice(max(4 * place - 2, 0), 4 * place + 3) for place in (row, column))
            patch = images[index, :, rows, columns]
            patch[...] = rng.standard_normal(patch.shape)


class _ClearingReLU(ReLU):
    """Moves the bias before it so that no input comes near its kink."""

    def __init__(self, bias: np.ndarray) -> None:
        self.bias = bias

    def forward(self, x: np.ndarray) -> np.ndarray:
        shift = np.array([_shift(channel.ravel()) for channel in x.swapaxes(0, 1)])
        self.bias += shift
        return super().forward(x + shift[:, None, None])


def _shift(values: np.ndarray) -> float:
    """What brings the middle of the widest gap between values around zero to zero."""
    near = values[np.abs(values) < _REACH]
    edges = np.sort(np.concatenate([near, [-_REACH, _REACH]]))
    widest = int(np.diff(edges).argmax())
    return float(-(edges[widest] + edges[widest + 1]) / 2)


def reference(
    phase: str,
    images: np.ndarray,
    labels: np.ndarray,
    weights: Mapping[str, np.ndarray],
    statistics: Mapping[str, np.ndarray],
) -> Any:
    """What a step of that phase should give, short of the updated weights."""
    batch, count = len(images), distinct(len(images))
    images, labels = images[:count], labels[:count]
    head = Dense("fc", weights)
    if phase == "forward":
        logits = Network(*_body(weights, statistics), head).logits(images)
        return np.tile(logits, (batch // count, 1))
    body = _body(weights, None)
    loss, gradients = Network(*body, head).loss_and_gradients(images, labels)
    answer = {"loss": loss, "gradients": gradients}
    if phase == "train_step":
        answer["statistics"] = _updated(statistics, body)
    return answer


def frozen_reference(
    images: np.ndarray,
    labels: np.ndarray,
    weights: Mapping[str, np.ndarray],
    statistics: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    """Loss and the last layer's gradients, where all before it is frozen; and that none of it moves."""
    count = distinct(len(images))
    features = Network(*_body(weights, statistics)).logits(images[:count])
    loss, gradients = Network(Dense("fc", weights)).loss_and_gradients(features, labels[:count])
    still = {**weights, **statistics}.keys() - gradients.keys()
    return {"loss": loss, "gradients": gradients, "moved": dict.fromkeys(sorted(still), 0)}


def _body(
    weights: Mapping[str, np.ndarray],
    statistics: Mapping[str, np.ndarray] | None,
    relu: Callable[[str], Layer] = lambda bias: ReLU(),
) -> list[Layer]:
    """All but the last layer. relu: makes the ReLU that follows the bias of that name."""

    def conv(name: str, norm: str, stride: int, padding: int) -> tuple[Layer, Layer]:
        return (
            Conv(name, weights, stride, padding),
            BatchNorm(norm, weights, EPSILON, statistics),
        )

    layers: list[Layer] = [*conv("conv1", "bn1", 2, 3), relu("bn1.bias"), MaxPool(3, 2, 1)]
    for block in BLOCKS:
        name = block.name
        main = [
            *conv(f"{name}.conv1", f"{name}.bn1", block.stride, 1),
            relu(f"{name}.bn1.bias"),
            *conv(f"{name}.conv2", f"{name}.bn2", 1, 1),
        ]
        down = f"{name}.downsample"
        shortcut: Sequence[Layer] = (
            conv(f"{down}.0", f"{down}.1", block.stride, 0) if block.projects else ()
        )
        layers += [Residual(main, shortcut), relu(f"{name}.bn2.bias")]
    return [*layers, GlobalAveragePool()]


def _updated(statistics: Mapping[str, np.ndarray], body: Sequence[Layer]) -> dict[str, np.ndarray]:
    """The running statistics after a forward pass in training, where the variance is the biased one."""
    updated = {}
    for norm in _norms(body):
        for kind, new in (("running_mean", norm.mean), ("running_var", norm.variance)):
            name = f"{norm.name}.{kind}"
            updated[name] = (1 - MOMENTUM) * statistics[name] + MOMENTUM * new
    return updated


def _norms(layers: Sequence[Layer]) -> list[BatchNorm]:
    found: list[BatchNorm] = []
    for layer in layers:
        if isinstance(layer, BatchNorm):
            found.append(layer)
        if isinstance(layer, Residual):
            found += [norm for way in layer.ways for norm in _norms(way)]
    return found
