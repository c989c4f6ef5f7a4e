"""The phases of training a classifier, as a step in torch and in Keras.

forward          the logits, without what a backward pass would need (torch: inference mode;
                 TensorFlow: no tape)
forward_backward the loss and the gradient of every weight
train_step       the same, and one step of the optimizer

The loss is the mean softmax cross-entropy of integer labels. Steps give ``{"loss": …,
"gradients": {name: …}}``, a train_step also ``"weights"`` after the update, in the names and layout
of the inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from devbench import Context, Step

PHASES: Final = ("forward", "forward_backward", "train_step")


def torch_step(
    ctx: Context, phase: str, model: Any, optimizer: Any, images: Any, labels: Any
) -> Step:
    """The step of that phase for a torch module whose parameters have the names of the inputs."""
    import torch
    from torch.nn.functional import cross_entropy

    classify = ctx.compile(model)

    def forward() -> Any:
        with torch.inference_mode():
            return classify(images)

    def forward_backward() -> Any:
        optimizer.zero_grad()
        loss = cross_entropy(classify(images), labels)
        loss.backward()
        return loss

    def train_step() -> Any:
        loss = forward_backward()
        optimizer.step()
        return loss

    def output(loss: Any) -> dict[str, Any]:
        parameters = dict(model.named_parameters())
        answer = {"loss": loss, "gradients": {name: p.grad for name, p in parameters.items()}}
        return answer | ({"weights": parameters} if phase == "train_step" else {})

    if phase == "forward":
        return Step(forward)
    if phase == "forward_backward":
        return Step(forward_backward, output)
    return Step(train_step, output, stateful=True)


def keras_step(
    ctx: Context,
    phase: str,
    model: Any,
    optimizer: Any,
    images: Any,
    labels: Any,
    canonical: Callable[[Any], Mapping[str, Any]],
) -> Step:
    """The step of that phase for a Keras model.

    canonical: turns a list like the model's weights into a dict in the names and layout of the
    inputs.
    """
    import keras
    import tensorflow as tf

    weights = model.trainable_variables
    optimizer.build(weights)  # a traced function may not create variables
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def forward(images: Any) -> Any:
        return model(images, training=False)

    def forward_backward(images: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = cross_entropy(labels, model(images, training=True))
        return loss, tape.gradient(loss, weights)

    def train_step(images: Any, labels: Any) -> Any:
        loss, gradients = forward_backward(images, labels)
        optimizer.apply_gradients(zip(gradients, weights, strict=True))
        return loss, gradients

    def output(result: Any) -> dict[str, Any]:
        loss, gradients = result
        answer = {"loss": loss, "gradients": canonical(gradients)}
        return answer | ({"weights": canonical(weights)} if phase == "train_step" else {})

    if phase == "forward":
        classify = ctx.compile(forward)
        return Step(lambda: classify(images))
    learn = ctx.compile(forward_backward if phase == "forward_backward" else train_step)
    return Step(lambda: learn(images, labels), output, stateful=phase == "train_step")
