"""ResNet-18 in torch and in Keras, and its steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from devbench import Context, Step, Unsupported
from devbench_suites._phases import keras_step, torch_step
from devbench_suites._resnet import BLOCKS, EPSILON, MOMENTUM, Block, convolutions


def torch_resnet(classes: int, weights: Mapping[str, Any], statistics: Mapping[str, Any]) -> Any:
    import torch
    from torch import nn

    def conv(inputs: int, channels: int, kernel: int, stride: int) -> Any:
        return nn.Conv2d(inputs, channels, kernel, stride, padding=kernel // 2, bias=False)

    def norm(channels: int) -> Any:
        return nn.BatchNorm2d(channels, eps=EPSILON, momentum=MOMENTUM)

    class ResidualBlock(nn.Module):  # type: ignore[misc]  # torch is not followed
        def __init__(self, block: Block) -> None:
            super().__init__()
            inputs, channels, stride = block.inputs, block.channels, block.stride
            self.conv1, self.bn1 = conv(inputs, channels, 3, stride), norm(channels)
            self.conv2, self.bn2 = conv(channels, channels, 3, 1), norm(channels)
            self.downsample = nn.Sequential()
            if block.projects:
                self.downsample.extend([conv(inputs, channels, 1, stride), norm(channels)])

        def forward(self, x: Any) -> Any:
            y = torch.relu(self.bn1(self.conv1(x)))
            return torch.relu(self.bn2(self.conv2(y)) + self.downsample(x))

    class ResNet(nn.Module):  # type: ignore[misc]  # torch is not followed
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.bn1 = conv(3, 64, 7, 2), norm(64)
            self.pool = nn.MaxPool2d(3, 2, padding=1)
            for stage in range(1, 5):
                blocks = [block for block in BLOCKS if block.name.startswith(f"layer{stage}.")]
                self.add_module(f"layer{stage}", nn.Sequential(*map(ResidualBlock, blocks)))
            self.fc = nn.Linear(512, classes)

        def forward(self, x: Any) -> Any:
            x = self.pool(torch.relu(self.bn1(self.conv1(x))))
            x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
            return self.fc(x.mean((2, 3)))

    model = ResNet()
    model.load_state_dict({**weights, **statistics})
    return model


def torch_resnet_step(
    ctx: Context,
    phase: str,
    model: Any,
    optimizer: Any,
    images: Any,
    labels: Any,
    weights: Mapping[str, Any],
    statistics: Mapping[str, Any],
) -> Step:
    """The step of that phase for a model in the state that it should have.

    weights, statistics: what the model started with. A train_step gives the gradients and updated
    weights of what is trained, the running statistics where they are updated, and of everything else
    how many of its numbers changed.
    """
    import torch

    step = torch_step(ctx, phase, model, optimizer, images, labels)
    if phase == "forward":
        return step
    start = {**weights, **statistics}
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    per_channel = {
        f"{size.norm}.running_var": len(images) * size.side**2
        for size in convolutions(images.shape[-1])
    }

    def biased(name: str, updated: Any) -> Any:
        """torch keeps the running variance without bias, Keras and the reference keep it with."""
        if name not in per_channel:
            return updated
        old = (1 - MOMENTUM) * start[name]
        return old + (updated - old) * (1 - 1 / per_channel[name])

    def output(result: Any) -> dict[str, Any]:
        answer: dict[str, Any] = _classifier_output(step)(result)
        for kind in answer.keys() & {"gradients", "weights"}:
            answer[kind] = {name: answer[kind][name] for name in trained}
        if phase == "train_step":
            now = {name: value for name, value in model.state_dict().items() if name in start}
            moving = statistics.keys() if model.training else set()
            answer["statistics"] = {name: biased(name, now[name]) for name in moving}
            answer["moved"] = {
                name: torch.count_nonzero(
                    now[name].view(torch.int32) != start[name].view(torch.int32)
                )
                for name in start.keys() - trained - moving
            }
        return answer

    return replace(step, output=output)


def _classifier_output(step: Step) -> Callable[[Any], dict[str, Any]]:
    assert step.output is not None
    return step.output


def refuse_nchw() -> None:
    """Raises Unsupported where TensorFlow cannot train convolutions in NCHW: on a CPU without oneDNN."""
    import tensorflow as tf

    pixels, kernel = tf.ones((1, 1, 3, 3)), tf.ones((3, 3, 1, 1))
    try:
        with tf.GradientTape() as tape:
            tape.watch(kernel)
            y = tf.nn.conv2d(pixels, kernel, 1, "VALID", data_format="NCHW")
        tape.gradient(y, kernel)
    except (tf.errors.UnimplementedError, tf.errors.InvalidArgumentError) as error:
        raise Unsupported(
            "this TensorFlow has no convolutions in NCHW on this device (on a CPU it needs oneDNN)"
        ) from error


def keras_resnet(
    image: int,
    classes: int,
    weights: Mapping[str, Any],
    statistics: Mapping[str, Any],
    layout: str = "NHWC",
) -> Any:
    """Layers have the names of their weights.

    Before a stride of 2 the zeros are added by a layer of their own, one on each side as in torch:
    Keras' ``same`` adds them on the right and at the bottom only. Max-pooling may see them, since
    what comes out of a ReLU is no less.
    """
    from keras import Input, Model, layers

    first = layout == "NCHW"
    data_format = "channels_first" if first else "channels_last"

    def conv(x: Any, name: str, channels: int, kernel: int, stride: int) -> Any:
        padding = "same" if stride == 1 else "valid"
        if stride > 1 and kernel > 1:
            x = layers.ZeroPadding2D(kernel // 2, data_format=data_format)(x)
        return layers.Conv2D(
            channels,
            kernel,
            stride,
            padding,
            data_format=data_format,
            use_bias=False,
            name=name,
        )(x)

    def norm(x: Any, name: str) -> Any:
        return layers.BatchNormalization(
            axis=1 if first else -1, momentum=1 - MOMENTUM, epsilon=EPSILON, name=name
        )(x)

    images = Input((3, image, image) if first else (image, image, 3))
    x = layers.ReLU()(norm(conv(images, "conv1", 64, 7, 2), "bn1"))
    x = layers.ZeroPadding2D(1, data_format=data_format)(x)
    x = layers.MaxPooling2D(3, 2, data_format=data_format)(x)
    for block in BLOCKS:
        name, channels, stride = block.name, block.channels, block.stride
        y = norm(conv(x, f"{name}.conv1", channels, 3, stride), f"{name}.bn1")
        y = conv(layers.ReLU()(y), f"{name}.conv2", channels, 3, 1)
        y = norm(y, f"{name}.bn2")
        if block.projects:
            x = conv(x, f"{name}.downsample.0", channels, 1, stride)
            x = norm(x, f"{name}.downsample.1")
        x = layers.ReLU()(layers.Add()([y, x]))
    x = layers.GlobalAveragePooling2D(data_format=data_format)(x)
    model = Model(images, layers.Dense(classes, name="fc")(x))
    variables = _named(model.variables)
    for name, value in {**weights, **statistics}.items():
        variables[name].assign(_turned(value))
    return model


#: What Keras calls a weight → what torch calls it.
_KINDS = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "bias": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def _named(variables: list[Any]) -> dict[str, Any]:
    """The variables by the names of the inputs."""
    named = {}
    for variable in variables:
        layer, kind = variable.path.rsplit("/", 1)
        named[f"{layer}.{_KINDS[kind]}"] = variable
    return named


def _turned(value: Any, back: bool = False) -> Any:
    """A weight in torch's layout as Keras wants it, or the way back."""
    import tensorflow as tf

    if len(value.shape) == 4:  # out, in, row, column ↔ row, column, in, out
        return tf.transpose(value, (3, 2, 0, 1) if back else (2, 3, 1, 0))
    return tf.transpose(value) if len(value.shape) == 2 else tf.convert_to_tensor(value)


def keras_resnet_step(
    ctx: Context,
    phase: str,
    model: Any,
    optimizer: Any,
    images: Any,
    labels: Any,
    weights: Mapping[str, Any],
    statistics: Mapping[str, Any],
) -> Step:
    """As `torch_resnet_step`."""
    import tensorflow as tf

    start = {**weights, **statistics}
    trained = list(_named(model.trainable_variables))

    def canonical(values: list[Any]) -> dict[str, Any]:
        return {
            name: _turned(value, back=True) for name, value in zip(trained, values, strict=True)
        }

    step = keras_step(ctx, phase, model, optimizer, images, labels, canonical)
    if phase != "train_step":
        return step

    def output(result: Any) -> dict[str, Any]:
        answer = _classifier_output(step)(result)
        variables = _named(model.variables)
        now = {name: _turned(variables[name], back=True) for name in start}
        moving = statistics.keys() if model.get_layer("bn1").trainable else set()
        answer["statistics"] = {name: now[name] for name in moving}
        answer["moved"] = {
            name: tf.math.count_nonzero(
                tf.bitcast(now[name], tf.int32) != tf.bitcast(start[name], tf.int32)
            )
            for name in start.keys() - set(trained) - moving
        }
        return answer

    return replace(step, output=output)
