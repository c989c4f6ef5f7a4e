"""What `devbench calibrate` found of a machine, read back from the store, and margins made of it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

from devbench.errors import StoreError, UsageError
from devbench.model import Case, Json, RunInfo
from devbench.stats.power import caught_by_rounds, caught_in_turn, spread_at_most
from devbench.stats.verdicts import Estimate, Judgement, judge
from devbench.store import Store

#: `kind` in the settings of a run that is a calibration.
KIND: Final = "calibration"
#: No calibrated margin is below this: where code and data come to lie in memory alone moves a step by
#: as much (Mytkowicz et al. 2009, ASPLOS, "Producing wrong data without doing anything obviously
#: wrong!"), and the same code against itself does not show it.
LEAST: Final = 0.01
#: Fewer pairs or rounds say too little of a spread.
FEWEST: Final = 4
#: What makes a machine another kind, besides its devices. Its name does not: a hired one has a new
#: name each time.
_OF_THE_MACHINE: Final = ("cpu_model", "usable_cores", "usable_cpus", "cpu_limit")


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseCalibration:
    """What was seen of a case.

    pairs: log ratios of two processes of the same code, one a pair. slowed: the same with a known
    slowdown in one of them; untried: why there is none. rounds: logs of the median seconds of a step,
    one a process. trouble: why there is nothing.
    """

    case_id: str
    pairs: tuple[float, ...] = ()
    slowed: tuple[float, ...] = ()
    rounds: tuple[float, ...] = ()
    trouble: str | None = None
    untried: str | None = None

    @property
    def suffices(self) -> bool:
        return len(self.pairs) >= FEWEST

    @property
    def pair_spread(self) -> float:
        """Standard deviation between pairs, of the log ratio."""
        return statistics.stdev(self.pairs)

    @property
    def round_spread(self) -> float:
        """Standard deviation between rounds, of the log median."""
        return statistics.stdev(self.rounds)

    def to_json(self) -> dict[str, Json]:
        return {item.name: getattr(self, item.name) for item in fields(self)[1:]}

    @classmethod
    def from_json(cls, case_id: str, data: Json) -> CaseCalibration:
        """Raises TypeError and ValueError for what is no calibration."""
        series = {
            name: tuple(map(float, data.get(name, ()))) for name in ("pairs", "slowed", "rounds")
        }
        if not all(math.isfinite(value) for values in series.values() for value in values):
            raise ValueError("a log ratio is not finite")
        return cls(
            case_id=case_id, **series, trouble=data.get("trouble"), untried=data.get("untried")
        )

    def margin_in_turn(self) -> float:
        """The least margin within which 64 pairs find unchanged code, with a chance of 99 %, if the
        spread is as large as it may be after so few pairs."""
        spread = spread_at_most(self.pair_spread, len(self.pairs) - 1)
        return max(LEAST, math.expm1(caught_in_turn(spread)))

    def margin_by_rounds(self, base: int, new: int) -> float:
        """The same for two runs of so many rounds. Infinite where they cannot tell anything."""
        spread = spread_at_most(self.round_spread, len(self.rounds) - 1)
        return max(LEAST, math.expm1(min(caught_by_rounds(spread, base, new), 700.0)))

    def estimate(self, base: Sequence[float], new: Sequence[float]) -> Estimate:
        """The estimate from the logs of the rounds of two sides, with the spread of the calibration in
        place of theirs: for sides of one round, of which a stored file may be all that there is."""
        spread = self.round_spread
        center = math.fsum(new) / len(new) - math.fsum(base) / len(base)
        return Estimate(
            center=center,
            error=spread * math.sqrt(1 / len(base) + 1 / len(new)) if spread > 0 else math.inf,
            freedom=len(self.rounds) - 1,
            spreads=(spread, spread),
            rounds=(len(base), len(new)),
            shift=center,
            p=1.0,
        )


def of_run(info: RunInfo) -> dict[str, CaseCalibration]:
    """By case, what a run that is a calibration holds; nothing for another run."""
    if info.settings.get("kind") != KIND:
        return {}
    try:
        return {
            case_id: CaseCalibration.from_json(case_id, data)
            for case_id, data in info.environment.get("calibration", {}).items()
        }
    except (AttributeError, TypeError, ValueError) as error:
        raise StoreError(f"the calibration {info.id} cannot be read: {error}") from None


def stored(store: Store, here: Mapping[str, Json]) -> dict[str, CaseCalibration]:
    """By case, the newest calibration in the store by a machine and a device like those of `here`, the
    environment of a run."""
    found: dict[str, CaseCalibration] = {}
    for summary in store.runs():
        there = summary.info.environment
        for case_id, one in of_run(summary.info).items():
            target = case_id.rpartition("@")[2]
            if one.suffices and _kind(there, target) == _kind(here, target) is not None:
                found.setdefault(case_id, one)
    return found


def _kind(environment: Mapping[str, Json], target: str) -> dict[str, Json] | None:
    """What a machine and a device of it are known by; None where the environment has no such target."""
    device = environment.get("targets", {}).get(target)
    if device is None:
        return None
    host = environment.get("machine", {}).get("host", {})
    return {name: host.get(name) for name in _OF_THE_MACHINE} | {
        "device_name": device.get("device_name")
    }


def margins_in_turn(
    store: Store, here: Mapping[str, Json], cases: Sequence[Case]
) -> dict[str, float]:
    """The calibrated margin of each case, for pairs. Raises UsageError for cases without one."""
    found = _all_of(store, here, [case.id for case in cases])
    return _usable({case_id: one.margin_in_turn() for case_id, one in found.items()})


def margins_by_rounds(
    store: Store, here: Mapping[str, Json], rounds: Mapping[str, tuple[int, int]]
) -> dict[str, float]:
    """The same for two runs. rounds: of the base and of the new run, by case."""
    found = _all_of(store, here, list(rounds))
    return _usable(
        {case_id: found[case_id].margin_by_rounds(*rounds[case_id]) for case_id in found}
    )


def _all_of(
    store: Store, here: Mapping[str, Json], wanted: Sequence[str]
) -> dict[str, CaseCalibration]:
    found = stored(store, here)
    if lacking := [case_id for case_id in wanted if case_id not in found]:
        raise UsageError(
            f"--margin calibrated: {store.name} holds no calibration by this machine of "
            f"{_listed(lacking)}; `devbench calibrate` with the same selection makes one"
        )
    return {case_id: found[case_id] for case_id in wanted}


def _usable(margins: dict[str, float]) -> dict[str, float]:
    """Raises UsageError where a doubled time would be taken for none."""
    if wide := [case_id for case_id, margin in margins.items() if margin >= 1]:
        raise UsageError(
            f"--margin calibrated: by the calibration of {_listed(wide)}, less than twice the time cannot "
            "be told from none. Calibrate when the machine is at rest; of two runs, take more rounds "
            "or `devbench ab`"
        )
    return margins


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def judge_each(
    estimates: Sequence[Estimate],
    margins: Sequence[float],
    *,
    others: int = 0,
    level: Callable[[float], float] = lambda alpha: alpha,
) -> list[Judgement]:
    """`verdicts.judge` with a margin a case.

    What is judged is a case's distance from its margin in units of its own error, so a case may be
    scaled until its margin is that of the others: its p, and with it Holm's steps, stay as they are.
    """
    common = min(margins, default=LEAST)
    scales = [math.log1p(common) / math.log1p(margin) for margin in margins]
    scaled = [
        replace(
            one,
            center=one.center * scale,
            error=one.error * scale,
            spreads=tuple(spread * scale for spread in one.spreads),
        )
        for one, scale in zip(estimates, scales, strict=True)
    ]
    judged = judge(scaled, margin=common, others=others, level=level)
    return [
        replace(
            one,
            ratio=_power(one.ratio, 1 / scale),
            low=None if one.low is None else _power(one.low, 1 / scale),
            high=None if one.high is None else _power(one.high, 1 / scale),
        )
        for one, scale in zip(judged, scales, strict=True)
    ]


def _power(ratio: float, exponent: float) -> float:
    """Ends of intervals that say nothing reach beyond what a float can hold."""
    return math.exp(min(math.log(ratio) * exponent, 700.0)) if ratio > 0 else 0.0
