"""Convolutional networks that sort colour images: a small one into ten classes, ResNet-18 into 1000."""

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
from devbench_suites._numpy_resnet import draw_resnet, reference
from devbench_suites._optimizers import SGD
from devbench_suites._phases import PHASES, keras_step, torch_step
from devbench_suites._resnet import refuse_few_values, resnet_work
from devbench_suites._resnet_models import (
    keras_resnet,
    keras_resnet_step,
    refuse_nchw,
    torch_resnet,
    torch_resnet_step,
)
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
        model = self._torch_model(weights).to(ctx.device)
        optimizer = self._optimizer.torch(model.parameters())
        return torch_step(ctx, phase, model, optimizer, images, labels)

    def _torch_model(self, weights: Any) -> Any:
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
        )
        model.load_state_dict(weights)
        return model

    def tensorflow(self, ctx: Context, phase: str, images: Any, labels: Any, weights: Any) -> Step:
        import tensorflow as tf

        model = self._keras_model(weights)

        def canonical(values: list[Any]) -> dict[str, Any]:
            kernels, biases = values[::2], values[1::2]
            answer: dict[str, Any] = {}
            for name, kernel, bias in zip(SHAPES, kernels, biases, strict=True):
                weight = _from_keras(name, kernel)
                answer |= {f"{name}.weight": weight, f"{name}.bias": tf.identity(bias)}
            return answer

        images = tf.transpose(images, (0, 2, 3, 1))
        return keras_step(ctx, phase, model, self._optimizer.keras(), images, labels, canonical)

    def _keras_model(self, weights: Any) -> Any:
        from keras import Input, Sequential, layers

        model = Sequential(
            [
                Input((32, 32, 3)),
                layers.Conv2D(6, 5, activation="relu", name="conv1"),
                layers.MaxPooling2D(2),
                layers.Conv2D(16, 5, activation="relu", name="conv2"),
                layers.MaxPooling2D(2),
                layers.Flatten(name="flatten"),
                layers.Dense(120, activation="relu", name="hidden"),
                layers.Dense(CLASSES, name="logits"),
            ]
        )
        for name in SHAPES:
            kernel = _to_keras(name, weights[f"{name}.weight"])
            model.get_layer(name).set_weights([kernel, weights[f"{name}.bias"]])
        return model


def _to_keras(name: str, weight: Any) -> Any:
    """A weight in torch's layout as Keras wants it."""
    import tensorflow as tf

    if name.startswith("conv"):  # out, in, row, column → row, column, in, out
        return tf.transpose(weight, (2, 3, 1, 0))
    if name == "hidden":  # its inputs come channel by channel, in Keras pixel by pixel
        split = tf.reshape(weight, (120, 16, 5, 5))
        return tf.reshape(tf.transpose(split, (2, 3, 1, 0)), (16 * 5 * 5, 120))
    return tf.transpose(weight)


def _from_keras(name: str, kernel: Any) -> Any:
    """The way back."""
    import tensorflow as tf

    if name.startswith("conv"):
        return tf.transpose(kernel, (3, 2, 0, 1))
    if name == "hidden":
        split = tf.reshape(kernel, (5, 5, 16, 120))
        return tf.reshape(tf.transpose(split, (3, 2, 0, 1)), (120, 16 * 5 * 5))
    return tf.transpose(kernel)


@benchmark(
    name="resnet18",
    axes={
        "batch": [8, 32, 128],
        "image": [224],
        "layout": ["NCHW", "NHWC"],
        "phase": PHASES,
    },
    quick={
        "batch": [4],
        "image": [64],
        "layout": ["NCHW", "NHWC"],
        "phase": ["forward", "train_step"],
    },
    size="batch",
)
class ResNet18:
    """ResNet-18 for ImageNet's 1000 classes, 11,689,512 parameters, trained by SGD with momentum.

    In float32 on the softmax cross-entropy. The phase forward normalizes by the running statistics
    and keeps nothing for a backward pass; forward_backward gives the loss and all gradients;
    train_step updates the weights as well. Both normalize by the batch and update the statistics.

    layout is the order in which images and activations lie in memory: NHWC is torch's channels_last
    and TensorFlow's own. In NCHW Keras still pools in NHWC, and turns the activations there and back
    within the step. TensorFlow on a CPU needs oneDNN for NCHW.

    Made equal in both frameworks: the epsilon of batch normalization (1e-5; Keras' default is 1e-3),
    its momentum (a tenth of the new batch; Keras' default is a hundredth), and the zeros around a
    convolution with stride 2, one on each side (Keras' ``same`` puts them at the end only; here a
    layer of its own adds them). Left different: torch makes the running variance unbiased, Keras does
    not; torch has one operation for the normalization, Keras composes it of elementary ones.

    A batch repeats four drawn images, which changes neither the work nor the time, and makes a
    reference affordable at any size. No GPU has run the layouts yet.
    """

    _classes = 1000
    _optimizer = SGD(learning_rate=0.01, momentum=0.9)

    def work(self, batch: int, image: int, phase: str) -> Work:
        return resnet_work(phase, batch, image, self._classes, self._optimizer.state)

    def inputs(
        self, rng: np.random.Generator, batch: int, image: int, phase: str
    ) -> dict[str, Any]:
        return draw_resnet(rng, batch, image, self._classes, smooth=phase != "forward")

    def reference(
        self,
        phase: str,
        images: np.ndarray,
        labels: np.ndarray,
        weights: dict[str, np.ndarray],
        statistics: dict[str, np.ndarray],
    ) -> Any:
        return reference(phase, images, labels, weights, statistics)

    def closed_form(
        self, phase: str, observed: Any, weights: dict[str, np.ndarray]
    ) -> dict[str, Any]:
        """The updated weights, from the gradients that the framework itself found."""
        if phase != "train_step":
            return {}
        return {"weights": self._optimizer.first_step(weights, observed["gradients"])}

    def torch(
        self,
        ctx: Context,
        batch: int,
        image: int,
        layout: str,
        phase: str,
        images: Any,
        labels: Any,
        weights: Any,
        statistics: Any,
    ) -> Step:
        import torch

        order = torch.channels_last if layout == "NHWC" else torch.contiguous_format
        images = images.to(memory_format=order)
        model = torch_resnet(self._classes, weights, statistics)
        model = model.to(ctx.device, memory_format=order).train(phase != "forward")
        if model.training:
            refuse_few_values(batch, image)
        optimizer = self._optimizer.torch(model.parameters())
        return torch_resnet_step(ctx, phase, model, optimizer, images, labels, weights, statistics)

    def tensorflow(
        self,
        ctx: Context,
        batch: int,
        image: int,
        layout: str,
        phase: str,
        images: Any,
        labels: Any,
        weights: Any,
        statistics: Any,
    ) -> Step:
        import tensorflow as tf

        if phase != "forward":
            refuse_few_values(batch, image)
        if layout == "NCHW":
            refuse_nchw()
        else:
            images = tf.transpose(images, (0, 2, 3, 1))
        model = keras_resnet(image, self._classes, weights, statistics, layout)
        optimizer = self._optimizer.keras()
        return keras_resnet_step(ctx, phase, model, optimizer, images, labels, weights, statistics)
