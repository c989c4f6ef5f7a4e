"""A small convolutional network that is trained beside an input pipeline, to tell which one waits.

Two convolutions (16 and 32 filters of 3×3, stride 2), the mean over the image, ten classes; SGD on
one batch of random images that lies on the device. Each call of what these functions return is one
training step, done when it returns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from devbench import Context
from devbench_suites._optimizers import SGD
from devbench_suites._phases import keras_step, torch_step

_CLASSES: Final = 10
#: Side of the images below which nothing is left for the second convolution.
SMALLEST: Final = 7


def in_torch(ctx: Context, batch: int, side: int) -> Callable[[], float]:
    import torch
    from torch import nn

    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, _CLASSES),
    ).to(ctx.device)
    images = torch.randn(batch, 3, side, side, device=ctx.device)
    labels = torch.randint(_CLASSES, (batch,), device=ctx.device)
    optimizer = SGD().torch(model.parameters())
    step = torch_step(ctx, "train_step", model, optimizer, images, labels)
    return lambda: float(step.run()["loss"].detach())  # reading the loss waits for the device


def in_tensorflow(ctx: Context, batch: int, side: int) -> Callable[[], float]:
    import tensorflow as tf
    from keras import Input, Sequential, layers

    model = Sequential(
        [
            Input((side, side, 3)),
            layers.Conv2D(16, 3, strides=2, activation="relu"),
            layers.Conv2D(32, 3, strides=2, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(_CLASSES),
        ]
    )
    images = tf.random.normal((batch, side, side, 3))
    labels = tf.random.uniform((batch,), maxval=_CLASSES, dtype=tf.int64)

    def by_name(values: Any) -> dict[str, Any]:
        return {
            weight.path: value
            for weight, value in zip(model.trainable_variables, values, strict=True)
        }

    step = keras_step(ctx, "train_step", model, SGD().keras(), images, labels, by_name)
    return lambda: float(step.run()["loss"])
