"""Samples as the store keeps them: little-endian float32."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np

#: Seconds that float32 holds to its full precision; nothing that is a time lies outside.
LEAST: Final = 1e-37
MOST: Final = 1e37


def pack(samples: Iterable[float]) -> bytes:
    """Seconds to a blob. Raises ValueError for what is no time: zero, negative or not finite."""
    seconds = np.fromiter(samples, np.float64)
    if not ((seconds >= LEAST) & (seconds <= MOST)).all():
        raise ValueError("a sample must be a positive, finite number of seconds")
    return seconds.astype("<f4").tobytes()


def unpack(blob: bytes) -> tuple[float, ...]:
    """A blob to seconds: of each float32 the shortest decimal that stands for it.

    ``0.0021`` comes back as ``0.0021`` and not as ``0.0020999999251216650``, so an exported run is
    readable and packs to the same blob again.
    """
    return tuple(np.frombuffer(blob, "<f4").astype("U16").astype(np.float64).tolist())
