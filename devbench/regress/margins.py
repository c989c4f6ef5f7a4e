"""What `devbench calibrate` found of a machine, read back from the store, and what is made of it.

A margin a case, and the interval of a case of which there is one process a side. Such a side says
nothing of how far processes lie apart, so that is taken from the calibration (`CaseCalibration.estimate`).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

from devbench.errors import StoreError, UsageError
from devbench.model import Case, Json, RunInfo
from devbench.regress.sides import Side
from devbench.stats.power import CHANCE, caught_by_rounds, caught_in_turn, spread_at_most
from devbench.stats.verdicts import ALPHA, Estimate, reach, unpaired
from devbench.store import Store

#: `kind` in the settings of a run that is a calibration.
KIND: Final = "calibration"
#: No calibrated margin is below this: where code and data come to lie in memory alone moves a step by
#: as much (Mytkowicz et al. 2009, ASPLOS, "Producing wrong data without doing anything obviously
#: wrong!"), and the same code against itself does not show it.
LEAST: Final = 0.01
#: Fewer pairs or rounds say too little of a spread.
FEWEST: Final = 4
#: Degrees of freedom that a side of one process is given at most, for the tails of times.
_TAILS: Final = 5
#: What makes a machine another kind, besides its devices. Its name does not: a hired one has a new
#: name each time.
_OF_THE_MACHINE: Final = ("cpu_model", "usable_cores", "usable_cpus", "cpu_limit")


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseCalibration:
    """What was seen of a case.

    pairs: log ratios of two processes of the same code, one a pair. slowed: the same with a known
    slowdown in one of them; untried: why there is none. rounds: logs of the median seconds of a step,
    one an ordinary run or session. in_yardsticks: of the same in units of the fixed step `yardstick`
    beside it; empty where one has none. trouble: why there is nothing.
    """

    case_id: str
    pairs: tuple[float, ...] = ()
    slowed: tuple[float, ...] = ()
    rounds: tuple[float, ...] = ()
    in_yardsticks: tuple[float, ...] = ()
    yardstick: str | None = None
    trouble: str | None = None
    untried: str | None = None

    @property
    def suffices(self) -> bool:
        return len(self.pairs) >= FEWEST

    @property
    def pair_spread(self) -> float:
        """Standard deviation between pairs, of the log ratio."""
        return statistics.stdev(self.pairs)

    def spread_of(self, yardstick: str | None) -> float | None:
        """Standard deviation between rounds, of the log median in units of that fixed step (None: in
        seconds); None where fewer than `FEWEST` rounds tell of it."""
        found = self._rounds_in(yardstick)
        return statistics.stdev(found) if len(found) >= FEWEST else None

    def _rounds_in(self, yardstick: str | None) -> tuple[float, ...]:
        if yardstick is None:
            return self.rounds
        return self.in_yardsticks if yardstick == self.yardstick else ()

    def to_json(self) -> dict[str, Json]:
        return {item.name: getattr(self, item.name) for item in fields(self)[1:]}

    @classmethod
    def from_json(cls, case_id: str, data: Json) -> CaseCalibration:
        """Raises TypeError and ValueError for what is no calibration."""
        series = {
            name: tuple(map(float, data.get(name, ())))
            for name in ("pairs", "slowed", "rounds", "in_yardsticks")
        }
        if not all(math.isfinite(value) for values in series.values() for value in values):
            raise ValueError("a log ratio is not finite")
        words = {name: data.get(name) for name in ("yardstick", "trouble", "untried")}
        found: dict[str, Json] = series | words
        return cls(case_id=case_id, **found)

    def margin_in_turn(self) -> float:
        """The least margin within which 64 pairs find unchanged code, with a chance of 99 %, if the
        spread is as large as it may be after so few pairs."""
        spread = spread_at_most(self.pair_spread, len(self.pairs) - 1)
        return max(LEAST, math.expm1(caught_in_turn(spread)))

    def margin_by_rounds(self, base: int, new: int, yardstick: str | None = None) -> float:
        """The same for two runs of so many rounds, judged as `compare` judges them; infinite where
        nothing is known of their spread."""
        spread = self.spread_of(yardstick)
        if spread is None:
            return math.inf
        freedom = len(self._rounds_in(yardstick)) - 1
        most = spread_at_most(spread, freedom)
        if min(base, new) < 2:
            # Of unchanged code the ratio lies within the second of one, and its interval goes on from
            # there by the first (`estimate`).
            error = most * math.sqrt(1 / base + 1 / new)
            half = float(reach(error, min(freedom, _TAILS), ALPHA))
            distance = half + statistics.NormalDist().inv_cdf((1 + CHANCE) / 2) * error
        else:
            distance = caught_by_rounds(most, base, new)
        return max(LEAST, math.expm1(min(distance, 700.0)))

    def estimate(
        self, base: Sequence[float], new: Sequence[float], yardstick: str | None = None
    ) -> Estimate | None:
        """The estimate from the logs of the rounds of two sides, with the spread of the calibration in
        place of theirs: for sides of one round, which say nothing of it. None where the calibration
        does not either.

        Were rounds normal, the difference of the sides' means over s·√(1/b + 1/n) would have Student's
        distribution with m − 1 degrees of freedom, s being the standard deviation of m rounds that are
        none of these (Fisher 1925, Metron 5:90). But nothing averages the heavy tails of times out where
        a side is a single process: simulated, an error of 0.1 % becomes one of 0.9 % over Student's
        with 3 degrees. So in place of s stands its upper 95 % bound, s·√((m − 1) / χ²) with the 5 %
        point of chi-square, and of the degrees of freedom at most `_TAILS` count: the error then stays
        below 0.1 % over those tails too. No such rule can know of a burst that strikes a process now
        and then and struck none of the m (``tests/regress/test_margins.py`` has the figures).
        """
        spread = self.spread_of(yardstick)
        if spread is None:
            return None
        freedom = len(self._rounds_in(yardstick)) - 1
        most = spread_at_most(spread, freedom)
        return replace(
            unpaired(base, new),
            error=most * math.sqrt(1 / len(base) + 1 / len(new)) if most > 0 else math.inf,
            freedom=min(freedom, _TAILS),
            spreads=(most, most),
        )


def of_run(info: RunInfo) -> dict[str, CaseCalibration]:
    """By case, what a run that is a calibration holds; nothing for another run."""
    if info.kind != KIND:
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


def environment_of(side: Side) -> dict[str, Json]:
    """Of the environment that a side was measured in, what tells a machine and its devices from others."""
    host = {name: side.facts.get(name.replace("_", " ")) for name in _OF_THE_MACHINE}
    return {"machine": {"host": host}, "targets": side.target_facts}


def same_machine(base: Side, new: Side, target: str) -> bool:
    """Whether what was calibrated for one side holds for the other."""
    one, other = (_kind(environment_of(side), target) for side in (base, new))
    return one == other is not None


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
    found = stored(store, here)
    check_known(case.id for case in cases if case.id not in found)
    return usable({case.id: found[case.id].margin_in_turn() for case in cases})


def check_known(lacking: Iterable[str]) -> None:
    """Raises UsageError where there are cases without a calibration."""
    if names := list(lacking):
        raise UsageError(
            f"a calibrated margin: the store holds no calibration by this machine of {_listed(names)}; "
            "`devbench calibrate` with the same selection makes one, of tests that take device_benchmark "
            "`pytest --devbench-calibrate 16`"
        )


def usable(margins: dict[str, float]) -> dict[str, float]:
    """Raises UsageError where a doubled time would be taken for none."""
    if wide := [case_id for case_id, margin in margins.items() if margin >= 1]:
        raise UsageError(
            f"a calibrated margin: by the calibration of {_listed(wide)}, less than twice the time cannot "
            "be told from none. Calibrate when the machine is at rest; of two runs, take more rounds "
            "or `devbench ab`"
        )
    return margins


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def parse_margin(text: str, option: str = "--margin") -> float | None:
    """A margin as it is written: ``3%`` or ``0.03``; None for ``calibrated``. Raises UsageError."""
    word = text.strip()
    if word == "calibrated":
        return None
    try:
        value = float(word.removesuffix("%"))
    except ValueError:
        raise UsageError(
            f"{option} {text!r} is no share; it reads like 3% or 0.03, or `calibrated`"
        ) from None
    if word.endswith("%"):
        return value / 100
    if value >= 1:
        raise UsageError(f"{option} {text} would be {100 * value:g} %; do you mean {text}%?")
    return value
