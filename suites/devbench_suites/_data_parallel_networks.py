"""The networks of data_parallel: described once, and read by numpy, torch and Keras.

mlp: 784 → 1024 → 1024 → 10 with ReLU, 1.86 million weights: the gradients to be averaged are large
for the work. cnn: two 5×5 convolutions with 2×2 max-pooling and two dense layers on 3×32×32, 52 202
weights: much work for small gradients.

Weights have the names and the layout of torch; torch keeps images as NCHW and Keras as NHWC. Both
train by the same SGD, whose update is linear in the gradients: weights can be held against the
reference as the gradients can.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from devbench_suites._numpy_network import Conv, Dense, Flatten, Layer, MaxPool, Network, ReLU
from devbench_suites._optimizers import SGD
from devbench_suites._work import LayerSize

CLASSES: Final = 10
OPTIMIZER: Final = SGD(learning_rate=0.01, momentum=0.9)

IMAGES: Final[Mapping[str, tuple[int, ...]]] = {"mlp": (28 * 28,), "cnn": (3, 32, 32)}
LAYERS: Final[Mapping[str, tuple[str, ...]]] = {
    "mlp": ("hidden1", "relu", "hidden2", "relu", "logits"),
    "cnn": (
        *("conv1", "relu", "pool", "conv2", "relu", "pool"),
        *("flatten", "hidden", "relu", "logits"),
    ),
}
#: Of the layers with weights: the shape of the weight, the outputs first.
SHAPES: Final[Mapping[str, Mapping[str, tuple[int, ...]]]] = {
    "mlp": {"hidden1": (1024, 28 * 28), "hidden2": (1024, 1024), "logits": (CLASSES, 1024)},
    "cnn": {
        "conv1": (6, 3, 5, 5),
        "conv2": (16, 6, 5, 5),
        "hidden": (120, 16 * 5 * 5),
        "logits": (CLASSES, 120),
    },
}
#: Places of the image at which a convolution's kernel is applied.
_POSITIONS: Final = {"conv1": 28 * 28, "conv2": 10 * 10}
#: What the dense layer after flattening reads: channels, rows, columns.
_FLATTENED: Final = {("cnn", "hidden"): (16, 5, 5)}


def layer_sizes(network: str) -> list[LayerSize]:
    return [
        LayerSize(units, fan_in=int(np.prod(rest)), positions=_POSITIONS.get(name, 1))
        for name, (units, *rest) in SHAPES[network].items()
    ]


def numpy_network(network: str, weights: Mapping[str, np.ndarray]) -> Network:
    def layer(name: str) -> Layer:
        match name:
            case "relu":
                return ReLU()
            case "pool":
                return MaxPool()
            case "flatten":
                return Flatten()
        return (Conv if len(SHAPES[network][name]) == 4 else Dense)(name, weights)

    return Network(*map(layer, LAYERS[network]))


def torch_module(network: str, weights: Mapping[str, np.ndarray]) -> Any:
    """The module on the CPU; its parameters have the names of `weights`."""
    import torch
    from torch import nn

    def layer(name: str) -> Any:
        match name:
            case "relu":
                return nn.ReLU()
            case "pool":
                return nn.MaxPool2d(2)
            case "flatten":
                return nn.Flatten()
        units, inputs, *kernel = SHAPES[network][name]
        return nn.Conv2d(inputs, units, kernel) if kernel else nn.Linear(inputs, units)

    named = OrderedDict[str, Any]()
    for place, name in enumerate(LAYERS[network]):
        named[name if name in SHAPES[network] else f"{name}{place}"] = layer(name)
    module = nn.Sequential(named)
    module.load_state_dict({name: torch.from_numpy(weight) for name, weight in weights.items()})
    return module


def keras_model(network: str, weights: Mapping[str, np.ndarray]) -> Any:
    """The model with these weights. It reads images as `keras_images` gives them."""
    from keras import Input, Sequential, layers

    def layer(name: str) -> Any:
        match name:
            case "relu":
                return layers.ReLU()
            case "pool":
                return layers.MaxPooling2D(2)
            case "flatten":
                return layers.Flatten()
        units, _, *kernel = SHAPES[network][name]
        return layers.Conv2D(units, kernel, name=name) if kernel else layers.Dense(units, name=name)

    channels, *pixels = IMAGES[network]
    model = Sequential([Input((*pixels, channels)), *map(layer, LAYERS[network])])
    for name in SHAPES[network]:
        kernel = _to_keras(network, name, weights[f"{name}.weight"])
        model.get_layer(name).set_weights([kernel, weights[f"{name}.bias"]])
    return model


def keras_images(images: np.ndarray) -> np.ndarray:
    """(sample, channel, row, column) → (sample, row, column, channel); vectors stay as they are."""
    return np.moveaxis(images, 1, -1)


def from_keras(network: str, values: list[np.ndarray]) -> dict[str, np.ndarray]:
    """A list like the model's weights, in the names and the layout of the inputs."""
    canonical = {}
    for name, kernel, bias in zip(SHAPES[network], values[::2], values[1::2], strict=True):
        canonical[f"{name}.weight"] = _from_keras(network, name, kernel)
        canonical[f"{name}.bias"] = bias
    return canonical


def _to_keras(network: str, name: str, weight: np.ndarray) -> np.ndarray:
    """Outputs last. After flattening, inputs come pixel by pixel, in torch channel by channel."""
    if shape := _FLATTENED.get((network, name)):
        weight = np.moveaxis(weight.reshape(-1, *shape), 1, -1).reshape(len(weight), -1)
    return weight.transpose(2, 3, 1, 0) if weight.ndim == 4 else weight.T


def _from_keras(network: str, name: str, kernel: np.ndarray) -> np.ndarray:
    """The way back."""
    weight = kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T
    if shape := _FLATTENED.get((network, name)):
        channels, *pixels = shape
        weight = np.moveaxis(weight.reshape(-1, *pixels, channels), -1, 1).reshape(len(weight), -1)
    return np.ascontiguousarray(weight)
