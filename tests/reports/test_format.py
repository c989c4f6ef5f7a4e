"""Figures keep three digits and their unit, at the edges of the prefixes too."""

from __future__ import annotations

import math

import pytest

from devbench.model import COLUMNS
from devbench_reports import format as fmt
from devbench_reports import view
from tests.reports import factory


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0102, "s", "10.2 ms"),
        (640e-6, "s", "640 µs"),
        (0.9999e-3, "s", "1.00 ms"),
        (999.6e-6, "s", "1.00 ms"),
        (63.04, "s", "63.0 s"),
        (12345.0, "s", "12300 s"),
        (3e-9, "s", "3.00 ns"),
        (0.0, "s", "0 s"),
        (210.4e9, "FLOP/s", "210 GFLOP/s"),
        (999.9e9, "FLOP/s", "1.00 TFLOP/s"),
        (53_300.0, "items/s", "53.3 k items/s"),
        (720.0, "items/s", "720 items/s"),
        (0.25, "items/s", "0.250 items/s"),
        (2_260.0, "samples/s", "2.26 k samples/s"),
        (None, "s", "–"),
        (math.nan, "s", "–"),
        (math.inf, "B/s", "–"),
    ],
)
def test_si_shows_three_digits_and_the_right_prefix(value: float, unit: str, text: str) -> None:
    assert fmt.si(value, unit) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (8 * 2**30, "8.00 GiB"),
        (1023.9 * 2**20, "1.00 GiB"),
    ],
)
def test_memory_counts_in_powers_of_1024(value: float, text: str) -> None:
    assert fmt.memory(value) == text


def test_every_numeric_column_has_a_formatter() -> None:
    for name, (unit, _) in COLUMNS.items():
        if unit and not unit.startswith("ISO"):
            assert fmt.quantity(name, 1.5) != fmt.NONE
            assert fmt.quantity(name, None) == fmt.NONE
    assert fmt.quantity("flop_per_s", 2e12) == "2.00 TFLOP/s"
    assert fmt.quantity("peak_memory_bytes", 2**20) == "1.00 MiB"
    assert fmt.quantity("ceiling_fraction", 0.876) == "88 %"


def test_a_share_that_says_nothing_has_no_digits() -> None:
    assert [fmt.percent(share) for share in (0.031, 0.876, 9.99, 42.7)] == [
        "3.1 %",
        "88 %",
        "999 %",
        ">999 %",
    ]


def test_the_rate_is_what_a_person_counts_where_the_work_says_it() -> None:
    assert fmt.rate(factory.result(flops=2e9, items=64)) == ("items_per_s", 6400.0)
    assert fmt.rate(factory.result(flops=2e9)) == ("flop_per_s", 2e11)
    moved = factory.result(flops=None, bytes_per_s=5e9)
    assert fmt.rate(moved) == ("bytes_per_s", 5e9)
    trained = factory.result(flops=None, metrics={"epoch_s": 0.5, "samples_per_s": 2260.0})
    assert fmt.rate(trained) is None
    assert view.rate(trained) == "2.26 k samples/s"


def test_uncertainty_tells_an_interval_from_the_spread_of_one_process() -> None:
    kind, half = fmt.uncertainty(factory.result(half=0.03)) or ("", 0.0)
    assert kind == "interval"
    assert half == pytest.approx(0.03)
    kind, half = fmt.uncertainty(factory.result(rounds=1)) or ("", 0.0)
    assert kind == "within"
    assert half == pytest.approx(0.04)
    assert fmt.uncertainty(factory.result(median=None, status="skipped")) is None


def test_params_name_numbers_and_leave_words_alone() -> None:
    assert fmt.params({"n": 1024, "dtype": "float32", "bias": True}) == "n=1024 float32 bias=true"
    assert fmt.params({"n": 1024}, leave_out=("n",)) == "–"


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("epoch_s", 0.5, ("epoch", "500 ms")),
        ("read_bytes_per_s", 2e9, ("read", "2.00 GB/s")),
        ("tokens_per_s", 1500.0, ("tokens", "1.50 k/s")),
        ("buffer_bytes", 2048, ("buffer", "2.00 KiB")),
        ("starved_fraction", 0.25, ("starved", "25 %")),
        ("largest_batch", 512, ("largest batch", "512")),
        ("scaling", "path only", ("scaling", "path only")),
    ],
)
def test_a_metric_is_shown_in_the_unit_that_its_name_ends_with(
    name: str, value: float | str, shown: tuple[str, str]
) -> None:
    assert fmt.metric(name, value) == shown
