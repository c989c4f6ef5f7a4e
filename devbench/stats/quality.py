"""How far a result can be trusted: reasons from a closed list, each with its figure.

Samples are never dropped because of a reason; the reader is told.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence

from devbench.measure.sampling import median_half_width
from devbench.model import Measurement, Quality
from devbench.stats.intervals import log_t_interval
from devbench.telemetry import doubts

#: Reasons that make a figure worthless rather than doubtful.
_INVALID = frozenset({"numerics-mismatch", "threads"})

WIDE = 0.10
FEW = 5
#: A sample of fewer ticks is doubted: by the host's clock, whose reading takes some ticks itself; by events
#: on the device, of which 20 tell it to 5 % at best.
TICKS = 500
EVENT_TICKS = 20
EXTRA_THREADS = 0.3


def judge(
    timed: Sequence[Measurement],
    ceiling_fraction: float | None = None,
    peak_fraction: float | None = None,
    *,
    on_cpu: bool = True,
) -> tuple[Quality, tuple[str, ...]]:
    """The quality of a case and its reasons, as ``word: figure``, from the rounds that were timed.

    ceiling_fraction: where the case is bound by compute, its share of the measured GEMM ceiling.
    peak_fraction: its share of what the device could do in theory, which nothing exceeds. on_cpu: whether
    it computes on the CPU with all its threads; a worker of an accelerator needs one, to feed it.
    """
    reasons = list(_reasons(timed, on_cpu))
    if ceiling_fraction is not None and ceiling_fraction > 1 + WIDE:
        reasons.append(f"beats-ceiling: {ceiling_fraction:.2f} of the measured ceiling")
    if peak_fraction is not None and peak_fraction > 1:
        reasons.append(f"beats-ceiling: {peak_fraction:.2f} of the theoretical peak")
    if not reasons:
        return "valid", ()
    worthless = any(reason.split(":")[0] in _INVALID for reason in reasons)
    return "invalid" if worthless else "suspect", tuple(reasons)


def _disturbances(timed: Sequence[Measurement], on_cpu: bool) -> Iterator[str]:
    """What telemetry says, the first sentence of each word, with the number of rounds it is said of."""
    found: dict[str, list[str]] = {}
    for visit in timed:
        threads = (on_cpu and visit.threads) or 1
        for doubt in doubts(visit.telemetry, threads) if visit.telemetry else ():
            found.setdefault(doubt.split(":")[0], []).append(doubt)
    for sentences in found.values():
        rounds = f", in {len(sentences)} of {len(timed)} rounds" if len(timed) > 1 else ""
        yield sentences[0] + rounds


def _reasons(timed: Sequence[Measurement], on_cpu: bool) -> Iterator[str]:
    wrong = [visit for visit in timed if visit.numerics == "mismatch"]
    if wrong:
        bound = "" if wrong[0].tolerance is None else f", tolerance {wrong[0].tolerance:.2g}"
        yield f"numerics-mismatch: {wrong[0].numerics_detail}{bound}"
    crowded = [
        v.threads_used
        for v in timed
        if v.threads_used and v.threads and (v.threads_used > v.threads + EXTRA_THREADS)
    ]
    if crowded:
        yield f"threads: {max(crowded):.1f} busy where {timed[0].threads} were given"
    drifting = [visit.trend for visit in timed if visit.steady is False and visit.trend is not None]
    if drifting:
        worst = max(drifting, key=abs)
        yield f"not-steady: {worst:+.1%} at the end of the warm-up, in {len(drifting)} of {len(timed)} rounds"
    yield from _disturbances(timed, on_cpu)
    few = [len(visit.samples) for visit in timed if len(visit.samples) < FEW]
    if few:
        yield f"few-samples: {min(few)} in a round"
    shortest = min(statistics.median(visit.samples) * visit.block for visit in timed)
    tick = max((visit.clock_tick_s or 0.0) for visit in timed)
    by_events = (timed[0].clock or "").startswith("cuda events")
    if shortest < (EVENT_TICKS if by_events else TICKS) * tick:
        yield f"below-resolution: a sample of {shortest:.2g} s is {shortest / tick:.0f} ticks of the clock"
    medians = [statistics.median(visit.samples) for visit in timed]
    interval = log_t_interval(medians)
    if interval is not None:
        width = math.log(interval[1] / interval[0]) / 2
        if width > WIDE:
            yield f"wide-interval: ±{_share(math.expm1(width))} over {len(medians)} rounds"
        spread = max(medians) / min(medians) - 1
        if spread > WIDE:
            yield f"rounds-disagree: the slowest round takes {_share(spread)} longer than the fastest"
    else:
        width = median_half_width(timed[0].samples)
        if math.isfinite(width) and width > WIDE:
            yield f"wide-interval: ±{_share(width)} inside the one round"


def _share(value: float) -> str:
    """Per cent, of which more than a thousand say no more than that."""
    return f"{value:.0%}" if value < 10 else ">999%"
