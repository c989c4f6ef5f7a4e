"""Multilayer perceptrons: one that sorts images of 28 × 28 pixels into ten classes, the options of
its training step, and one that tells two classes apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from devbench import Context, Step, Work, benchmark
from devbench_suites._losses import BinaryCrossEntropy, FocalLoss, Sigmoid, TrainedOn, clipped
from devbench_suites._mlp_models import (
    CLASSES,
    FEATURES,
    PIXELS,
    canonical,
    keras_binary,
    keras_functional,
    keras_sequential,
    torch_binary,
    torch_module,
    torch_sequential,
)
from devbench_suites._numpy_network import (
    Dense,
    Layer,
    Network,
    ReLU,
    draw_images,
    draw_weights,
)
from devbench_suites._optimizers import SGD, Adam, InverseTimeDecay
from devbench_suites._phases import PHASES, keras_step, torch_step
from devbench_suites._work import LayerSize, classifier_work

HIDDEN = 100  # units of a hidden layer, where that is no axis


def _layers(weights: Mapping[str, np.ndarray]) -> list[Layer]:
    """Dense layers with ReLU between them, in the order of the weights."""
    layers: list[Layer] = []
    for name in weights:
        if name.endswith(".weight"):
            layers += [ReLU(), Dense(name.removesuffix(".weight"), weights)]
    return layers[1:]


def _draw(rng: np.random.Generator, batch: int, sizes: Mapping[str, int], inputs: int) -> Any:
    """Weights of layers of these sizes, and samples of so many numbers. sizes: name → units."""
    fan_in = [inputs, *sizes.values()]
    shapes = {name: (units, n) for (name, units), n in zip(sizes.items(), fan_in, strict=False)}
    weights = draw_weights(rng, shapes)
    return weights, draw_images(rng, Network(*_layers(weights)), batch, (inputs,))


@benchmark(
    name="mlp",
    axes={"batch": [32, 128, 512], "hidden": [100, 1024, 4096], "phase": PHASES},
    quick={"batch": [32, 256], "hidden": [100], "phase": PHASES},
    size="batch",
)
class MLP:
    """784 → hidden → hidden → 10 with ReLU, trained by Adam on the softmax cross-entropy.

    In float32. The phase forward computes the logits without keeping what a backward pass would
    need; forward_backward gives the loss and all gradients; train_step updates the weights as well.
    """

    _optimizer = Adam(learning_rate=1e-3)

    def work(self, batch: int, hidden: int, phase: str) -> Work:
        layers = [
            LayerSize(hidden, fan_in=PIXELS),
            LayerSize(hidden, fan_in=hidden),
            LayerSize(CLASSES, fan_in=hidden),
        ]
        return classifier_work(phase, batch, PIXELS, layers, self._optimizer.state)

    def inputs(self, rng: np.random.Generator, batch: int, hidden: int) -> dict[str, Any]:
        sizes = {"hidden1": hidden, "hidden2": hidden, "logits": CLASSES}
        weights, images = _draw(rng, batch, sizes, PIXELS)
        labels = rng.integers(CLASSES, size=batch)
        return {"images": images, "labels": labels, "weights": weights}

    def reference(
        self, phase: str, images: np.ndarray, labels: np.ndarray, weights: dict[str, np.ndarray]
    ) -> Any:
        return Network(*_layers(weights)).answer(phase, images, labels)

    def closed_form(
        self, phase: str, observed: Any, weights: dict[str, np.ndarray]
    ) -> dict[str, Any]:
        """The updated weights, from the gradients that the framework itself found.

        Adam divides each gradient by its size, so a gradient near zero makes a full update of
        either sign; weights of different frameworks cannot be compared.
        """
        if phase != "train_step":
            return {}
        return {"weights": self._optimizer.first_step(weights, observed["gradients"])}

    def torch(self, ctx: Context, phase: str, images: Any, labels: Any, weights: Any) -> Step:
        model = torch_sequential(weights)
        optimizer = self._optimizer.torch(model.parameters())
        return torch_step(ctx, phase, model, optimizer, images, labels)

    def tensorflow(self, ctx: Context, phase: str, images: Any, labels: Any, weights: Any) -> Step:
        model, optimizer = keras_sequential(weights), self._optimizer.keras()
        return keras_step(ctx, phase, model, optimizer, images, labels, canonical(weights))


@benchmark(
    name="mlp_training",
    axes={
        "batch": [32, 512],
        "optimizer": ["adam", "sgd_momentum"],
        "option": ["plain", "functional", "clip", "schedule", "custom_loss"],
    },
    quick={
        "batch": [32],
        "optimizer": ["adam"],
        "option": ["plain", "functional", "clip", "schedule", "custom_loss"],
    },
    size="batch",
)
class MLPTraining:
    """A training step of 784 → 100 → 100 → 10 with one thing changed at a time.

    plain        softmax cross-entropy, layers in a row (nn.Sequential, keras.Sequential)
    functional   the same network as a torch module with its own forward, as a functional Keras model
    clip         the gradients scaled to a common norm of at most 0.1 before the update
    schedule     a learning rate that falls with every step
    custom_loss  the focal loss, written in the framework's operations

    In float32. The step gives the loss, all gradients (as clipped, with the norm before) and the
    updated weights; with a schedule also the learning rate of the next step.
    """

    _clip_norm = 0.1
    _decay = InverseTimeDecay(rate=0.01)

    def _optimizer(self, name: str) -> Adam | SGD:
        return Adam(1e-3) if name == "adam" else SGD(0.01, momentum=0.9)

    def work(self, batch: int, optimizer: str) -> Work:
        layers = [
            LayerSize(HIDDEN, fan_in=PIXELS),
            LayerSize(HIDDEN, fan_in=HIDDEN),
            LayerSize(CLASSES, fan_in=HIDDEN),
        ]
        state = self._optimizer(optimizer).state
        return classifier_work("train_step", batch, PIXELS, layers, state)

    def inputs(self, rng: np.random.Generator, batch: int) -> dict[str, Any]:
        sizes = {"hidden1": HIDDEN, "hidden2": HIDDEN, "logits": CLASSES}
        weights, images = _draw(rng, batch, sizes, PIXELS)
        labels = rng.integers(CLASSES, size=batch)
        return {"images": images, "labels": labels, "weights": weights}

    def reference(
        self,
        optimizer: str,
        option: str,
        images: np.ndarray,
        labels: np.ndarray,
        weights: dict[str, np.ndarray],
    ) -> Any:
        layers = _layers(weights)
        custom = option == "custom_loss"
        network = TrainedOn(FocalLoss(), *layers) if custom else Network(*layers)
        answer = network.answer("train_step", images, labels)
        if option == "clip":
            gradients, norm = clipped(answer["gradients"], self._clip_norm)
            answer |= {"gradients": gradients, "norm": norm}
        if option == "schedule":
            first = self._optimizer(optimizer).learning_rate
            answer["learning_rate"] = np.asarray(self._decay.after(first, steps=1))
        return answer

    def closed_form(
        self, optimizer: str, observed: Any, weights: dict[str, np.ndarray]
    ) -> dict[str, Any]:
        """The updated weights, from the gradients that the framework itself found, and clipped."""
        updated = self._optimizer(optimizer).first_step(weights, observed["gradients"])
        return {"weights": updated}

    def torch(
        self, ctx: Context, optimizer: str, option: str, images: Any, labels: Any, weights: Any
    ) -> Step:
        import torch

        model = (torch_module if option == "functional" else torch_sequential)(weights)
        descent = self._optimizer(optimizer).torch(model.parameters())
        scheduler = self._decay.torch(descent) if option == "schedule" else None
        step = torch_step(
            ctx,
            "train_step",
            model,
            descent,
            images,
            labels,
            loss=FocalLoss() if option == "custom_loss" else None,
            clip_norm=self._clip_norm if option == "clip" else None,
            scheduler=scheduler,
        )
        if scheduler is None:
            return step
        return _with_rate(step, lambda: torch.tensor(scheduler.get_last_lr()[0]))

    def tensorflow(
        self, ctx: Context, optimizer: str, option: str, images: Any, labels: Any, weights: Any
    ) -> Step:
        model = (keras_functional if option == "functional" else keras_sequential)(weights)
        scheduled = option == "schedule"
        descent = self._optimizer(optimizer).keras(self._decay if scheduled else None)
        step = keras_step(
            ctx,
            "train_step",
            model,
            descent,
            images,
            labels,
            canonical(weights),
            loss=FocalLoss() if option == "custom_loss" else None,
            clip_norm=self._clip_norm if option == "clip" else None,
        )
        return _with_rate(step, lambda: descent.learning_rate) if scheduled else step


def _with_rate(step: Step, learning_rate: Callable[[], Any]) -> Step:
    """The step, whose output tells the learning rate of the next one too."""
    output = step.output
    assert output is not None  # a training step has one
    return replace(step, output=lambda run: output(run) | {"learning_rate": learning_rate()})


@benchmark(
    name="mlp_binary",
    axes={"batch": [32, 512, 8192], "phase": PHASES},
    quick={"batch": [32], "phase": ["forward", "train_step"]},
    size="batch",
)
class MLPBinary:
    """10 → 64 → 32 → 1 with ReLU and a sigmoid, trained by Adam on the binary cross-entropy.

    In float32. So small that a step is mostly the framework's own overhead. The phase forward gives
    the probabilities.
    """

    _optimizer = Adam(learning_rate=1e-3)

    def work(self, batch: int, phase: str) -> Work:
        layers = [
            LayerSize(64, fan_in=FEATURES),
            LayerSize(32, fan_in=64),
            LayerSize(1, fan_in=32),
        ]
        return classifier_work(phase, batch, FEATURES, layers, self._optimizer.state, 4)

    def inputs(self, rng: np.random.Generator, batch: int) -> dict[str, Any]:
        sizes = {"hidden1": 64, "hidden2": 32, "logit": 1}
        weights, samples = _draw(rng, batch, sizes, FEATURES)
        # Labels may all be 0 in a small batch, which is refused for floats; so they are integers.
        return {"samples": samples, "labels": rng.integers(2, size=(batch, 1)), "weights": weights}

    def reference(
        self, phase: str, samples: np.ndarray, labels: np.ndarray, weights: dict[str, np.ndarray]
    ) -> Any:
        network = TrainedOn(BinaryCrossEntropy(), *_layers(weights), Sigmoid())
        return network.answer(phase, samples, labels)

    def closed_form(
        self, phase: str, observed: Any, weights: dict[str, np.ndarray]
    ) -> dict[str, Any]:
        """The updated weights, from the gradients that the framework itself found."""
        if phase != "train_step":
            return {}
        return {"weights": self._optimizer.first_step(weights, observed["gradients"])}

    def torch(self, ctx: Context, phase: str, samples: Any, labels: Any, weights: Any) -> Step:
        model = torch_binary(weights)
        optimizer = self._optimizer.torch(model.parameters())
        labels = labels.to(samples.dtype)
        return torch_step(ctx, phase, model, optimizer, samples, labels, loss=BinaryCrossEntropy())

    def tensorflow(self, ctx: Context, phase: str, samples: Any, labels: Any, weights: Any) -> Step:
        import tensorflow as tf

        model = keras_binary(weights)
        return keras_step(
            ctx,
            phase,
            model,
            self._optimizer.keras(),
            samples,
            tf.cast(labels, samples.dtype),
            canonical(weights),
            loss=BinaryCrossEntropy(),
        )
