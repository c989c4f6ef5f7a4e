"""From which size on one target beats another: simulated runs whose crossover is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from devbench.model import Case, Json, Measurement, Run, RunInfo, Target
from devbench.stats.crossover import Crossover, find_crossovers
from devbench.stats.results import summarize

ONE, TWO = Target("torch", ("cpu",), 1), Target("torch", ("cpu",), 2)
GPU, TWIN = Target("torch", ("cuda:0",), 2), Target("torch", ("cuda:1",), 2)
PLACES = {ONE: "cpu", TWO: "cpu", GPU: "GPU-1", TWIN: "GPU-2"}
SIZES: tuple[float, ...] = (16, 32, 64, 128, 256, 512)

Law = Callable[[float], float]


def run(
    laws: Mapping[Target, Law],
    sizes: Sequence[float] = SIZES,
    rounds: int = 5,
    noise: float = 0.005,
    seed: int = 0,
    shared_noise: float = 0.0,
    targets: Mapping[str, Mapping[str, Json]] | None = None,
    **facts: Any,
) -> Run:
    """A run in which a step of a target takes what its law says, in seconds.

    noise: of each round's median on its own, shared_noise: of all sizes of one process, both as the
    standard deviation of the logarithm.
    """
    rng = np.random.default_rng(seed)
    cases, measurements = [], []
    for target, law in laws.items():
        process = rng.normal(0, shared_noise, rounds)
        for n in sizes:
            case = Case("suite", "probe", (("n", n), ("kind", "a")), target)
            cases.append(case)
            for round_ in range(rounds):
                median = law(n) * math.exp(process[round_] + rng.normal(0, noise))
                measurements.append(
                    Measurement(
                        case_id=case.id,
                        round=round_,
                        status="ok",
                        started_at="2026-01-31T12:00:00.000+00:00",
                        threads=target.threads,
                        samples=tuple(median * (1 + 0.001 * k) for k in range(-3, 4)),
                        steady=True,
                        **facts,
                    )
                )
    places = {
        str(target): {
            "physical_device": PLACES[target],
            "device_name": "A CPU" if PLACES[target] == "cpu" else "A GPU",
            **(targets or {}).get(str(target), {}),
        }
        for target in laws
    }
    info = RunInfo(
        id="run",
        label=None,
        started_at="2026-01-31T12:00:00.000+00:00",
        finished_at=None,
        state="running",
        devbench_version="0",
        settings={"benchmarks": {"probe": {"size": "n"}}},
        environment={"targets": places},
    )
    return Run(info=info, cases=tuple(cases), measurements=tuple(measurements))


def found(*arguments: Any, **more: Any) -> list[Crossover]:
    made = run(*arguments, **more)
    return find_crossovers(made, summarize(made))


def only(*arguments: Any, **more: Any) -> Crossover:
    (crossover,) = found(*arguments, **more)
    return crossover


def line(overhead: float, slope: float) -> Law:
    return lambda n: overhead + slope * n


def straight(n: float) -> float:
    return 1e-5 * n


def halved(n: float) -> float:
    """Half the slope and an overhead: as fast as `straight` at n = 100."""
    return 5e-4 + 5e-6 * n


def test_two_lines_cross_where_they_do() -> None:
    crossover = only({ONE: straight, TWO: halved})
    crossing = crossover.without_transfer
    assert (crossover.base, crossover.subject) == (str(ONE), str(TWO))
    assert (crossover.axis, crossover.params) == ("n", {"kind": "a"})
    assert list(crossover.sizes) == list(SIZES)
    assert crossing.status == "crosses"
    assert crossing.ahead == str(TWO)
    assert (crossing.low, crossing.high) == (64, 128)
    assert crossing.between == (64.0, 128.0)
    assert crossing.changes == 1
    # the lines are curves in logarithms, so the interpolation between 64 and 128 is a little off
    assert crossing.size == pytest.approx(100, rel=0.05)


def test_power_laws_are_interpolated_exactly() -> None:
    laws = {ONE: lambda n: 1e-8 * n**2, TWO: lambda n: 1e-6 * n}
    assert only(laws, noise=1e-6).without_transfer.size == pytest.approx(100, rel=1e-4)


@pytest.mark.parametrize("shared_noise", [0.0, 0.05])
def test_the_interval_holds_the_true_size_in_nine_of_ten_runs(shared_noise: float) -> None:
    sizes = (64, 80, 88, 96, 104, 112, 128)  # as after bisecting
    trials, hits, closed = 400, 0, 0
    for seed in range(trials):
        crossing = only(
            {ONE: straight, TWO: halved},
            sizes=sizes,
            noise=0.02,
            shared_noise=shared_noise,
            seed=seed,
        ).without_transfer
        low = crossing.low if crossing.low is not None else 0
        high = crossing.high if crossing.high is not None else math.inf
        hits += crossing.status not in ("always", "never") and low <= 100 <= high
        closed += crossing.low is not None and crossing.high is not None
    assert hits >= 0.95 * trials
    if shared_noise == 0:
        assert closed >= 0.9 * trials, "an interval that is always open says nothing"


def test_the_same_code_twice_is_seldom_said_to_cross() -> None:
    told = [
        only({ONE: straight, TWO: straight}, noise=0.02, seed=seed).without_transfer
        for seed in range(200)
    ]
    assert sum(one.status == "undecided" for one in told) >= 0.9 * len(told)
    assert not any(one.status == "crosses" for one in told)
    assert all(one.between is None for one in told if one.status == "undecided")


def test_one_that_is_ahead_at_every_size_is_always_ahead() -> None:
    crossing = only({ONE: straight, TWO: lambda n: straight(n) / 2}).without_transfer
    assert (crossing.status, crossing.ahead, crossing.size) == ("always", str(TWO), None)
    assert crossing.between is None


def test_one_that_is_behind_at_every_size_never_wins() -> None:
    crossing = only({ONE: straight, TWO: lambda n: straight(n) * 2}).without_transfer
    assert (crossing.status, crossing.ahead) == ("never", str(ONE))


def test_an_advantage_that_emerges_from_equality_has_no_lower_end() -> None:
    crossing = only({ONE: straight, TWO: lambda n: straight(n) / (1 if n < 100 else 2)})
    told = crossing.without_transfer
    assert (told.status, told.ahead, told.size) == ("emerges", str(TWO), 128)
    assert (told.low, told.high) == (None, 128)
    assert told.between == (64.0, 128.0)


def test_an_advantage_that_is_lost_in_the_noise_has_no_upper_end() -> None:
    laws = {ONE: straight, TWO: lambda n: straight(n) * (2 if n < 100 else 1)}
    told = only(laws).without_transfer
    assert (told.status, told.ahead, told.size) == ("fades", str(ONE), 64)
    assert (told.low, told.high) == (64, None)
    assert told.between is None
    single = only(laws, rounds=1).without_transfer
    assert (single.status, single.size, single.low) == ("fades", 64, None)


@pytest.mark.parametrize(
    ("signs", "status", "changes", "throughout"),
    [
        ((-1, 1, 0), "fades", 1, False),
        ((0, 1, 0), "fades", 0, False),
        ((1, 1, 0), "fades", 0, True),
        ((1, 0, 1), "emerges", 0, False),
        ((0, 0, 1), "emerges", 0, True),
    ],
)
def test_what_is_not_so_at_every_smaller_size_is_known_not_to_be(
    signs: tuple[int, ...], status: str, changes: int, throughout: bool
) -> None:
    sizes = SIZES[: len(signs)]
    factors = dict(zip(sizes, (2.0**-sign for sign in signs), strict=True))
    laws = {ONE: straight, TWO: lambda n: straight(n) * factors[n]}
    told = only(laws, sizes=sizes).without_transfer
    assert (told.status, told.ahead) == (status, str(TWO))
    assert (told.changes, told.throughout) == (changes, throughout)


def test_the_subject_may_be_the_one_that_loses_at_large_sizes() -> None:
    crossing = only({ONE: halved, TWO: straight}).without_transfer
    assert (crossing.status, crossing.ahead) == ("crosses", str(ONE))


def test_of_several_changes_the_last_is_told_and_their_number() -> None:
    factors = {16: 2.0, 32: 0.5, 64: 2.0, 128: 2.0, 256: 0.5, 512: 0.5}
    crossing = only({ONE: straight, TWO: lambda n: straight(n) * factors[int(n)]}).without_transfer
    assert crossing.status == "crosses"
    assert crossing.changes == 3
    assert (crossing.low, crossing.high) == (128, 256)
    assert crossing.ahead == str(TWO)


def test_one_round_gives_a_size_and_no_interval() -> None:
    laws = {ONE: straight, TWO: line(2e-3, 2e-6)}
    crossover = only(laws, rounds=1)
    crossing = crossover.without_transfer
    assert crossover.rounds == 1
    assert crossing.status == "crosses"
    assert crossing.size == pytest.approx(250, rel=0.05)
    assert (crossing.low, crossing.high) == (None, None)
    assert crossing.between == (128, 256)


def test_one_round_claims_nothing_that_may_be_chance() -> None:
    crossing = only({ONE: straight, TWO: lambda n: straight(n) / 1.2}, rounds=1).without_transfer
    assert crossing.status == "undecided"


def test_between_two_thread_counts_moving_costs_nothing() -> None:
    crossover = only({ONE: straight, TWO: halved})
    assert crossover.moving == "shared"
    assert crossover.with_transfer == crossover.without_transfer


TRANSFERS: Mapping[str, Mapping[str, Json]] = {
    str(GPU): {"ceilings": {"transfers": {"h2d": 1e9, "d2h": 5e8}}}
}


def test_moving_the_data_moves_the_crossover_of_an_accelerator() -> None:
    # 1 MB there at 1 GB/s and 0.5 MB back at half of that: 2 ms; without it the lines meet at 100
    crossover = only(
        {TWO: straight, GPU: halved},
        sizes=(64, 80, 96, 112, 400, 480, 520, 600),
        targets=TRANSFERS,
        input_bytes=1_000_000,
        output_bytes=500_000,
    )
    assert crossover.moving == "measured"
    assert (crossover.without_transfer.low, crossover.without_transfer.high) == (96, 112)
    moved = crossover.with_transfer
    assert moved is not None
    assert moved.size == pytest.approx(500, rel=0.02)
    assert (moved.low, moved.high) == (480, 520)


@pytest.mark.parametrize(
    ("targets", "facts"),
    [
        ({}, {"input_bytes": 1, "output_bytes": 1}),
        (TRANSFERS, {"input_bytes": 1}),
        ({str(GPU): {"ceilings": None}}, {"input_bytes": 1, "output_bytes": 1}),
    ],
    ids=["no ceilings", "outputs unknown", "ceilings failed"],
)
def test_moving_that_was_not_measured_is_unknown_not_free(
    targets: Mapping[str, Mapping[str, Json]], facts: Mapping[str, int]
) -> None:
    crossover = only({TWO: straight, GPU: halved}, targets=targets, **facts)
    assert crossover.moving == "unknown"
    assert crossover.with_transfer is None
    assert crossover.without_transfer.status == "crosses"


def test_pairs_differ_in_the_device_or_in_the_cpus_threads() -> None:
    laws = {ONE: straight, TWO: halved, GPU: straight, TWIN: straight}
    pairs = {(one.base, one.subject) for one in found(laws)}
    # GPU and TWIN are one model, and have the threads of TWO
    assert pairs == {
        (str(ONE), str(TWO)),
        (str(TWO), str(GPU)),
        (str(TWO), str(TWIN)),
    }


def test_frameworks_are_not_set_against_each_other() -> None:
    other = Target("tensorflow", ("CPU:0",), 2)
    PLACES[other] = "cpu"
    assert found({ONE: straight, other: halved}) == []


def test_one_size_and_a_benchmark_without_a_size_have_no_crossover() -> None:
    assert found({ONE: straight, TWO: halved}, sizes=(16,)) == []
    made = run({ONE: straight, TWO: halved})
    for settings in ({}, {"benchmarks": None}, {"benchmarks": {"probe": {"size": None}}}):
        info = RunInfo(
            **{name: getattr(made.info, name) for name in made.info.__slots__}
            | {"settings": settings}
        )
        bare = Run(info=info, cases=made.cases, measurements=made.measurements)
        assert find_crossovers(bare, summarize(bare)) == []


def test_sizes_that_only_one_was_timed_at_take_no_part() -> None:
    made = run({ONE: straight, TWO: halved})
    gone = {one.id for one in made.cases if one.target == TWO and dict(one.params)["n"] == 512}
    rest = Run(
        info=made.info,
        cases=made.cases,
        measurements=tuple(one for one in made.measurements if one.case_id not in gone),
    )
    (crossover,) = find_crossovers(rest, summarize(rest))
    assert list(crossover.sizes) == list(SIZES[:-1])
