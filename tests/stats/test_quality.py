from __future__ import annotations

import random
from typing import Any

import pytest

from devbench.model import QUALITY_REASONS, Measurement
from devbench.stats.quality import judge
from devbench.telemetry import DOUBTS


def visit(**changes: Any) -> Measurement:
    """A round of twenty calm samples of a millisecond that nothing is to be said against."""
    fields: dict[str, Any] = {
        "case_id": "probe[]@torch:cpu",
        "round": 0,
        "status": "ok",
        "started_at": "2026-01-31T12:00:00.000+00:00",
        "threads": 2,
        "threads_used": 1.98,
        "clock": "perf_counter, CPU calls block",
        "clock_tick_s": 5e-8,
        "samples": around(1e-3),
        "steady": True,
        "trend": 0.001,
        "numerics": "match",
        "rel_error": 1e-7,
        "tolerance": 1e-6,
    }
    return Measurement(**(fields | changes))


def around(median: float, scatter: float = 0.002, count: int = 20) -> tuple[float, ...]:
    rng = random.Random(0)
    samples = [median * (1 + scatter * rng.uniform(-1, 1)) for _ in range(count - 1)]
    return (*samples, median)


CALM = [visit(round=i) for i in range(5)]
WRONG = visit(numerics="mismatch", numerics_detail="output is off by 0.3", tolerance=1e-5)

#: Reason → rounds that give it alone, and the text that it comes with.
DOUBTFUL: dict[str, tuple[list[Measurement], str]] = {
    "numerics-mismatch": (
        [WRONG, *CALM[1:]],
        "numerics-mismatch: output is off by 0.3, tolerance 1e-05",
    ),
    "threads": (
        [*CALM[:4], visit(threads_used=3.7)],
        "threads: 3.7 busy where 2 were given",
    ),
    "not-steady": (
        [*CALM[:3], visit(steady=False, trend=0.04), visit(steady=False, trend=-0.07)],
        "not-steady: -7.0% at the end of the warm-up, in 2 of 5 rounds",
    ),
    "few-samples": (
        [*CALM[:4], visit(samples=around(1e-3, count=4))],
        "few-samples: 4 in a round",
    ),
    "below-resolution": (
        [visit(samples=around(2e-5), round=i) for i in range(5)],
        "below-resolution: a sample of 2e-05 s is 400 ticks of the clock",
    ),
    "wide-interval": (
        [visit(samples=around(1e-3)), visit(samples=around(1.05e-3))],
        "wide-interval: ±36% over 2 rounds",
    ),
    "rounds-disagree": (
        [visit(samples=around(1e-3 * (1.15 if i == 7 else 1))) for i in range(15)],
        "rounds-disagree: the slowest round takes 15% longer than the fastest",
    ),
}


#: The reasons that the rounds themselves give; the others come from telemetry and the ceilings.
OWN = set(QUALITY_REASONS) - set(DOUBTS) - {"beats-ceiling"}


def test_calm_rounds_are_valid() -> None:
    assert judge(CALM) == ("valid", ())
    assert judge(CALM[:1]) == ("valid", ())


def test_every_reason_of_the_closed_list_has_an_example_here() -> None:
    assert set(DOUBTFUL) == OWN


def test_what_telemetry_says_is_told_with_the_number_of_rounds() -> None:
    busy = {
        "seconds": 0.5,
        "samples": 5,
        "host": {"cpus": 2, "cores": 2, "others_busy": 1.0},
        "gpus": [],
    }
    rounds = [visit(telemetry=busy), visit(), visit(telemetry=busy)]
    assert judge(rounds) == (
        "suspect",
        (
            "noisy-neighbour: others kept 1.00 CPUs busy beside 2 threads on 2 cores, in 2 of 3 rounds",
        ),
    )


def test_a_rate_above_the_measured_ceiling_is_doubted() -> None:
    assert judge(CALM, 1.05) == ("valid", ())
    assert judge(CALM, 1.3) == ("suspect", ("beats-ceiling: 1.30 of the measured ceiling",))


def test_what_no_cpu_or_gpu_can_do_is_doubted_at_once() -> None:
    assert judge(CALM, 1.0, 0.99) == ("valid", ())
    assert judge(CALM, 1.0, 1.02) == (
        "suspect",
        ("beats-ceiling: 1.02 of the theoretical peak",),
    )


def test_an_interval_without_sense_is_not_told_to_the_last_digit() -> None:
    _, reasons = judge([visit(samples=around(1e-3)), visit(samples=around(5.0))])
    assert reasons == (
        "wide-interval: ±>999% over 2 rounds",
        "rounds-disagree: the slowest round takes >999% longer than the fastest",
    )


@pytest.mark.parametrize("word", DOUBTFUL)
def test_a_doubtful_figure_is_told_with_its_reason_and_figure(word: str) -> None:
    rounds, text = DOUBTFUL[word]
    quality, reasons = judge(rounds)
    assert reasons == (text,)
    assert quality == ("invalid" if word in ("numerics-mismatch", "threads") else "suspect")


def test_reasons_are_collected_and_the_worst_decides() -> None:
    rounds = [
        visit(
            steady=False,
            trend=0.2,
            samples=(4e-7, 9e-7),
            threads_used=9.0,
            numerics="mismatch",
            numerics_detail="output is off by inf",
        ),
        visit(),
    ]
    quality, reasons = judge(rounds)
    assert quality == "invalid"
    words = [reason.split(":")[0] for reason in reasons]
    assert set(words) == OWN
    assert len(words) == len(set(words))


@pytest.mark.parametrize(
    "changes",
    [
        {"threads_used": 2.25},  # the process itself, besides the two threads
        {"threads_used": 1.2},  # a neighbour took the rest
        {"threads_used": None},
        {"threads": None, "threads_used": 8.0},
        {"steady": None, "trend": None},  # too few samples to tell
        {"steady": True, "trend": 0.3},
        {"samples": around(1e-3, count=5)},
        {"samples": around(2.6e-5)},  # a step got faster than when its block was chosen
        {"samples": around(1e-7), "block": 500},
        {
            "samples": around(1.1e-5),
            "clock_tick_s": 5e-7,
            "clock": "cuda events around queued steps",
        },
        {"samples": around(1e-6), "clock_tick_s": None},
        {"numerics": "unchecked", "rel_error": None},
        {"numerics": None},
    ],
)
def test_what_is_in_order_raises_no_doubt(changes: dict[str, Any]) -> None:
    rounds = [visit(round=i, **changes) for i in range(3)]
    assert judge(rounds) == ("valid", ())


def test_rounds_that_differ_by_less_than_a_tenth_do_not_disagree() -> None:
    rounds = [visit(samples=around(1e-3 * (1.08 if i == 7 else 1))) for i in range(15)]
    assert judge(rounds) == ("valid", ())


def test_the_spread_inside_a_lone_round_is_called_what_it_is() -> None:
    rng = random.Random(1)
    samples = tuple(rng.uniform(0.5e-3, 2e-3) for _ in range(20))
    quality, reasons = judge([visit(samples=samples)])
    assert quality == "suspect"
    (reason,) = reasons
    assert reason.startswith("wide-interval: ±")
    assert reason.endswith("inside the one round")


def test_a_lone_round_of_five_samples_is_doubted_for_the_range_of_them_all() -> None:
    _, reasons = judge([visit(samples=(1e-3, 2e-3, 3e-3, 4e-3, 9e-3))])
    assert reasons == ("wide-interval: ±133% inside the one round",)


def test_events_that_are_a_few_of_their_own_ticks_are_doubted() -> None:
    events = "cuda events around queued steps"
    _, reasons = judge([visit(samples=around(5e-6), clock_tick_s=5e-7, clock=events)])
    assert reasons == ("below-resolution: a sample of 5e-06 s is 10 ticks of the clock",)


def test_fewer_samples_are_doubted_for_their_number_and_have_no_interval() -> None:
    _, reasons = judge([visit(samples=(1e-3, 2e-3, 3e-3, 9e-3))])
    assert reasons == ("few-samples: 4 in a round",)


def test_a_mismatch_without_a_tolerance_is_still_told() -> None:
    wrong = visit(numerics="mismatch", numerics_detail="the output lacks y", tolerance=None)
    assert judge([wrong])[1] == ("numerics-mismatch: the output lacks y",)


def test_a_clock_that_read_zero_is_doubted_and_divides_nothing() -> None:
    rounds = [visit(samples=(0.0,) * 9, round=i) for i in range(2)]
    quality, reasons = judge(rounds)
    assert quality == "suspect"
    assert [reason.split(":")[0] for reason in reasons] == ["below-resolution"]
