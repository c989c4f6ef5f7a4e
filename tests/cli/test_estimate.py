"""How long a run will still take: nothing is told too soon, and what is told comes true."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from devbench.cli.estimate import Estimate
from devbench.events import Doing, Done, Event, Probing, Starting
from devbench.model import Case, Measurement, Target
from devbench.runner import visits_left
from devbench.settings import Settings

IMPORT_S, CEILINGS_S = {"torch": 3.0, "tensorflow": 9.0}, 5.0


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def case(framework: str, n: int) -> Case:
    return Case("suite", "benchmark", (("n", n),), Target(framework, ("cpu",)))


def session(cases: int, settings: Settings, done: tuple[Measurement, ...] = ()) -> Any:
    """What an estimate asks of a session: two targets with so many cases each."""
    planned = [case(framework, n) for framework in IMPORT_S for n in range(cases)]
    before = {(one.case_id, one.round): one for one in done}
    return SimpleNamespace(
        settings=settings,
        cases=planned,
        done=before,
        left=visits_left(planned, settings.rounds, before),
        info=SimpleNamespace(environment={"targets": {}}),
        machine=SimpleNamespace(
            frameworks=[
                SimpleNamespace(name=name, view=SimpleNamespace(import_s=seconds))
                for name, seconds in IMPORT_S.items()
            ]
        ),
    )


def measured(one: Case, round_: int, status: Any = "ok") -> Measurement:
    return Measurement(case_id=one.id, round=round_, status=status, started_at="")


def events(planned: Any, clock: Clock, visit_s: float) -> Iterator[Event]:
    """A run as it would be told, the clock going with it."""
    total, made = len(planned.cases) * planned.settings.rounds, 0
    for round_ in range(planned.settings.rounds):
        for framework, import_s in IMPORT_S.items():
            target = Target(framework, ("cpu",))
            yield Starting(target, round_)
            clock.now += import_s
            if round_ == 0:
                yield Probing(target)
                clock.now += CEILINGS_S
            for one in planned.cases:
                if one.target == target:
                    yield Doing(one, round_, "build")
                    clock.now += visit_s
                    made += 1
                    yield Done(one, measured(one, round_), made, total)


@pytest.mark.parametrize(("rounds", "cases"), [(1, 40), (5, 10)])
@pytest.mark.parametrize("visit_s", [0.8, 2.4, 5.0])
def test_nothing_is_told_after_the_first_case_and_what_is_told_comes_true(
    rounds: int, cases: int, visit_s: float
) -> None:
    clock, planned = Clock(), session(cases, Settings(rounds=rounds))
    estimate = Estimate(planned, clock)
    told: list[tuple[float, float]] = []
    for number, event in enumerate(events(planned, clock, visit_s)):
        estimate.learn(event)
        if estimate.left_s is None:
            assert str(estimate) == ""
        else:
            told.append((clock.now, estimate.left_s))
        if number < 8:
            assert not told, "a worker's start and the first cases tell nothing of the others"
    for now, left in told:
        truth = clock.now - now
        assert left == pytest.approx(truth, rel=0.6, abs=visit_s * 3)
    assert told[-1][1] == 0
    assert str(estimate) == "", "at the end there is nothing to tell"


def test_cases_that_were_skipped_tell_nothing_of_those_to_be_timed() -> None:
    clock, planned = Clock(), session(20, Settings(rounds=1))
    estimate = Estimate(planned, clock)
    estimate.learn(Starting(Target("torch", ("cpu",)), 0))
    for number, one in enumerate(planned.cases[:10], 1):
        estimate.learn(Done(one, measured(one, 0, "skipped"), number, 40))
    assert estimate.left_s is None


def test_a_time_budget_bounds_what_is_told() -> None:
    clock, planned = Clock(), session(200, Settings(rounds=5, time_budget_s=60))
    estimate = Estimate(planned, clock)
    for event in events(planned, clock, 1.0):
        estimate.learn(event)
        if estimate.left_s is not None:
            break
    assert estimate.left_s == pytest.approx(60 - (clock.now - 1000.0))


def test_a_resumed_run_counts_what_is_missing_only() -> None:
    settings = Settings(rounds=2)
    done = tuple(
        measured(one, round_) for one in session(20, settings).cases for round_ in range(2)
    )
    clock, planned = Clock(), session(20, settings, done[:-6])
    estimate = Estimate(planned, clock)
    target = Target("tensorflow", ("cpu",))
    estimate.learn(Starting(target, 1))
    for number, one in enumerate(planned.cases[-3:], 1):
        for round_ in range(2):
            estimate.learn(Doing(one, round_, "build"))
            clock.now += 1
            estimate.learn(Done(one, measured(one, round_), 74 + 2 * number + round_, 80))
    assert estimate.left_s is not None
    assert estimate.left_s < 30


@pytest.mark.parametrize(
    ("visits", "visit_s", "said"),
    [(5, 4.0, "about 20 s left"), (40, 4.0, "about 3 min left"), (2000, 4.0, "about 2.2 h left")],
)
def test_it_is_said_in_round_figures(visits: int, visit_s: float, said: str) -> None:
    clock, planned = Clock(), session(1, Settings(rounds=1))
    estimate = Estimate(planned, clock)
    for one in planned.cases:
        estimate.learn(Starting(one.target, 0))
    estimate.learn(Probing(planned.cases[0].target))
    estimate.learn(Probing(planned.cases[1].target))
    estimate.learn(Doing(planned.cases[0], 0, "build"))
    for number in range(1, 7):
        clock.now += visit_s
        one = planned.cases[0]
        estimate.learn(Done(one, measured(one, 0), number, number + visits))
    assert str(estimate) == said
