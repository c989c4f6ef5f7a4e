"""What trainings to an accuracy share: the data, and the record of what was reached and when."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from devbench.errors import UsageError

FEATURES: Final = 32
CLASSES: Final = 10
VALIDATION: Final = 2048
#: Points of a class around which its samples lie: eighty among 32 features, which no linear map
#: tells apart.
_CENTRES: Final = 8
_SPREAD: Final = 0.6

#: The validation accuracy that a training goes on to, and the epochs in which it has to get there.
#: At float64 the declared cases take between 1 and 19.
ACCURACY: Final = 0.95
EPOCHS: Final = 40


def draw_data(rng: np.random.Generator, samples: int) -> dict[str, np.ndarray]:
    """Samples to learn from, others to validate on, and the order of each epoch.

    A sample is a centre of its class and noise. The order is drawn here, not by a framework, so that
    all train on the same batches: ``order`` is (epoch, sample).
    """
    centres = rng.standard_normal((_CENTRES * CLASSES, FEATURES))

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        which = rng.integers(len(centres), size=count)
        noise = _SPREAD * rng.standard_normal((count, FEATURES))
        return centres[which] + noise, which % CLASSES

    x, labels = draw(samples)
    validation_x, validation_labels = draw(VALIDATION)
    return {
        "x": x,
        "labels": labels,
        "validation_x": validation_x,
        "validation_labels": validation_labels,
        "order": np.stack([rng.permutation(samples) for _ in range(EPOCHS)]),
    }


@dataclass(frozen=True, slots=True)
class Training:
    """Seconds of each epoch with its validation, and the validation accuracy after it."""

    seconds: tuple[float, ...]
    accuracies: tuple[float, ...]


@dataclass(slots=True)
class Trainings:
    """Every training of a case, from the same start to the accuracy."""

    done: list[Training] = field(default_factory=list)

    def train(self, epoch: Callable[[int], float]) -> Training:
        """Run epochs until one reaches the accuracy. epoch: runs that number and gives its accuracy.

        An accuracy is a number on the host, so the device has finished when an epoch ends. Raises
        as `record`.
        """
        seconds, accuracies = list[float](), list[float]()
        while len(accuracies) < EPOCHS and not reached(accuracies):
            start = time.perf_counter()
            accuracies.append(epoch(len(accuracies)))
            seconds.append(time.perf_counter() - start)
        return self.record(seconds, accuracies)

    def record(self, seconds: list[float], accuracies: list[float]) -> Training:
        """Note a training that has ended. Raises RuntimeError where it fell short."""
        if not reached(accuracies):
            raise RuntimeError(
                f"after {len(accuracies)} epochs the validation accuracy is {accuracies[-1]:.3f}; "
                f"{ACCURACY:g} was to be reached. A large batch takes few steps an epoch: try a "
                "smaller one, or more samples"
            )
        self.done.append(Training(tuple(seconds), tuple(accuracies)))
        return self.done[-1]

    def metrics(self, samples: int) -> dict[str, float | str]:
        """Medians over the trainings; the first, which traces and compiles, counts if it is alone.

        samples: what one epoch trains on. The seconds to the accuracy are those of the step itself.
        """
        counted = self.done[1:] or self.done
        epoch = statistics.median(second for one in counted for second in one.seconds)
        return {
            "epoch_s": epoch,
            "epochs": statistics.median(len(one.seconds) for one in counted),
            "accuracy_fraction": statistics.median(one.accuracies[-1] for one in counted),
            "samples_per_s": samples / epoch,
        }


def reached(accuracies: list[float]) -> bool:
    return bool(accuracies) and accuracies[-1] >= ACCURACY


def batches(samples: int, batch: int) -> int:
    """Batches an epoch; what is left over by them is not trained on. Raises UsageError."""
    if not 1 <= batch <= samples:
        raise UsageError(f"a batch holds 1 to {samples} of {samples} samples, not {batch}")
    return samples // batch


def keras_watch(trainings: Trainings) -> Any:
    """A callback for ``model.fit`` that ends it at the accuracy and records it."""
    import keras

    class Watch(keras.callbacks.Callback):  # type: ignore[misc]  # keras is not followed into
        def on_train_begin(self, logs: Any = None) -> None:
            self.seconds, self.accuracies = list[float](), list[float]()

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.start = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.seconds.append(time.perf_counter() - self.start)
            self.accuracies.append(float(logs["val_accuracy"]))
            self.model.stop_training = reached(self.accuracies)

        def on_train_end(self, logs: Any = None) -> None:
            trainings.record(self.seconds, self.accuracies)

    return Watch()
