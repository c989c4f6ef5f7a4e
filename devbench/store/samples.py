"""Samples as the store keeps them: little-endian float32, without what repeats itself.

The samples of one visit differ by a few percent, so of each number only the two lower bytes are news.
The two upper bytes are deflated, the lower ones follow as they are: 2.8 bytes a sample in place of 4.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Final

import numpy as np

#: Seconds that float32 holds to its full precision; no time but zero lies outside, which a coarse clock
#: shows for what lasts less than its tick.
LEAST: Final = 1e-37
MOST: Final = 1e37

#: Raw deflate: a header of its own would be as long as what it heads.
RAW: Final = -zlib.MAX_WBITS


def pack(samples: Iterable[float]) -> bytes:
    """Seconds to a blob. Raises ValueError for what is no time: negative or not finite."""
    seconds = np.fromiter(samples, np.float64)
    if not ((seconds == 0) | ((seconds >= LEAST) & (seconds <= MOST))).all():
        raise ValueError("a sample must be a finite number of seconds, zero or more")
    lower, upper = seconds.astype("<f4").view("<u2").reshape(-1, 2).T
    deflate = zlib.compressobj(9, zlib.DEFLATED, RAW)
    planes = (upper >> 8).astype("u1").tobytes() + (upper & 0xFF).astype("u1").tobytes()
    return deflate.compress(planes) + deflate.flush() + lower.tobytes()


def unpack(blob: bytes) -> tuple[float, ...]:
    """A blob to seconds: of each float32 the shortest decimal that stands for it.

    ``0.0021`` comes back as ``0.0021`` and not as ``0.0020999999251216650``, so an exported run is
    readable and packs to the same blob again. Raises ValueError for a blob that is damaged.
    """
    inflate = zlib.decompressobj(RAW)
    try:
        planes = np.frombuffer(inflate.decompress(blob), "u1")
    except zlib.error as error:
        raise ValueError(f"samples that cannot be read: {error}") from None
    lower = np.frombuffer(inflate.unused_data, "<u2")
    if not inflate.eof or len(planes) != 2 * len(lower):
        raise ValueError("samples that are cut off")
    top, next_ = planes.reshape(2, -1).astype("<u2")
    return unpack_plain(np.stack([lower, (top << 8) | next_], axis=1).tobytes())


def unpack_plain(blob: bytes) -> tuple[float, ...]:
    """The same of float32 one after the other, as schema version 1 had them."""
    return tuple(np.frombuffer(blob, "<f4").astype("U16").astype(np.float64).tolist())
