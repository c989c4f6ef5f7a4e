"""What became of cases in many runs, in columns: sorted into series, the machine's drift taken out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from devbench.model import Json, RunInfo
from devbench.regress.environment_diff import decides_yardsticks, facts_of, target_facts_of
from devbench.store import Outcomes
from devbench.store.outcome import FIGURES

Floats: TypeAlias = NDArray[np.float64]
Places: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Columns:
    """The rows in columns. case, device, surroundings: numbers that are equal where these are.

    median: of the rounds' medians. in_yardsticks: of what they are in units of their yardsticks.
    yardstick: of the yardsticks' own times; both NaN where a round has none, this one also where they
    were not the same in all rounds.
    """

    run: Places
    case: Places
    device: Places
    surroundings: Places
    median: Floats
    in_yardsticks: Floats
    yardstick: Floats
    devices: Sequence[str | None]
    places: Places

    @classmethod
    def of(cls, outcomes: Outcomes, rows: Sequence[tuple[int, int, str, bytes]]) -> Columns:
        run = np.array([row[0] for row in rows])
        place = np.array([row[1] for row in rows])
        ids = _Numbers()
        case = np.array([ids.of(one.id) for one in outcomes.cases])[place]
        targets = _Numbers()
        target = np.array([targets.of(str(one.target)) for one in outcomes.cases])[place]
        devices, surroundings = _Numbers(), _Numbers()
        facts = [_by_target(info, targets.known) for info in outcomes.runs]
        device = np.array(
            [
                [devices.of((f.get("physical_device"), f.get("device_name"))) for f in row]
                for row in facts
            ]
        )[run, target]
        sides = [_deciding(facts_of(info), of_a_target=False) for info in outcomes.runs]
        around = np.array(
            [
                [surroundings.of((side, _deciding(f, of_a_target=True))) for f in row]
                for side, row in zip(sides, facts, strict=True)
            ]
        )[run, target]
        sticks = _Numbers()
        stick = np.array([sticks.of(row[2]) for row in rows])
        named = [row[2] != "" for row in rows]
        rounds = np.frombuffer(b"".join(row[3] for row in rows), FIGURES)
        counts = np.array([len(row[3]) for row in rows]) // FIGURES.itemsize
        medians = rounds["median"].astype(np.float64)
        yardsticks = rounds["yardstick"].astype(np.float64)
        return cls(
            run=run,
            case=case,
            device=device,
            surroundings=around * (len(sticks.known) + 1) + stick,
            median=_medians(medians, counts),
            in_yardsticks=_medians(medians / yardsticks, counts),
            yardstick=np.where(named, _medians(yardsticks, counts), np.nan),
            devices=[name for _, name in devices.known],
            places=place,
        )


class _Numbers:
    """A number for each different thing, in the order in which they come."""

    def __init__(self) -> None:
        self.known: dict[Json, int] = {}

    def of(self, thing: Json) -> int:
        return self.known.setdefault(thing, len(self.known))


def _by_target(info: RunInfo, targets: Iterable[str]) -> list[Mapping[str, Json]]:
    facts = target_facts_of(info)
    return [facts.get(target, {}) for target in targets]


def _deciding(facts: Mapping[str, Json], *, of_a_target: bool) -> frozenset[tuple[str, str]]:
    """What is alike in runs in which a yardstick measures the same."""
    return frozenset(
        (name, str(value))
        for name, value in facts.items()
        if value is not None and decides_yardsticks(name, of_a_target=of_a_target)
    )


def _medians(values: Floats, counts: Places) -> Floats:
    """The median of each successive group of `counts` values."""
    begins = np.concatenate([[0], np.cumsum(counts)[:-1]])
    found = np.empty(len(counts))
    for count in np.unique(counts):
        of_that = np.flatnonzero(counts == count)
        found[of_that] = np.median(values[begins[of_that][:, None] + np.arange(count)], axis=1)
    return found


def members(taken: Columns) -> list[Places]:
    """The rows of each series, the oldest run first."""
    order = np.lexsort((taken.run, taken.device, taken.case))
    keys = np.stack([taken.case[order], taken.device[order]])
    begins = np.flatnonzero((np.diff(keys) != 0).any(axis=0)) + 1
    return list(np.split(order, begins))


def figures(taken: Columns, members: Places) -> tuple[Floats, str]:
    """Seconds of a series, the drift of the machine taken out where all runs of a stretch of equal
    surroundings have a yardstick; and whether it was so in all, some or none of them.

    What changes between surroundings stays: there the yardstick may have become faster with the case.
    """
    seconds = taken.median[members].copy()
    around = taken.surroundings[members]
    corrected = 0
    for one in np.unique(around):
        alike = around == one
        sticks = taken.yardstick[members][alike]
        if np.isfinite(sticks).all():
            seconds[alike] = taken.in_yardsticks[members][alike] * np.median(sticks)
            corrected += int(alike.sum())
    return seconds, "all" if corrected == len(members) else "some" if corrected else "none"
