"""The phases of training a classifier, as a step in torch and in Keras.

forward          the logits, without what a backward pass would need (torch: inference mode;
                 TensorFlow: no tape)
forward_backward the loss and the gradient of every weight
train_step       the same, and one step of the optimizer

The loss is the mean softmax cross-entropy of integer labels unless another one is given. Steps give
``{"loss": …, "gradients": {name: …}}``, a train_step also ``"weights"`` after the update, in the
names and layout of the inputs. Where gradients are clipped, they are given as clipped, with their
``"norm"`` before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from devbench import Context, Step
from devbench_suites._losses import CLIP_EPSILON, Loss

PHASES: Final = ("forward", "forward_backward", "train_step")


def torch_step(
    ctx: Context,
    phase: str,
    model: Any,
    optimizer: Any,
    images: Any,
    labels: Any,
    *,
    loss: Loss | None = None,
    clip_norm: float | None = None,
    scheduler: Any = None,
) -> Step:
    """The step of that phase for a torch module whose parameters have the names of the inputs.

    clip_norm: a train_step scales all gradients so that their common norm is at most this.
    scheduler: sets the learning rate after each train_step.
    """
    import torch
    from torch.nn.functional import cross_entropy
    from torch.nn.utils import clip_grad_norm_

    classify = ctx.compile(model)
    mean_loss = cross_entropy if loss is None else loss.torch

    def forward() -> Any:
        with torch.inference_mode():
            return classify(images)

    def forward_backward() -> Any:
        optimizer.zero_grad()
        error = mean_loss(classify(images), labels)
        error.backward()
        return {"loss": error}

    def train_step() -> Any:
        result = forward_backward()
        if clip_norm is not None:
            result["norm"] = clip_grad_norm_(model.parameters(), clip_norm)
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        return result

    def output(result: Any) -> dict[str, Any]:
        parameters = dict(model.named_parameters())
        answer: dict[str, Any] = result | {
            "gradients": {name: p.grad for name, p in parameters.items()}
        }
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
    *,
    loss: Loss | None = None,
    clip_norm: float | None = None,
) -> Step:
    """The step of that phase for a Keras model. A schedule is part of a Keras optimizer.

    canonical: turns a list like the model's weights into a dict in the names and layout of the
    inputs. clip_norm: as in torch.
    """
    import keras
    import tensorflow as tf

    weights = model.trainable_variables
    optimizer.build(weights)  # a traced function may not create variables
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    mean_loss = cross_entropy if loss is None else loss.keras

    def forward(images: Any) -> Any:
        return model(images, training=False)

    def forward_backward(images: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            error = mean_loss(labels, model(images, training=True))
        return {"loss": error, "gradients": tape.gradient(error, weights)}

    def train_step(images: Any, labels: Any) -> Any:
        result = forward_backward(images, labels)
        if clip_norm is not None:
            gradients = result["gradients"]
            norm = tf.linalg.global_norm(gradients)
            clipped, _ = tf.clip_by_global_norm(gradients, clip_norm, norm + CLIP_EPSILON)
            result |= {"gradients": clipped, "norm": norm}
        optimizer.apply_gradients(zip(result["gradients"], weights, strict=True))
        return result

    def output(result: Any) -> dict[str, Any]:
        answer: dict[str, Any] = result | {"gradients": canonical(result["gradients"])}
        return answer | ({"weights": canonical(weights)} if phase == "train_step" else {})

    if phase == "forward":
        classify = ctx.compile(forward)
        return Step(lambda: classify(images))
    learn = ctx.compile(forward_backward if phase == "forward_backward" else train_step)
    return Step(lambda: learn(images, labels), output, stateful=phase == "train_step")
