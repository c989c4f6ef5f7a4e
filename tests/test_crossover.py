"""Bisecting, with a runner that measures by a law instead of a clock."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from devbench.crossover import CLOSE, REPEATS, bisect, middle, refuse_without_pairs
from devbench.declare import Benchmark, benchmark
from devbench.errors import UsageError
from devbench.events import Bisecting, Event
from devbench.model import Case, Json, Measurement, ParamValue, Run, RunInfo, Status, Target, Work
from devbench.registry import Catalog
from devbench.runner import Runner
from devbench.settings import Settings
from devbench.stats.crossover import Crossing, find_crossovers
from devbench.stats.results import summarize

ONE, TWO = Target("torch", ("cpu",), 1), Target("torch", ("cpu",), 2)
ROUNDS = 5

Law = Callable[[float], float]


@dataclass
class Plan:
    """The part of a store that a runner writes to."""

    added: list[str] = field(default_factory=list)

    def add_cases(self, run_id: str, added: Sequence[Case]) -> None:
        assert added
        self.added += [case.id for case in added]

    def add_measurement(self, run_id: str, measurement: Measurement) -> None:
        raise AssertionError("the law measures")

    def update_environment(self, run_id: str, environment: Mapping[str, Json]) -> None:
        raise AssertionError("the law measures")


class Lawful(Runner):
    """Every visit gives what the law of its target says, with a little noise."""

    laws: Mapping[Target, Law] = MappingProxyType({})
    outcomes: Mapping[float, Status] = MappingProxyType({})
    visits: float = math.inf
    rng = np.random.default_rng(0)

    def run(self) -> bool:
        for case in self.cases:
            for round_ in range(self.settings.rounds):
                if (case.id, round_) in self.done:
                    continue
                if self.visits <= 0:
                    return False
                self.visits -= 1
                n = float(dict(case.params)["n"])
                median = self.laws[case.target](n) * math.exp(self.rng.normal(0, 0.004))
                status = self.outcomes.get(n, "ok")
                self.done[case.id, round_] = Measurement(
                    case_id=case.id,
                    round=round_,
                    status=status,
                    started_at="2026-01-31T12:00:00.000+00:00",
                    threads=case.target.threads,
                    samples=(median,) * 5 if status == "ok" else (),
                )
        return True


def declared(values: Sequence[ParamValue]) -> Benchmark:
    class Probe:
        def work(self, n: float) -> Work:
            return Work(flops=2 * n)

        def torch(self, ctx: object) -> Callable[[], int]:
            return lambda: 0

    return benchmark(name="probe", axes={"n": list(values)}, size="n")(Probe)


def info() -> RunInfo:
    return RunInfo(
        id="run",
        label=None,
        started_at="2026-01-31T12:00:00.000+00:00",
        finished_at=None,
        state="running",
        devbench_version="0",
        settings={"benchmarks": {"probe": {"size": "n"}}},
        environment={},
    )


def lawful(one: Law, two: Law, sizes: Sequence[int | float]) -> tuple[Lawful, Plan, list[Event]]:
    plan, told = Plan(), list[Event]()
    runner = Lawful(
        run_id="run",
        cases=tuple(
            Case("suite", "probe", (("n", n),), target) for target in (ONE, TWO) for n in sizes
        ),
        catalog=Catalog({"probe": declared(sizes)}, {}, ()),
        settings=Settings(rounds=ROUNDS, crossover=True),
        environment={
            "targets": {
                str(target): {"physical_device": "cpu", "device_name": "A CPU"}
                for target in (ONE, TWO)
            }
        },
        threads=2,
        free_memory=lambda target: None,
        sink=plan,
        tell=told.append,
        log=Path("log"),
    )
    runner.laws = {ONE: one, TWO: two}
    return runner, plan, told


def crossing(runner: Runner) -> Crossing:
    run = Run(
        info=RunInfo(
            **{name: getattr(info(), name) for name in RunInfo.__slots__}
            | {"environment": runner.environment}
        ),
        cases=tuple(runner.cases),
        measurements=tuple(runner.done.values()),
    )
    (found,) = find_crossovers(run, summarize(run))
    return found.without_transfer


def straight(n: float) -> float:
    return 1e-5 * n


def even_at(size: float) -> Law:
    return lambda n: 5e-6 * size + 5e-6 * n


def test_bisecting_ends_with_neighbours_that_are_close() -> None:
    runner, plan, told = lawful(straight, even_at(1000), [64, 4096])
    assert runner.run()
    assert bisect(runner, info())
    found = crossing(runner)
    assert found.between is not None
    assert found.between[1] / found.between[0] <= CLOSE
    assert found.low is not None
    assert found.high is not None
    assert found.low <= 1000 <= found.high
    assert found.high / found.low <= 1.3
    assert found.size == pytest.approx(1000, rel=0.03)
    assert len(told) == len(plan.added) / 2 <= REPEATS, "one size on both targets at a time"
    assert all(isinstance(event, Bisecting) for event in told)
    for case in runner.cases:
        assert sum((case.id, round_) in runner.done for round_ in range(ROUNDS)) == ROUNDS
    assert runner.cases[-1].work.flops == 2 * float(dict(runner.cases[-1].params)["n"])


def test_nothing_is_added_where_nobody_overtakes_anybody() -> None:
    for law in (straight, lambda n: 2 * straight(n)):
        runner, plan, _ = lawful(straight, law, [64, 256, 1024])
        assert runner.run()
        assert bisect(runner, info())
        assert plan.added == []


def test_the_time_budget_ends_the_bisecting() -> None:
    runner, plan, _ = lawful(straight, even_at(300), [64, 1024])
    assert runner.run()
    runner.visits = 2 * ROUNDS + 1
    assert not bisect(runner, info())
    assert len(plan.added) == 4, "the second size was begun and not finished"
    runner.visits = math.inf
    assert runner.run(), "resuming first completes what was begun"
    assert bisect(runner, info())
    assert crossing(runner).size == pytest.approx(300, rel=0.05)


def test_a_size_that_cannot_be_measured_is_tried_once() -> None:
    runner, plan, _ = lawful(straight, even_at(300), [64, 1024])
    runner.outcomes = {256.0: "skipped"}
    assert runner.run()
    assert bisect(runner, info())
    assert plan.added == [f"probe[n=256]@{target}" for target in (ONE, TWO)]


def test_an_axis_of_fractions_is_bisected_in_fractions() -> None:
    runner, plan, _ = lawful(straight, even_at(0.3), [0.1, 1.0])
    assert runner.run()
    assert bisect(runner, info())
    assert plan.added[0].startswith("probe[n=0.316]")
    assert crossing(runner).size == pytest.approx(0.3, rel=0.05)


@pytest.mark.parametrize(
    ("low", "high", "whole", "expected"),
    [
        (64, 256, True, 128),
        (100, 200, True, 144),
        (8, 16, True, 11),
        (3, 4, True, None),
        (64, 72, True, None),
        (128, 136, True, None),
        (1.0, 1.1, False, None),
        (1.0, 2.0, False, 1.41),
    ],
)
def test_the_middle_is_geometric_and_a_size_that_libraries_like(
    low: float, high: float, whole: bool, expected: float | None
) -> None:
    found = middle(low, high, whole=whole)
    assert found == expected
    if whole and found is not None:
        assert isinstance(found, int)


@pytest.mark.parametrize(
    ("sizes", "targets"),
    [([64], [ONE, TWO]), ([64, 128], [ONE]), ([64, 128], [ONE, Target("tensorflow", ("CPU:0",))])],
    ids=["one size", "one target", "two frameworks"],
)
def test_nothing_to_compare_is_refused(sizes: list[int], targets: list[Target]) -> None:
    cases = [Case("suite", "probe", (("n", n),), target) for target in targets for n in sizes]
    with pytest.raises(UsageError, match="--crossover compares two devices"):
        refuse_without_pairs(cases, Catalog({"probe": declared([64, 128])}, {}, ()))
