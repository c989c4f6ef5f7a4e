"""What a run tells while it works: the terminal shows it as progress, a script may ignore it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from devbench.model import Case, Measurement, Target


@dataclass(frozen=True, slots=True)
class Starting:
    """A worker starts and imports its framework."""

    target: Target
    round: int


@dataclass(frozen=True, slots=True)
class Probing:
    """A worker measures what its device can do at best."""

    target: Target


@dataclass(frozen=True, slots=True)
class Doing:
    """A worker is in a phase of a case: build, check, warm-up, timing, closing."""

    case: Case
    round: int
    phase: str


@dataclass(frozen=True, slots=True)
class Done:
    """A measurement was committed. `done` of `total` visits are made."""

    case: Case
    measurement: Measurement
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Bisecting:
    """Cases were added between two sizes, to narrow a crossover."""

    cases: tuple[Case, ...]


Event: TypeAlias = Bisecting | Starting | Probing | Doing | Done
