"""Samples as the store keeps them: little-endian float32."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def pack(samples: Iterable[float]) -> bytes:
    """Seconds to a blob. Raises ValueError for what is no time: zero, negative or not finite."""
    with np.errstate(over="ignore", under="ignore"):
        packed = np.fromiter(samples, np.float64).astype("<f4")
    if not (np.isfinite(packed) & (packed > 0)).all():
        raise ValueError("a sample must be a positive, finite number of seconds")
    return packed.tobytes()


def unpack(blob: bytes) -> tuple[float, ...]:
    """A blob to seconds: of each float32 the shortest decimal that stands for it.

    ``0.0021`` comes back as ``0.0021`` and not as ``0.0020999999251216650``, so an exported run is
    readable and packs to the same blob again.
    """
    return tuple(np.frombuffer(blob, "<f4").astype("U16").astype(np.float64).tolist())
