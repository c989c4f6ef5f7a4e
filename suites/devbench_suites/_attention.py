"""Scaled-dot-product attention in numpy at float64, forwards and backwards.

softmax(Q·Kᵀ/√d)·V, of Vaswani et al. (2017), "Attention is all you need". Arrays are (…, sequence,
head width); what stands before are independent heads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

#: Queries that are taken together, which bounds the memory of the scores.
_CHUNK: Final = 512


def attention(query: np.ndarray, key: np.ndarray, value: np.ndarray) -> np.ndarray:
    output = np.empty((*query.shape[:-1], value.shape[-1]))
    for head in np.ndindex(query.shape[:-2]):
        for rows in _chunks(query.shape[-2]):
            output[head][rows] = _probabilities(query[head][rows], key[head]) @ value[head]
    return output


def attention_gradients(
    query: np.ndarray, key: np.ndarray, value: np.ndarray, upstream: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The gradients of Σ upstream · attention(query, key, value) at query, key and value."""
    scale = 1 / np.sqrt(query.shape[-1])
    dquery, dkey, dvalue = np.zeros_like(query), np.zeros_like(key), np.zeros_like(value)
    for head in np.ndindex(query.shape[:-2]):
        q, k, v = query[head], key[head], value[head]
        for rows in _chunks(query.shape[-2]):
            dy, p = upstream[head][rows], _probabilities(q[rows], k)
            dp = dy @ v.T
            dscores = p * (dp - (p * dp).sum(-1, keepdims=True)) * scale
            dquery[head][rows] = dscores @ k
            dkey[head] += dscores.T @ q[rows]
            dvalue[head] += p.T @ dy
    return dquery, dkey, dvalue


def _probabilities(query: np.ndarray, key: np.ndarray) -> np.ndarray:
    scores = query @ key.T / np.sqrt(query.shape[-1])
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


def _chunks(rows: int) -> Iterator[slice]:
    return (slice(start, start + _CHUNK) for start in range(0, rows, _CHUNK))
