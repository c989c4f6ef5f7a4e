"""ResNet-18: its layers as data, and the work of a step.

He, Zhang, Ren & Sun (2016), "Deep residual learning for image recognition", CVPR: the 18-layer network
for ImageNet, with projection shortcuts (option B). Weights have the names that torchvision gives them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from devbench import Unsupported, Work

#: Of batch normalization; both are torch's defaults, Keras has 1e-3 and 0.01.
EPSILON: Final = 1e-5
MOMENTUM: Final = 0.1  # the share of the new batch in the running statistics
FEATURES: Final = 512

_STEM: Final = 64
#: Images that are drawn; a larger batch repeats them.
_DISTINCT: Final = 4
#: Of so few values of a channel, the variance is by chance so small that rounding rules the gradient.
_LEAST_VALUES: Final = 16


@dataclass(frozen=True, slots=True)
class Block:
    """Two 3×3 convolutions and a shortcut, which projects where the shape changes."""

    name: str
    inputs: int
    channels: int
    stride: int

    @property
    def projects(self) -> bool:
        return self.stride != 1 or self.inputs != self.channels


def _blocks() -> tuple[Block, ...]:
    blocks, inputs = [], _STEM
    for stage, channels in enumerate((64, 128, 256, FEATURES), 1):
        for index in range(2):
            stride = 2 if stage > 1 and index == 0 else 1
            blocks.append(Block(f"layer{stage}.{index}", inputs, channels, stride))
            inputs = channels
    return tuple(blocks)


BLOCKS: Final = _blocks()


@dataclass(frozen=True, slots=True)
class ConvSize:
    """A convolution, the batch normalization after it, and its place in a network for one image size."""

    name: str
    norm: str
    inputs: int
    channels: int
    kernel: int
    side: int  # of its square output, in pixels

    @property
    def fan_in(self) -> int:
        return self.inputs * self.kernel**2

    @property
    def outputs(self) -> int:
        return self.channels * self.side**2


def convolutions(image: int) -> list[ConvSize]:
    """Every convolution, in the order of the forward pass."""
    side = _halved(image)
    sizes = [ConvSize("conv1", "bn1", 3, _STEM, 7, side)]
    side = _halved(side)
    for block in BLOCKS:
        name, inputs, channels = block.name, block.inputs, block.channels
        side = side if block.stride == 1 else _halved(side)
        sizes += [
            ConvSize(f"{name}.conv1", f"{name}.bn1", inputs, channels, 3, side),
            ConvSize(f"{name}.conv2", f"{name}.bn2", channels, channels, 3, side),
        ]
        if block.projects:
            down = f"{name}.downsample"
            sizes.append(ConvSize(f"{down}.0", f"{down}.1", inputs, channels, 1, side))
    return sizes


def _halved(side: int) -> int:
    """By any of the strides of 2 here: each pads so that half the pixels remain, rounded up."""
    return (side + 1) // 2


def resnet_work(
    phase: str, batch: int, image: int, classes: int, optimizer_state: int, frozen: bool = False
) -> Work:
    """The work of one step in float32. frozen: only the last layer is trained.

    flops: the products of the convolutions and the last layer, a multiply-add counted as two. The
    backward pass does each layer's product twice, for the gradient of its weights and of its input;
    the images need none, and of a frozen body neither is needed. Normalization, ReLU, pooling, loss
    and optimizer are left out, as torch's FlopCounterMode does.

    bytes: images, labels and weights read once, logits or gradients and updated weights written once,
    the optimizer's state read and written. Activations may stay in a cache.

    footprint: all of these, and of the activations what a backward pass needs: each convolution's
    output, before and after normalization and ReLU; without one, three times the largest.
    """
    sizes = convolutions(image)
    head = batch * FEATURES * classes
    body = [batch * size.outputs * size.fan_in for size in sizes]
    trained = (FEATURES + 1) * classes
    weights = trained + sum(size.channels * (size.fan_in + 2) for size in sizes)
    statistics = sum(2 * size.channels for size in sizes)
    images, logits = 3 * batch * image**2, batch * classes
    # The rounding errors of one layer go on through all later ones.
    sums = [*(size.fan_in for size in sizes), FEATURES]
    largest = 3 * batch * max(size.outputs for size in sizes)
    flops, moved, held = (
        2 * (head + sum(body)),
        images + weights + statistics,
        images + weights + statistics + largest,
    )
    if phase == "forward":
        return Work(flops, 4 * (moved + logits), batch, 4 * held, sum(sums))
    flops += 2 * head
    terms = sum(sums) + batch
    if not frozen:
        trained = weights
        flops += 2 * head + 4 * sum(body) - 2 * body[0]
        moved += statistics
        held += 2 * batch * sum(size.outputs for size in sizes)
        # On the way back each normalization takes them into the gradient once more; and a weight's
        # gradient sums over every sample and position.
        terms = sum(k * (len(sums) - index) for index, k in enumerate(sums))
        terms += batch * sizes[0].side ** 2
    moved, held = moved + trained, held + trained
    if phase == "train_step":
        moved += trained + 2 * optimizer_state * trained
        held += optimizer_state * trained
    return Work(flops, 4 * moved + 8 * batch, batch, 4 * held + 8 * batch, terms)


def distinct(batch: int) -> int:
    """How many different images there are in a batch; the rest repeats them in order.

    All images of a batch together make its normalization, so a reference cannot take them in parts.
    Where each image appears equally often, the statistics, the loss and the gradients of the batch
    are those of the distinct ones, whose reference is affordable at any batch size.
    """
    return math.gcd(batch, _DISTINCT)


def refuse_few_values(batch: int, image: int) -> None:
    """Raises Unsupported where training would normalize over too few values to be checked."""
    side = convolutions(image)[-1].side
    values = distinct(batch) * side**2
    if values < _LEAST_VALUES:
        raise Unsupported(
            f"with batch={batch} and image={image} the last stage normalizes over {values} different "
            f"values a channel, and gradients hang on rounding below {_LEAST_VALUES}; take a larger "
            "image, or a batch that is a multiple of 4"
        )
