"""What a machine can and cannot tell: the figures of a calibration, and margins made of it."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from devbench import registry
from devbench.declare import Step
from devbench.errors import BudgetExhausted, StoreError, Unsupported
from devbench.events import Done
from devbench.measure.bench import _repeated
from devbench.model import Case, RunInfo, Target, Work
from devbench.regress import ab, calibrate, interleave, looks
from devbench.regress.ab import Request as Comparing
from devbench.regress.interleave import Found, PairDone
from devbench.regress.margins import CaseCalibration, of_run
from devbench.session import Request
from devbench.settings import Settings
from devbench.stats import power
from devbench.stats.sequential import LOOKS
from devbench.stats.verdicts import ALPHA, FAMILY, MARGIN
from devbench.store import Store
from tests.helpers import PLUGINS, DevBench
from tests.test_hold import LIMITS, Worker

CASE = "sum[n=4000,dtype=float32]@fake:cpu"


def case_of(case_id: str, spread: float = 0.01, pairs: int = 16) -> CaseCalibration:
    """One with exactly this spread between pairs, and ten times as much between rounds."""
    logs = np.linspace(-1, 1, pairs)
    logs *= spread / logs.std(ddof=1)
    return CaseCalibration(case_id=case_id, pairs=tuple(logs), rounds=tuple(10 * logs))


# The rule, and what it catches


@pytest.mark.parametrize("shift", [0.0, 0.02, 0.045])
def test_many_series_at_once_are_judged_as_ab_judges_a_case(shift: float) -> None:
    rng = np.random.default_rng(4)
    logs = rng.normal(shift, 0.02, (25, LOOKS[-1]))
    found = power.decide(logs)
    case = Case("fake", "sum", (), Target("fake", ("cpu",)), Work())
    for row, verdict, pairs in zip(logs, found.verdict, found.pairs, strict=True):
        for look in LOOKS:
            one = {case.id: Found(pairs=row[:look].tolist())}
            _, judgement = looks.look(one, [case], {}, MARGIN, look)[case.id]
            if judgement.verdict != "inconclusive":
                break
        assert (verdict, pairs) == (judgement.verdict, look)


def test_comparisons_in_a_row_use_no_pair_twice_and_leave_out_what_is_cut_short() -> None:
    steady = np.random.default_rng(0).normal(0, 1e-4, 40).tolist()
    found = power.in_a_row(steady)
    assert list(found.verdict) == ["equivalent"] * 5
    assert list(found.pairs) == [8] * 5
    undecided = np.random.default_rng(0).normal(0, 0.5, 40).tolist()
    assert len(power.in_a_row(undecided).verdict) == 0


@pytest.mark.parametrize(("seen", "trials"), [(0, 300), (3, 40), (7, 7)])
def test_bounds_of_a_chance_are_those_of_clopper_and_pearson(seen: int, trials: int) -> None:
    exact = binomtest(seen, trials).proportion_ci(0.90, "exact")
    assert power.clopper_pearson(seen, trials) == pytest.approx((exact.low, exact.high), abs=1e-9)


def test_no_alarm_in_three_hundred_shows_less_than_one_percent_and_in_none_nothing() -> None:
    assert power.clopper_pearson(0, 300)[1] < 0.01 < power.clopper_pearson(0, 298)[1]
    assert power.clopper_pearson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("spread", [0.01, 0.05])
def test_the_smallest_slowdown_is_caught_as_often_as_said_and_half_of_it_is_not(
    spread: float,
) -> None:
    rng = np.random.default_rng(1)
    limit, distance = math.log1p(MARGIN), power.caught_in_turn(spread)

    def caught(beyond: float) -> float:
        logs = rng.normal(limit + beyond, spread, (4000, LOOKS[-1]))
        return power.decide(logs).share("regressed")

    assert 0.98 < caught(distance) <= 1
    assert caught(distance / 2) < 0.6


def test_two_runs_catch_what_is_said_for_their_rounds() -> None:
    from devbench.stats.verdicts import p_above, welch_t

    rng = np.random.default_rng(2)
    distance = power.caught_by_rounds(0.1, 5, 5)
    base, new = rng.normal(0, 0.1, (20_000, 5)), rng.normal(distance, 0.1, (20_000, 5))
    assert (p_above(*welch_t(base, new), 0.0) <= ALPHA).mean() == pytest.approx(0.99, abs=0.003)
    assert power.caught_by_rounds(0.1, 5, 1) == math.inf


def test_a_pool_that_is_large_enough_is_drawn_from_without_putting_back() -> None:
    rng = np.random.default_rng(3)
    rows = power.resampled(range(100), 50, rng)
    assert rows.shape == (50, LOOKS[-1])
    assert all(len(set(row)) == LOOKS[-1] for row in rows.tolist())
    assert power.resampled([1.0, 2.0], 3, rng).shape == (3, LOOKS[-1])


# What is stored


def environment(cpu: str, *calibrated: CaseCalibration, device: str = "CPU") -> dict[str, Any]:
    return {
        "machine": {"host": {"cpu_model": cpu, "usable_cpus": 2.0}},
        "targets": {"fake:cpu": {"device_name": device}},
        "calibration": {one.case_id: one.to_json() for one in calibrated},
    }


def run_of(run_id: str, kind: str | None, facts: dict[str, Any], minute: int = 0) -> RunInfo:
    return RunInfo(
        id=run_id,
        label=None,
        started_at=f"2026-05-04T10:{minute:02}:00+00:00",
        finished_at=None,
        state="complete",
        devbench_version="1",
        settings={} if kind is None else {"kind": kind},
        environment=facts,
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(str(tmp_path / "results.sqlite")) as opened:
        yield opened


@pytest.mark.parametrize("data", [{"pairs": ["much"]}, {"pairs": [math.inf]}, 3])
def test_a_calibration_that_cannot_be_read_is_named(store: Store, data: Any) -> None:
    facts = environment("x") | {"calibration": {CASE: data}}
    info = run_of("broken", "calibration", facts)
    with pytest.raises(StoreError, match="broken"):
        calibrate.calibration_of(info)


# What it says


def test_a_calibration_says_how_little_its_pairs_can_show() -> None:
    quiet = replace(case_of(CASE, 0.001), slowed=tuple(0.0488 + 1e-3 * np.arange(-3, 4)))
    info = run_of("a", "calibration", environment("x", quiet, case_of("b@fake:cpu", pairs=2)))
    [found, few] = calibrate.calibration_of(info).cases
    assert found.alarms is not None
    assert found.slowdown is not None
    assert (found.alarms.seen, found.alarms.comparisons) == (0, 2)
    assert found.alarms.at_most == pytest.approx(1 - math.sqrt(0.05))
    assert found.alarms.resampled == 0
    assert found.slowdown.reads == pytest.approx(0.05, abs=1e-3)
    assert found.slowdown.low < 0.05 < found.slowdown.high
    assert found.slowdown.caught == 1
    assert found.catches_in_turn == pytest.approx(0.0306, abs=3e-4)
    assert found.catches_by_rounds is not None
    assert found.catches_by_rounds > 0.05
    assert found.margin == 0.01
    assert few.pair_spread is None
    assert few.reason == "2 pairs tell nothing of the spread"


def test_many_cases_leave_each_less_error() -> None:
    cases = [case_of(f"c{n}@fake:cpu") for n in range(50)]
    found = calibrate.calibration_of(run_of("a", "calibration", environment("x", *cases)))
    assert found.alpha == FAMILY / 50
    json.dumps(found.to_json(), allow_nan=False)


def test_why_no_slowdown_was_tried_is_said() -> None:
    slow = calibrate.figures(case_of(CASE), ALPHA)
    assert slow.slowdown is None
    assert slow.reason == "no slowdown was tried: 20 steps take longer than 0.25 s"


# With real processes


def test_so_many_steps_are_really_taken_for_one(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    held = worker.ask(
        "hold",
        source={"suite": "fake", "kind": "module", "location": "devbench_fake_suite"},
        benchmark="race",
        params={"n": 104},
        seed=0,
        limits=LIMITS,
        scratch=str(tmp_path),
        kept=None,
        check=None,
        roots=[],
        tops=[],
        repeat=8,
    )
    samples = worker.burst(samples=3)["samples"]
    worker.close()
    assert held["facts"]["status"] == "ok"
    assert min(samples) >= 8 * 1e-7 * 104**2  # a step spins for so long


def test_what_is_reset_between_two_steps_is_not_repeated() -> None:
    with pytest.raises(Unsupported, match="reset"):
        _repeated(Step(run=int, reset=lambda: None), 20)


#: A step that says it takes twice as long where nothing was quieted for a pair, and may break there.
OF_ITS_PROCESS = """
import os
from devbench import Step, benchmark

@benchmark(name="loud", axes={"breaks": [0, 1]}, quick={"breaks": [0, 1]})
class Loud:
    def fake(self, ctx, breaks):
        quieted = "MALLOC_MMAP_THRESHOLD_" in os.environ
        if breaks and not quieted:
            raise ValueError("too loud")
        return Step(run=int, clock=lambda: 0.001 if quieted else 0.002)
"""


def test_a_calibration_is_stored_and_gives_a_comparison_its_margins_and_its_rounds_are_those_of_a_run(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(PLUGINS))
    for name, value in (("PYTHONPATH", str(PLUGINS)), ("XDG_STATE_HOME", str(tmp_path))):
        monkeypatch.setenv(name, value)
    # Whoever asked for the frameworks before has none from this path.
    fresh = registry._loaded_frameworks.__wrapped__
    monkeypatch.setattr(registry, "_loaded_frameworks", fresh)
    monkeypatch.setattr(ab, "SHARE_S", 0.02)
    monkeypatch.setattr(interleave, "LIMITS", replace(interleave.LIMITS, warmup_s=0.02))
    suite = tmp_path / "loudness.py"
    suite.write_text(OF_ITS_PROCESS)
    short = {"warmup_s": 0.02, "share_s": 0.02, "ceiling_s": 1e-3}
    request = Request(
        select=("sum[n=4000,dtype=float32]", "loud"),
        frameworks=("fake",),
        params=("n=4000",),
        suite_paths=(suite,),
        settings=Settings.for_quick(rounds=4, **short),
    )
    told: list[Done | PairDone] = []
    found = calibrate.calibrate(request, store, told.append)
    case, loud, broken = found.cases
    assert (case.case_id, case.pairs) == (CASE, 4)
    assert broken.pairs == 0
    assert str(broken.reason).startswith("failed, ValueError: too loud at ")
    pairs = [one.case.id for one in told if isinstance(one, PairDone)]
    assert sorted(pairs) == [loud.case_id] * 4 + [CASE] * 4
    assert len(told) - len(pairs) == 9, (
        "a round before each pair, the broken case in the first alone"
    )
    assert case.slowdown is not None
    assert (case.slowdown.pairs, case.slowdown.extra) == (4, 0.05)
    assert case.margin is not None
    run = store.load(found.info.id)
    assert run.info.state == "complete"
    rounds = [one for one in run.measurements if one.case_id == CASE]
    assert [one.round for one in rounds] == [0, 1, 2, 3]
    assert rounds[0].numerics == "match"
    assert rounds[0].telemetry
    assert calibrate.calibration_of(run.info).cases == found.cases
    known = of_run(run.info)
    assert known[loud.case_id].rounds == pytest.approx([math.log(0.002)] * 4)
    assert len(known[CASE].in_yardsticks) == 4

    asked: list[Comparing] = []

    def decide_nothing(
        work: Any, cases: Any, of_base: Any, request: Comparing, *more: Any
    ) -> dict[str, Any]:
        asked.append(request)
        return {}

    monkeypatch.setattr(ab, "_until_decided", decide_nothing)
    comparing = Comparing(
        base=sys.executable,
        select=("sum",),
        frameworks=("fake",),
        params=("n=4000",),
        calibrated=True,
    )
    with pytest.raises(BudgetExhausted):  # as no pair was taken
        ab.interleave(comparing, store)
    assert asked[0].margins == {CASE: case.margin}
    assert asked[0].margin == case.margin


def test_a_budget_that_ends_before_the_first_pair_is_said_and_no_empty_table(
    devbench_cli: DevBench,
) -> None:
    words = ("sum", "--framework", "fake", "--pairs", "4", "--time-budget", "0.001")
    done = devbench_cli("calibrate", *words)
    assert (done.returncode, done.stdout) == (124, ""), done.stderr
    assert "the time budget ran out before any case was timed" in done.stderr


def test_a_look_holds_each_case_against_the_margin_that_it_has() -> None:
    cases = [Case("fake", "sum", (("n", n),), Target("fake", ("cpu",)), Work()) for n in (1, 2)]
    logs = np.random.default_rng(7).normal(0.06, 0.001, 16).tolist()
    found = {case.id: Found(pairs=logs) for case in cases}
    judged = looks.look(found, cases, {}, MARGIN, 16, {cases[1].id: 0.2})
    assert [judged[case.id][1].verdict for case in cases] == ["regressed", "equivalent"]
