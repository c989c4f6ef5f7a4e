"""Adam, SGD and a schedule, the same in torch and in Keras, and what their first step does."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np


@dataclass(frozen=True, slots=True)
class InverseTimeDecay:
    """The learning rate η/(1 + rate·t) after t steps, as old as stochastic approximation itself
    (Robbins & Monro 1951). It never gets so small that updates vanish, however long a step is timed.
    """

    rate: float

    def torch(self, optimizer: Any) -> Any:
        import torch

        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: self.after(1.0, t))

    def keras(self, learning_rate: float) -> Any:
        import keras

        return keras.optimizers.schedules.InverseTimeDecay(
            learning_rate, decay_steps=1, decay_rate=self.rate
        )

    def after(self, learning_rate: float, steps: int) -> float:
        return learning_rate / (1 + self.rate * steps)


@dataclass(frozen=True, slots=True)
class Adam:
    """Kingma & Ba (2015), "Adam: a method for stochastic optimization", with torch's defaults."""

    learning_rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    #: Numbers that it keeps for each weight: both moments.
    state: ClassVar[int] = 2

    def torch(self, parameters: Iterable[Any]) -> Any:
        import torch

        betas = (self.beta1, self.beta2)
        return torch.optim.Adam(parameters, lr=self.learning_rate, betas=betas, eps=self.epsilon)

    def keras(self, decay: InverseTimeDecay | None = None) -> Any:
        import keras

        return keras.optimizers.Adam(
            learning_rate=_learning_rate(self.learning_rate, decay),
            beta_1=self.beta1,
            beta_2=self.beta2,
            # torch adds epsilon after the bias of the second moment is corrected and Keras before,
            # which makes it 1/√(1-β₂) = 32 times as large in the first step.
            epsilon=self.epsilon * math.sqrt(1 - self.beta2),
        )

    def first_step(
        self, weights: Mapping[str, np.ndarray], gradients: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """The weights after one step from a fresh state: both corrected moments are g and g²."""
        return {name: self._updated(weight, gradients[name]) for name, weight in weights.items()}

    def _updated(self, weight: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """In one array: of a large layer each further one costs more than the arithmetic."""
        update: np.ndarray = np.abs(gradient, dtype=np.float64)
        update += self.epsilon
        np.divide(gradient, update, out=update)
        update *= self.learning_rate
        np.subtract(weight, update, out=update)
        return update


@dataclass(frozen=True, slots=True)
class SGD:
    """Stochastic gradient descent with momentum, without dampening or Nesterov's look-ahead."""

    learning_rate: float = 0.01
    momentum: float = 0.9

    #: Numbers that it keeps for each weight: the velocity.
    state: ClassVar[int] = 1

    def torch(self, parameters: Iterable[Any]) -> Any:
        import torch

        return torch.optim.SGD(parameters, lr=self.learning_rate, momentum=self.momentum)

    def keras(self, decay: InverseTimeDecay | None = None) -> Any:
        import keras

        return keras.optimizers.SGD(
            learning_rate=_learning_rate(self.learning_rate, decay), momentum=self.momentum
        )

    def first_step(
        self, weights: Mapping[str, np.ndarray], gradients: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """The weights after one step from a fresh state, where the velocity is the gradient."""
        return {
            name: weight - self.learning_rate * gradients[name] for name, weight in weights.items()
        }


def _learning_rate(constant: float, decay: InverseTimeDecay | None) -> Any:
    """As a Keras optimizer takes it: a number or a schedule."""
    return constant if decay is None else decay.keras(constant)
