"""An LSTM layer in numpy at float64, forwards and backwards through time.

Hochreiter & Schmidhuber (1997), "Long short-term memory", with the forget gate of Gers et al.
(2000). x is (batch, place, feature); the weights are ``input`` (4·units, features), ``recurrent``
(4·units, units) and ``bias`` (4·units), the gates in the order input, forget, cell, output.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def lstm(x: np.ndarray, weights: Mapping[str, np.ndarray]) -> np.ndarray:
    """The hidden state at every place, (batch, place, unit), from a state of zeros."""
    return _forward(x, weights)[1]


def lstm_gradients(
    x: np.ndarray, upstream: np.ndarray, weights: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, dict[str, Any]]:
    """The hidden states, and the gradients of Σ upstream · lstm(x) at x and at the weights."""
    gates, hidden, cells = _forward(x, weights)
    dgates = np.empty_like(gates)
    dcell = later = np.zeros_like(cells[:, 0])
    for place in reversed(range(x.shape[1])):
        opened, forget, new, out = np.split(gates[:, place], 4, -1)
        before = cells[:, place - 1] if place else np.zeros_like(dcell)
        squashed = np.tanh(cells[:, place])
        dhidden = upstream[:, place] + later
        dcell = dcell + dhidden * out * (1 - squashed**2)
        dgates[:, place] = np.concatenate(
            [
                dcell * new * opened * (1 - opened),
                dcell * before * forget * (1 - forget),
                dcell * opened * (1 - new**2),
                dhidden * squashed * out * (1 - out),
            ],
            -1,
        )
        dcell = dcell * forget
        later = dgates[:, place] @ weights["recurrent"]
    own = {
        "input": np.einsum("btg,btf->gf", dgates, x, optimize=True),
        # The state before the first place is zero.
        "recurrent": np.einsum("btg,btu->gu", dgates[:, 1:], hidden[:, :-1], optimize=True),
        "bias": dgates.sum((0, 1)),
    }
    return hidden, {"x": dgates @ weights["input"], "weights": own}


def _forward(
    x: np.ndarray, weights: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gates after their activation, hidden states and cell states, each (batch, place, …)."""
    gates = x @ weights["input"].T + weights["bias"]
    shape = (*x.shape[:2], gates.shape[-1] // 4)
    hidden, cells = np.empty(shape), np.empty(shape)
    state = cell = np.zeros((shape[0], shape[2]))
    for place in range(x.shape[1]):
        sums = gates[:, place] + state @ weights["recurrent"].T
        opened, forget, new, out = np.split(sums, 4, -1)
        opened, forget, out = _sigmoid(opened), _sigmoid(forget), _sigmoid(out)
        new = np.tanh(new)
        cell = forget * cell + opened * new
        state = out * np.tanh(cell)
        gates[:, place] = np.concatenate([opened, forget, new, out], -1)
        hidden[:, place], cells[:, place] = state, cell
    return gates, hidden, cells


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-x)))
