"""A whole training: from drawn weights to a fixed accuracy on data that the network has not seen."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from devbench import Context, Step, Unsupported, Work, benchmark
from devbench_suites._numpy_network import draw_weights
from devbench_suites._optimizers import SGD
from devbench_suites._training import (
    CLASSES,
    EPOCHS,
    FEATURES,
    VALIDATION,
    Training,
    Trainings,
    batches,
    draw_data,
    keras_watch,
)

HIDDEN: Final = 128


@benchmark(
    name="training",
    axes={"samples": [4096, 16384], "batch": [128, 512], "loop": ["written", "fit"]},
    quick={"samples": [4096], "batch": [128], "loop": ["written", "fit"]},
    size="samples",
)
class TrainingLoop:
    """Train 32 → 128 → 10 with ReLU by SGD with momentum until it knows 95 % of new samples.

    A step is one whole training: the weights are set back before it, outside the timing, and epochs
    follow until the accuracy on 2048 other samples is reached, after 40 of them at the latest; else
    the case fails. The data are drawn from the seed: noise around eight centres a class. Batches come
    in the same shuffled order in every framework, and what is left over by them is skipped.

    The loop written goes through the batches in Python, the data lying on the device. The loop fit is
    ``model.fit`` as it is commonly used: batches from a tf.data pipeline on the host, training
    accuracy computed on the way, a callback. torch has no fit.

    How many epochs it takes is found while training, so no operations or bytes are declared. The
    metrics give the seconds of an epoch with its validation, the epochs that it took, the accuracy
    that was reached, and samples a second; the time of the step is the time to the accuracy.
    """

    #: The step raises when the accuracy is not reached. No formula gives the weights after hundreds
    #: of steps: rounding grows from one to the next.
    reference = "property"
    _optimizer = SGD(learning_rate=0.03, momentum=0.9)

    def work(self, samples: int, batch: int) -> Work:
        batches(samples, batch)  # refuses more than there are
        # The data with labels and orders; the weights with gradients and velocities are few.
        data = (samples + VALIDATION) * (4 * FEATURES + 8) + EPOCHS * samples * 8
        activations = 4 * max(batch, VALIDATION) * (2 * HIDDEN + CLASSES)
        return Work(footprint=data + 2 * activations)

    def inputs(self, rng: np.random.Generator, samples: int) -> dict[str, Any]:
        shapes = {"hidden": (HIDDEN, FEATURES), "logits": (CLASSES, HIDDEN)}
        return {"weights": draw_weights(rng, shapes), **draw_data(rng, samples)}

    def torch(
        self,
        ctx: Context,
        samples: int,
        batch: int,
        loop: str,
        weights: Any,
        x: Any,
        labels: Any,
        validation_x: Any,
        validation_labels: Any,
        order: Any,
    ) -> Step:
        from collections import OrderedDict

        import torch
        from torch import nn
        from torch.nn.functional import cross_entropy

        if loop == "fit":
            raise Unsupported("torch has no fit; a training loop is always written out")
        steps = batches(samples, batch)
        model = nn.Sequential(
            OrderedDict(
                hidden=nn.Linear(FEATURES, HIDDEN),
                relu=nn.ReLU(),
                logits=nn.Linear(HIDDEN, CLASSES),
            )
        ).to(ctx.device)
        classify = ctx.compile(model)
        optimizer = self._optimizer.torch(model.parameters())
        order = order[:, : steps * batch].reshape(EPOCHS, steps, batch)
        trainings = Trainings()

        def epoch(number: int) -> float:
            for rows in order[number]:
                optimizer.zero_grad()
                cross_entropy(classify(x[rows]), labels[rows]).backward()
                optimizer.step()
            with torch.inference_mode():
                right = classify(validation_x).argmax(1) == validation_labels
                return float(right.float().mean())

        def reset() -> None:
            model.load_state_dict(weights)
            optimizer.state.clear()  # the velocities

        reset()
        return Step(
            run=lambda: trainings.train(epoch),
            output=lambda training: torch.tensor(training.accuracies),
            reset=reset,
            metrics=lambda: trainings.metrics(steps * batch),
            stateful=True,
        )

    def tensorflow(
        self,
        ctx: Context,
        samples: int,
        batch: int,
        loop: str,
        weights: Any,
        x: Any,
        labels: Any,
        validation_x: Any,
        validation_labels: Any,
        order: Any,
    ) -> Step:
        import tensorflow as tf
        from keras import Input, Sequential, layers, losses

        steps = batches(samples, batch)
        model = Sequential(
            [
                Input((FEATURES,)),
                layers.Dense(HIDDEN, activation="relu", name="hidden"),
                layers.Dense(CLASSES, name="logits"),
            ]
        )
        optimizer = self._optimizer.keras()
        optimizer.build(model.trainable_variables)
        for layer in model.layers:
            kernel = tf.transpose(weights[f"{layer.name}.weight"])
            layer.set_weights([kernel, weights[f"{layer.name}.bias"]])
        changing = [*model.trainable_variables, *optimizer.variables]
        initial = [variable.numpy() for variable in changing]
        cross_entropy = losses.SparseCategoricalCrossentropy(from_logits=True)
        order = tf.reshape(order[:, : steps * batch], (EPOCHS, steps, batch))
        trainings = Trainings()

        def reset() -> None:
            for variable, value in zip(changing, initial, strict=True):
                variable.assign(value)

        def written() -> Training:
            return trainings.train(epoch)

        def train_step(x: Any, labels: Any, rows: Any) -> Any:
            with tf.GradientTape() as tape:
                logits = model(tf.gather(x, rows), training=True)
                loss = cross_entropy(tf.gather(labels, rows), logits)
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
            return loss

        def validate(x: Any, labels: Any) -> Any:
            right = tf.argmax(model(x, training=False), 1) == labels
            return tf.reduce_mean(tf.cast(right, tf.float32))

        learn, accuracy = ctx.compile(train_step), ctx.compile(validate)

        def epoch(number: int) -> float:
            for rows in tf.unstack(order[number]):
                learn(x, labels, rows)
            return float(accuracy(validation_x, validation_labels))

        def fit() -> Training:
            model.fit(
                pipeline,
                epochs=EPOCHS,
                steps_per_epoch=steps,
                validation_data=(validation_x, validation_labels),
                validation_batch_size=VALIDATION,
                callbacks=[watch],
                verbose=0,
            )
            return trainings.done[-1]

        if loop == "fit":
            # Left to itself, Keras takes XLA on a GPU; it is to run in the mode of the row.
            model.compile(
                optimizer,
                cross_entropy,
                metrics=["accuracy"],
                jit_compile=ctx.mode == "xla",
                run_eagerly=ctx.mode == "eager",
            )
            watch = keras_watch(trainings)
            with tf.device("/CPU:0"):
                host_x, host_labels = tf.identity(x), tf.identity(labels)
                pipeline = (
                    tf.data.Dataset.from_tensor_slices(tf.reshape(order, (-1, batch)))
                    .map(lambda rows: (tf.gather(host_x, rows), tf.gather(host_labels, rows)))
                    .prefetch(tf.data.AUTOTUNE)
                )
        return Step(
            run=fit if loop == "fit" else written,
            output=lambda training: tf.constant(training.accuracies),
            reset=reset,
            metrics=lambda: trainings.metrics(steps * batch),
            stateful=True,
        )
