"""Whether a device keeps its speed: the rates of a load and of its memory, judged with what else went on.

A CPU that is shared gets slower because somebody else takes it; that is no fault, and telemetry often
shows it. Where it shows such a thing, or where the fixed step beside the load slowed down alike, it is
said that it cannot be told.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Final

from devbench.measure.ceilings import Ceilings
from devbench.stress.records import Outcome, Window

#: The rate at the end over that at the beginning, and that of one of equal devices over their median.
KEPT: Final = 0.95
#: Beginning and end are a minute each, or a third of a shorter load.
SPAN_S: Final = 60.0
#: Below this share of what the device did before, of its datasheet or of its link, a bandwidth is no
#: longer a matter of the day: copies reach 80 to 95 % of them.
BANDWIDTH: Final = 0.5
#: Words of `devbench.telemetry.doubts` for what others do to a device. Those that are missing here
#: (throttled, power-capped, clock-dropped) are the device's own, and say why it sagged.
OTHERS: Final = frozenset(
    {"co-tenant", "noisy-neighbour", "steal", "cgroup-throttled", "swapping", "memory-pressure"}
)
EQUALS: Final = 3


def kept(windows: Sequence[Window], *, is_cpu: bool) -> Outcome:
    """The rate over the last minute against that over the first."""
    end = max((one.at_s + one.seconds for one in windows), default=0.0)
    span = min(SPAN_S, end / 3)
    first = [one for one in windows if one.at_s + one.seconds / 2 < span]
    last = [one for one in windows if one.at_s + one.seconds / 2 > end - span]
    if len(first) < 2 or len(last) < 2:
        return Outcome(
            "cannot tell", f"{len(windows)} windows are too few to compare their beginning and end"
        )
    ratio, low, high = _ratio([one.flop_per_s for one in last], [one.flop_per_s for one in first])
    figures = {
        "ratio": ratio,
        "ratio_low": low,
        "ratio_high": high,
        "first_flop_per_s": _mean(one.flop_per_s for one in first),
        "last_flop_per_s": _mean(one.flop_per_s for one in last),
    }
    minutes = "minute" if span == SPAN_S else f"{span:.0f} s"
    says = (
        f"last over first {minutes}: {ratio:.3f} (95 % interval {low:.3f}–{high:.3f}), "
        f"{figures['last_flop_per_s'] / 1e12:.3g} TFLOP/s{_heat(last)}"
    )
    own = _words(last, wanted=False)
    if own:
        says += f"; {'; '.join(own)}"
    if ratio >= KEPT:
        return Outcome("no fault found", says, figures)
    if others := _words([*first, *last], wanted=True):
        return Outcome("cannot tell", f"{says}; others were at work: {'; '.join(others)}", figures)
    if high >= KEPT:
        return Outcome("cannot tell", f"{says}, too uncertain to call it a loss", figures)
    if is_cpu:
        # The step beside it is short and of another size: it goes with the machine, not with the load.
        beside, _, _ = _ratio(
            [1 / one.yardstick_s for one in last], [1 / one.yardstick_s for one in first]
        )
        figures["yardstick_ratio"] = beside
        if ratio / beside >= KEPT:
            return Outcome(
                "cannot tell",
                f"{says}; the fixed step beside it went down to {beside:.3f} too: the whole machine got "
                "slower, by heat or by somebody who does not show here",
                figures,
            )
    return Outcome("fault", says, figures)


def under_load(windows: Sequence[Window]) -> Outcome:
    """Whether a product still gave the same bits in each window."""
    wrong = [one for one in windows if one.differing]
    if not windows:
        return Outcome("cannot tell", "no window of load was finished")
    if wrong:
        first = wrong[0]
        return Outcome(
            "fault",
            f"the same product came out otherwise in {len(wrong)} of {len(windows)} windows, first after "
            f"{first.at_s + first.seconds:.0f} s: {first.differing} element"
            f"{'s' * (first.differing != 1)}{_heat([first])}",
            {"windows": len(wrong)},
        )
    return Outcome("no fault found", f"the same bits at the end of {len(windows)} windows of load")


def among_equals(rate: float, rates: Sequence[float]) -> Outcome:
    """One of equal devices against the median of them all; there must be three at least."""
    middle = statistics.median(rates)
    share = rate / middle
    says = f"{rate / 1e12:.3g} TFLOP/s is {share:.3f} of the median of {len(rates)} equal devices"
    figures = {"share": share, "median_flop_per_s": middle}
    return Outcome("no fault found" if share >= KEPT else "fault", says, figures)


def bandwidths(
    found: Ceilings,
    roofs: Mapping[str, tuple[float, str]],
    doubts: Sequence[str],
    *,
    is_shared: bool,
) -> Outcome:
    """Measured bandwidths against what they could be.

    roofs: name → (bytes per second, where that comes from). is_shared: a host's memory, of which a
    virtual machine does not show who else reads it.
    """
    rates = {"copy": found.copy, "triad": found.triad, **found.transfers}
    measured = {name: rate for name, rate in rates.items() if rate}
    says = ", ".join(f"{name} {rate / 1e9:.3g} GB/s" for name, rate in measured.items())
    figures = {f"{name}_bytes_per_s": rate for name, rate in measured.items()}
    known = {name: roofs[name] for name in measured if name in roofs}
    if not known:
        return Outcome("cannot tell", f"{says}; there is no figure to hold them against", figures)
    shares = {name: measured[name] / roof for name, (roof, _) in known.items()}
    worst = min(shares, key=shares.__getitem__)
    says += f"; {worst} is {shares[worst]:.0%} of {known[worst][1]}"
    if shares[worst] >= BANDWIDTH:
        return Outcome("no fault found", says, figures)
    others = [doubt for doubt in doubts if doubt.split(":")[0] in OTHERS]
    if others or is_shared:
        why = "; ".join(others) or "others may be at work on its memory"
        return Outcome("cannot tell", f"{says}; {why}", figures)
    return Outcome("fault", says, figures)


def _words(windows: Sequence[Window], *, wanted: bool) -> list[str]:
    """One sentence a word of what telemetry said, of others (`wanted`) or of the device itself."""
    found: dict[str, str] = {}
    for one in windows:
        for doubt in one.doubts:
            word = doubt.split(":")[0]
            if (word in OTHERS) == wanted:
                found.setdefault(word, doubt)
    return list(found.values())


def _heat(windows: Sequence[Window]) -> str:
    """Clock and temperature of the GPU, as far as they are known."""
    gpus = [one.telemetry["gpus"][0] for one in windows if one.telemetry.get("gpus")]
    clocks = [gpu["sm_clock_hz"] for gpu in gpus if gpu.get("sm_clock_hz")]
    degrees = [gpu["temperature_c"] for gpu in gpus if gpu.get("temperature_c")]
    text = f" at {statistics.median(clocks) / 1e6:.0f} MHz" if clocks else ""
    return text + (f", {max(degrees):.0f} °C" if degrees else "")


def _mean(values: object) -> float:
    return statistics.fmean(values)  # type: ignore[arg-type]


def _ratio(after: Sequence[float], before: Sequence[float]) -> tuple[float, float, float]:
    """The ratio of the geometric means, with the 95 % t interval of the difference of the mean logs
    (Welch 1947, degrees of freedom after Satterthwaite)."""
    from scipy.special import stdtrit

    logs = [[math.log(value) for value in values] for values in (after, before)]
    middle = statistics.fmean(logs[0]) - statistics.fmean(logs[1])
    parts = [statistics.variance(values) / len(values) for values in logs]
    variance = sum(parts)
    if variance == 0:
        return math.exp(middle), math.exp(middle), math.exp(middle)
    freedom = variance**2 / sum(
        part**2 / (len(values) - 1) for part, values in zip(parts, logs, strict=True)
    )
    reach = float(stdtrit(freedom, 0.975)) * math.sqrt(variance)
    return math.exp(middle), math.exp(middle - reach), math.exp(middle + reach)
