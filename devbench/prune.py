"""Which cases are not worth their time or cannot fit, told from smaller ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from devbench.model import Case, Measurement, ParamValue, format_value
from devbench.plan import series
from devbench.settings import Settings

#: A shorter step is mostly the overhead of its calls, which does not grow with the work: a hundredth of
#: it is taken for work.
TELLING_S: Final = 0.001
WORK_IN_SHORT: Final = 0.01


def reason_to_skip(
    case: Case,
    size: str | None,
    cases: Sequence[Case],
    first_round: Mapping[str, Measurement],
    free_bytes: int | None,
    settings: Settings,
) -> tuple[str, str] | None:
    """Why a case should not be visited, as a word of `REASONS` and a sentence; None when it should.

    size: the benchmark's size axis. first_round: what the first round gave, by case id. free_bytes: on each
    device of the target.
    """
    smaller = _smaller(case, size, cases, first_round) if size is not None else []
    for value, _, measurement in smaller:
        at = f"{size}={format_value(value)}"
        if measurement.status == "oom" or measurement.reason == "after-oom":
            return "after-oom", f"{at} ran out of memory"
        if measurement.status == "timeout":
            return "too-slow", f"{at} was ended after {settings.case_timeout_s:g} s"
    if case.work.footprint is not None and free_bytes is not None:
        devices = len(case.target.devices)
        footprint = case.work.footprint / devices  # they share the work evenly
        if footprint > free_bytes:
            each = f" on each of {devices} devices" if devices > 1 else ""
            return (
                "does-not-fit",
                f"needs {footprint / 1e9:.3g} GB{each} and {free_bytes / 1e9:.3g} GB are free",
            )
    measured = [entry for entry in smaller if entry[2].samples]
    if size is None or not measured:
        return None
    value, other, measurement = measured[-1]
    # The fastest sample: what disturbed the others must not cost a larger size its measurement.
    seconds = min(measurement.samples)
    at_work = seconds if seconds >= TELLING_S else WORK_IN_SHORT * seconds
    predicted = at_work * _growth(other, case, size)
    if predicted <= settings.step_s:
        return None
    return "too-slow", (
        f"a step would take {predicted:.3g} s, predicted from {seconds:.3g} s at "
        f"{size}={format_value(value)}; the limit is {settings.step_s:g} s"
    )


def _smaller(
    case: Case, size: str, cases: Sequence[Case], first_round: Mapping[str, Measurement]
) -> list[tuple[ParamValue, Case, Measurement]]:
    """Smaller sizes of the same series that were visited, ascending."""
    mine, value = series(case, size), dict(case.params)[size]
    found = [
        (dict(other.params)[size], other, first_round[other.id])
        for other in cases
        if other.id in first_round
        and series(other, size) == mine
        and float(dict(other.params)[size]) < float(value)
    ]
    return sorted(found, key=lambda entry: float(entry[0]))


def _growth(smaller: Case, larger: Case, size: str) -> float:
    """How much more a larger case has to do: by its declared work, else by its size."""
    for amount in ("flops", "bytes"):
        before, after = getattr(smaller.work, amount), getattr(larger.work, amount)
        if before and after:
            return float(after / before)
    if _is_nothing(smaller) and _is_nothing(larger):
        return 1.0
    return float(dict(larger.params)[size]) / float(dict(smaller.params)[size])


def _is_nothing(case: Case) -> bool:
    """Whether it declares that there is no work, which is not the same as not saying."""
    declared = [amount for amount in (case.work.flops, case.work.bytes) if amount is not None]
    return bool(declared) and not any(declared)
