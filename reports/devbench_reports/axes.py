"""Logarithmic axes for sizes, times and rates: their ranges and ticks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from devbench_reports import format as fmt


def log_log(
    size: str, sizes: Sequence[float], y_range: Sequence[float], unit: str
) -> dict[str, Any]:
    """The layout of a chart over the axis `size`. unit: of the tick labels of y, a prefix goes before."""
    ticks = thinned(sizes)
    steps = round_values(y_range)
    return {
        "xaxis": {
            "type": "log",
            "title": {"text": size},
            "tickvals": ticks,
            "tickangle": 0,
            "ticktext": [
                f"{tick:.0f}" if tick % 1 == 0 and tick < 1e6 else f"{tick:g}" for tick in ticks
            ],
            "range": log_range(sizes),
        },
        "yaxis": {
            "type": "log",
            "tickvals": steps,
            "ticktext": [fmt.tick(step, unit) for step in steps],
            "range": y_range,
            "automargin": True,
        },
    }


def round_values(y_range: Sequence[float]) -> list[float]:
    """Four to nine round values on a logarithmic axis of that many decades: plotly's own ticks crowd."""
    low, high = y_range
    every = max(1, math.ceil((high - low) / 7))
    for mantissas in (
        (1,),
        (1, 3),
        (1, 2, 5),
        (1, 1.5, 2, 3, 5, 7),
        (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9),
        tuple(m / 10 for m in range(10, 100)),
    ):
        found = [
            float(f"{mantissa * 10.0**decade:.3g}")
            for decade in range(math.floor(low), math.ceil(high), every)
            for mantissa in mantissas
            if low <= decade + math.log10(mantissa) <= high
        ]
        if len(found) >= 4:
            break
    return found[:: math.ceil(len(found) / 9)] if found else []


def thinned(sizes: Sequence[float]) -> list[float]:
    """Sizes that get a tick: no two closer than a factor 1.5 where there are many."""
    if len(sizes) <= 6:
        return list(sizes)
    span = sizes[-1] / sizes[0]
    apart = max(1.5, span ** (1 / 8))
    kept = [sizes[0]]
    for size in sizes[1:]:
        if size / kept[-1] >= apart:
            kept.append(size)
    return kept


def log_range(values: Sequence[float]) -> list[float]:
    """The axis range in decades, with a margin, at least a third of a decade wide."""
    low, high = math.log10(min(values)), math.log10(max(values))
    margin = max(0.08 * (high - low), 0.06)
    if high - low < 0.3:
        margin = max(margin, (0.3 - (high - low)) / 2)
    return [round(low - margin, 4), round(high + margin, 4)]
