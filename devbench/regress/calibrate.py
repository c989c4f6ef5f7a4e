"""``devbench calibrate``: what this machine can and cannot tell, found by the same code against itself.

Pairs of fresh processes of the same code, taken as `ab` takes them, tell how far pairs spread and how
often the rule cries wolf. Where a step is short enough, the same processes then take `REPEAT` steps
against one more: real extra work, of which it is known how much it is. Before each pair comes a round as
`devbench run` takes it: of how far these spread the quieted processes of pairs say nothing.
"""

from __future__ import annotations

import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, Literal, TypeAlias

import numpy as np

from devbench.detection import usable_threads
from devbench.errors import BudgetExhausted
from devbench.events import Done, Event
from devbench.model import Case, Json, Measurement, Run, RunInfo
from devbench.regress import ab
from devbench.regress.interleave import LONGEST_REPEATED_S, Found, Interleaver, PairDone
from devbench.regress.margins import KIND, CaseCalibration, of_run
from devbench.regress.sides import side_of
from devbench.regress.variant import Variant, stage
from devbench.runner import Runner, utc_now
from devbench.session import Request, Session, prepare, runner_of
from devbench.stats.intervals import log_t_interval
from devbench.stats.power import (
    caught_by_rounds,
    caught_in_turn,
    clopper_pearson,
    decide,
    in_a_row,
    resampled,
)
from devbench.stats.sequential import LOOKS
from devbench.stats.verdicts import ALPHA, FAMILY, MARGIN
from devbench.store import Store

#: So many steps against one more: 5 % of extra work.
REPEAT: Final = 20
#: Rounds a side of two stored runs that a figure is given for: the default of `devbench run`.
ROUNDS: Final = 5
_TOO_LONG: Final = f"{REPEAT} steps take longer than {LONGEST_REPEATED_S:g} s"
_RESAMPLED: Final = 2000

#: Takes one more round of the cases and stores it. Tells what kept a case from being timed, by its id.
TakeRound: TypeAlias = Callable[[int, Sequence[Case]], Mapping[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarms:
    """How often the same code was called slower beyond the margin.

    seen, comparisons: along the pairs as they were taken, none used twice. at_most: the upper bound
    that they leave. resampled: the share among comparisons made of pairs drawn from all of them.
    """

    seen: int
    comparisons: int
    at_most: float
    resampled: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Slowdown:
    """What became of the known one. extra: the work, as a share. reads, low, high: what the pairs say it
    costs, with a 95 % interval. caught: the share called slower beyond the margin, resampled."""

    extra: float
    pairs: int
    reads: float
    low: float
    high: float
    caught: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a calibration says of a case; shares of a step's time.

    yardstick_spread: of the rounds in units of the fixed step beside them, as `compare` judges them.
    catches_in_turn, catches_by_rounds: the smallest slowdown that is called slower beyond the margin
    with 99 % chance, by up to 64 pairs and by two runs of `ROUNDS` rounds; None where nothing is.
    Computed from the spread, not tried. margin: what ``--margin calibrated`` takes for pairs.
    """

    case_id: str
    pairs: int
    pair_spread: float | None = None
    round_spread: float | None = None
    yardstick_spread: float | None = None
    alarms: Alarms | None = None
    slowdown: Slowdown | None = None
    catches_in_turn: float | None = None
    catches_by_rounds: float | None = None
    margin: float | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The answer of `calibrate`. alpha: the error that the rule may have for each of its cases."""

    info: RunInfo
    alpha: float
    cases: tuple[Figures, ...]

    def to_json(self) -> dict[str, Json]:
        return {
            "schema": "devbench.calibration/1",
            "run": self.info.id,
            "label": self.info.label,
            "started_at": self.info.started_at,
            "margin": MARGIN,
            "alpha": self.alpha,
            "looks": list(LOOKS),
            "rounds": ROUNDS,
            "results": [asdict(one) for one in self.cases],
        }


class _Nowhere:
    """Of the processes of pairs only their ratios are kept."""

    def add_measurement(self, run_id: str, measurement: Measurement) -> None:
        return None


def calibrate(
    request: Request, store: Store, tell: Callable[[Done | PairDone], None] = lambda event: None
) -> Calibration:
    """Take `request.settings.rounds` rounds and pairs of every case, in alternation, and say what they
    show.

    The rounds are stored as a run; its environment holds what was made of them and of the pairs. Raises
    UsageError and NothingMeasured as `devbench.session.prepare`, and BudgetExhausted where the time ended
    before the first pair. Whatever ends it early leaves what was measured in the store.
    """

    def tell_done(event: Event) -> None:
        if isinstance(event, Done):
            tell(event)

    session = prepare(request)
    runner = runner_of(session, store, tell_done)
    runner.shortens = False  # rounds of different lengths would not spread as those to be judged
    with runner.ready():
        return take(session, store, tell, partial(_take_round, runner))


def _take_round(runner: Runner, number: int, cases: Sequence[Case]) -> dict[str, str]:
    """A round of `devbench run`. What is skipped there is tried in pairs: `ab` skips nothing."""
    runner.cases = cases
    runner.take_round(number)
    found = {case.id: runner.done.get((case.id, number)) for case in cases}
    return {
        case_id: f"{one.status}, {one.detail or one.reason}"
        for case_id, one in found.items()
        if one is not None and one.status not in ("ok", "skipped")
    }


def take(
    session: Session,
    store: Store,
    tell: Callable[[PairDone], None],
    take_round: TakeRound,
    make: Callable[..., Interleaver] = Interleaver,
) -> Calibration:
    """The same for a session that is planned. make: the `Interleaver`, or what stands in for it where the
    cases are no benchmarks."""
    here = Variant("this Python", Path(sys.executable))
    settings = {**session.info.settings, "kind": KIND, "repeat": REPEAT}
    info = replace(session.info, settings=settings)
    with tempfile.TemporaryDirectory(prefix="devbench-calibrate-") as folder:
        staged, scratch = Path(folder) / "engine", Path(folder) / "scratch"
        staged.mkdir()
        scratch.mkdir()
        stage(staged, session.catalog.sources.values(), (here, here))
        store.create_run(info, session.cases)
        work = make(
            base=here,
            head=here,
            stage=staged,
            catalog=session.catalog,
            threads=usable_threads(),
            seed=session.settings.seed,
            share_s=ab.SHARE_S,
            timeout_s=session.settings.case_timeout_s,
            runs={"base": "", "head": ""},
            sink=_Nowhere(),
            tell=tell,
            scratch=scratch,
            log=session.log,
            null_every=0,
            repeat=REPEAT,
        )
        state: Literal["complete", "interrupted"] = "interrupted"
        try:
            _take_in_turn(work, session, take_round)
            state = "complete"
        finally:
            run = store.load(info.id)
            facts = _with_targets(run.info.environment, work)
            info = replace(info, environment={**facts, "calibration": _found(work, run)})
            store.update_environment(info.id, info.environment)
            store.finish_run(info.id, state, utc_now())
    return calibration_of(info)


def _take_in_turn(work: Interleaver, session: Session, take_round: TakeRound) -> None:
    """A round, a pair, a round, a pair."""
    budget = session.settings.time_budget_s
    deadline = None if budget is None else time.monotonic() + budget

    def in_time() -> bool:
        return deadline is None or time.monotonic() < deadline

    def untroubled() -> list[Case]:
        troubled = {case_id for case_id, one in work.found.items() if one.trouble is not None}
        return [case for case in session.cases if case.id not in troubled]

    for number in range(session.settings.rounds):
        if not in_time():
            break
        for case_id, trouble in take_round(number, untroubled()).items():
            work.found.setdefault(case_id, Found()).trouble = trouble
        work.pair(number, untroubled(), in_time)
        if not untroubled():
            break
    if not work.found:
        raise BudgetExhausted(
            "the time budget ran out before any case was timed in a pair; give a larger --time-budget, or "
            "select fewer cases"
        )


def _with_targets(facts: Mapping[str, Json], work: Interleaver) -> dict[str, Json]:
    """The environment with what workers of pairs said of themselves, where those of rounds did not."""
    ready = {
        target: told
        for target, told in work.ready["base"].items()
        if "framework_version" not in facts["targets"][target]
    }
    return ab.with_targets(facts, ready)


def _found(work: Interleaver, run: Run) -> dict[str, Json]:
    """By case. The rounds are read as `compare` reads those that it judges."""
    rounds = side_of(run).cases
    found = {}
    for case in run.cases:
        if (one := work.found.get(case.id)) is None:
            continue
        beside = rounds.get(case.id)
        found[case.id] = CaseCalibration(
            case_id=case.id,
            pairs=tuple(one.pairs),
            slowed=tuple(one.slowed),
            rounds=_logs(beside.medians) if beside else (),
            in_yardsticks=_logs(beside.in_yardsticks) if beside else (),
            yardstick=beside.yardstick if beside else None,
            trouble=one.trouble,
            untried=one.untried,
        ).to_json()
    return found


def _logs(rounds: Sequence[float]) -> tuple[float, ...]:
    """None where a round read zero: the clock is too coarse for the step."""
    return tuple(map(math.log, rounds)) if min(rounds, default=0.0) > 0 else ()


def calibration_of(info: RunInfo) -> Calibration:
    """What a run that is a calibration says. Raises StoreError for one that cannot be read."""
    cases = of_run(info)
    timed = sum(one.suffices for one in cases.values())
    # What Holm leaves to each case of a comparison of them all, at his first step.
    alpha = min(ALPHA, FAMILY / max(timed, 1))
    return Calibration(
        info=info, alpha=alpha, cases=tuple(figures(one, alpha) for one in cases.values())
    )


def figures(case: CaseCalibration, alpha: float) -> Figures:
    """What the pairs of a case show, at the error `alpha`."""
    found = Figures(case_id=case.case_id, pairs=len(case.pairs), reason=case.trouble)
    if not case.suffices:
        few = f"{len(case.pairs)} pairs tell nothing of the spread"
        return replace(found, reason=case.trouble or few)
    rng = np.random.default_rng(0)
    in_seconds = case.spread_of(None)
    beside = case.spread_of(case.yardstick) if case.yardstick is not None else None
    spread = in_seconds if beside is None else beside
    by_rounds = None if spread is None else caught_by_rounds(spread, ROUNDS, ROUNDS, alpha)
    return replace(
        found,
        pair_spread=case.pair_spread,
        round_spread=in_seconds,
        yardstick_spread=beside,
        alarms=_alarms(case, alpha, rng),
        slowdown=_slowdown(case, alpha, rng),
        catches_in_turn=_beyond_margin(caught_in_turn(case.pair_spread, alpha)),
        catches_by_rounds=None if by_rounds is None else _beyond_margin(by_rounds),
        margin=case.margin_in_turn(),
        reason=None if case.slowed else f"no slowdown was tried: {case.untried or _TOO_LONG}",
    )


def _beyond_margin(distance: float) -> float:
    return math.expm1(min(math.log1p(MARGIN) + distance, 700.0))  # what a float can hold


def _alarms(case: CaseCalibration, alpha: float, rng: np.random.Generator) -> Alarms:
    taken = in_a_row(case.pairs, alpha=alpha)
    seen = int((taken.verdict == "regressed").sum())
    return Alarms(
        seen=seen,
        comparisons=len(taken.verdict),
        at_most=clopper_pearson(seen, len(taken.verdict))[1],
        resampled=decide(resampled(case.pairs, _RESAMPLED, rng), alpha=alpha).share("regressed"),
    )


def _slowdown(case: CaseCalibration, alpha: float, rng: np.random.Generator) -> Slowdown | None:
    ends = log_t_interval(np.exp(case.slowed).tolist())
    if ends is None:
        return None
    return Slowdown(
        extra=1 / REPEAT,
        pairs=len(case.slowed),
        reads=math.expm1(statistics.fmean(case.slowed)),
        low=ends[0] - 1,
        high=ends[1] - 1,
        caught=decide(resampled(case.slowed, _RESAMPLED, rng), alpha=alpha).share("regressed"),
    )
