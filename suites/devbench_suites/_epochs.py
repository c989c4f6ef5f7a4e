"""Epochs over the batches of an input pipeline: what came, in which order, and how fast."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

#: Training steps before those that count, and those.
_WARM_UP: Final = 3
_TIMED: Final = 10


@dataclass(frozen=True, slots=True)
class Epoch:
    """items: their indices in the order of arrival. images: in that order; None but in the first
    epoch, so that the others hold one batch at a time, as training does."""

    items: np.ndarray
    images: np.ndarray | None


class Epochs:
    """batches: starts an epoch; gives (indices, images) of one batch after the other, as tensors of
    either framework on the host."""

    def __init__(self, batches: Callable[[], Iterable[tuple[Any, Any]]]) -> None:
        self._batches = batches
        self._startup_s: float | None = None
        self._batch_s: list[float] = []

    def run(self) -> Epoch:
        first = self._startup_s is None
        items, images = [], []
        start = time.perf_counter()
        for some, made in self._batches():
            if self._startup_s is None:
                self._startup_s = time.perf_counter() - start
            items.append(some.numpy().copy())  # what a worker process made lies in shared memory
            if first:
                images.append(made.numpy().copy())
        if not first:
            self._batch_s.append((time.perf_counter() - start) / len(items))
        return Epoch(np.concatenate(items), np.concatenate(images) if first else None)

    def sorted(self, epoch: Epoch) -> dict[str, np.ndarray]:
        """The first epoch by index. Raises RuntimeError when the next one has the same order."""
        if np.array_equal(epoch.items, self.run().items):
            raise RuntimeError("two epochs in a row came in the same order: nothing was shuffled")
        assert epoch.images is not None
        order = np.argsort(epoch.items)
        return {"items": epoch.items[order], "images": epoch.images[order]}

    def metrics(self, train: Callable[[], Any]) -> dict[str, float]:
        """Figures of the epochs so far, beside a training step. train: returns when it is done."""
        assert self._startup_s is not None
        step_s = []
        for _ in range(_WARM_UP + _TIMED):
            start = time.perf_counter()
            train()
            step_s.append(time.perf_counter() - start)
        batch, step = statistics.median(self._batch_s), statistics.median(step_s[_WARM_UP:])
        return {
            "startup_s": self._startup_s,
            "batch_s": batch,
            "train_step_s": step,
            "starved_fraction": max(0.0, 1 - step / batch),
        }
