"""What limits a case, and how close it comes: the roofline over measured ceilings.

Williams, Waterman & Patterson (2009), "Roofline: an insightful visual performance model for
multicore architectures", Communications of the ACM 52(4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from devbench.measure.ceilings import Ceilings
from devbench.model import Work

#: A footprint of so many times the cache streams from memory; of a smaller one a part may stay.
STREAM: Final = 2
#: How many times the cache the vectors are on which the bandwidth of memory is measured.
PROBE: Final = 4


@dataclass(frozen=True, slots=True)
class Position:
    """Where a case lies under the roof; None where the ceiling that it needs was not measured."""

    bound: str | None = None
    ceiling_fraction: float | None = None
    peak_fraction: float | None = None


def locate(
    work: Work,
    seconds: float,
    dtype: str,
    ceilings: Ceilings,
    peak_flops: Mapping[str, float],
    peak_bytes: float | None,
) -> Position:
    """The resource that would take longest at its ceiling, and its share of the measured time.

    The least times are flops over the burst GEMM rate of the dtype, bytes over the copy bandwidth (that
    inside the cache too, unless the footprint is twice the cache) or over the rate between host and device
    that `Work.over` names, and one dispatch where there is anything to do. peak_flops and peak_bytes are
    the datasheet's; nothing below four times the cache is held against the latter, which is memory's. A
    fraction slightly above one means that the case beat the probe. Nothing is said where the clock read
    zero.
    """
    if seconds <= 0:
        return Position()
    least: dict[str, float] = {}
    gemm = ceilings.gemm.get(dtype)
    if work.flops and gemm is not None:
        least["compute"] = work.flops / gemm.burst
    bandwidth = _bandwidth(work, ceilings)
    if work.bytes and bandwidth is None and work.over != "memory":
        return Position()  # what it waits for was not measured
    if work.bytes and bandwidth:
        least["memory" if work.over == "memory" else "link"] = work.bytes / bandwidth
    if ceilings.dispatch_s and (work.flops or work.bytes):
        least["dispatch"] = ceilings.dispatch_s
    if not least or (work.flops and gemm is None):
        return Position()
    bound = max(least, key=lambda name: least[name])
    peak = None
    if bound == "compute" and work.flops and dtype in peak_flops:
        peak = work.flops / seconds / peak_flops[dtype]
    if bound == "memory" and work.bytes and peak_bytes and _exceeds_cache(work, ceilings, PROBE):
        peak = work.bytes / seconds / peak_bytes
    return Position(bound, least[bound] / seconds, peak)


def _exceeds_cache(work: Work, ceilings: Ceilings, times: int) -> bool:
    """Whether it holds at least so many times the cache; true of a cache that is not known."""
    return (work.footprint or work.bytes or 0) >= times * (ceilings.cache_bytes or 0)


def _bandwidth(work: Work, ceilings: Ceilings) -> float | None:
    if work.over != "memory":
        return ceilings.transfers.get(work.over)
    found = [ceilings.copy, ceilings.triad]
    if not _exceeds_cache(work, ceilings, STREAM):
        found.append(ceilings.cached_copy)
    return max(filter(None, found), default=None)


def best(ceilings: list[Ceilings], own: Ceilings) -> Ceilings:
    """The device's ceilings: the best that any framework reached on it. The dispatch stays one's own. The
    cache is the smallest that any of them takes it for: one that does not know it supposes a large one."""
    gemm = dict(own.gemm)
    for other in ceilings:
        for dtype, found in other.gemm.items():
            if dtype not in gemm or found.burst > gemm[dtype].burst:
                gemm[dtype] = found

    def highest(name: str) -> float | None:
        return max(filter(None, (getattr(one, name) for one in (own, *ceilings))), default=None)

    return Ceilings(
        gemm=gemm,
        copy=highest("copy"),
        triad=highest("triad"),
        cached_copy=highest("cached_copy"),
        dispatch_s=own.dispatch_s,
        cache_bytes=min(filter(None, (one.cache_bytes for one in (own, *ceilings))), default=None),
        transfers=own.transfers,
    )
