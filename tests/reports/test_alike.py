"""Sentences that differ in figures only are one; those whose figures are names stay apart."""

from __future__ import annotations

import pytest

from devbench_reports.alike import template, together


@pytest.mark.parametrize(
    ("sentences", "told"),
    [
        (["steal: 3.0%"] * 2, "steal: 3.0%"),
        (
            [
                "others kept 1.67 CPUs busy beside 2 threads",
                "others kept 0.9 CPUs busy beside 2 threads",
            ],
            "others kept 0.9 to 1.67 CPUs busy beside 2 threads",
        ),
        (
            ["±9% inside the one round", "±394% inside the one round", "±57% inside the one round"],
            "±9 to ±394% inside the one round",
        ),
        (["-3.2% at the end", "+1.0% at the end"], "-3.2 to +1.0% at the end"),
        (
            ["a sample of 1.1e-05 s is 270 ticks", "a sample of 2.9e-05 s is 477 ticks"],
            "a sample of 1.1e-05 to 2.9e-05 s is 270 to 477 ticks",
        ),
        (
            [
                "a step would take 1.22 s, predicted at n=32",
                "a step would take 75 s, predicted at n=32",
            ],
            "a step would take 1.22 to 75 s, predicted at n=32",
        ),
    ],
)
def test_the_range_of_each_figure_is_told(sentences: list[str], told: str) -> None:
    assert len({template(sentence) for sentence in sentences}) == 1
    assert together(sentences) == told


@pytest.mark.parametrize(
    "pair",
    [
        ("steal: 3.0%", "swapping: 3 pages in"),
        ("numerics-mismatch: 0.02 at [3, 4]", "numerics-mismatch: 0.02 at [5, 6]"),
        ("co-tenant: 1 other (pid 7)", "co-tenant: 1 other (pid 8)"),
        ("failed now: error: ValueError at my.py:12", "failed now: error: ValueError at my.py:13"),
        ("unsupported: no float16 here", "unsupported: no float32 here"),
        ("throttled: 5% of samples on GPU-1a2b", "throttled: 5% of samples on GPU-3c4d"),
    ],
)
def test_what_names_something_else_is_not_taken_for_a_figure(pair: tuple[str, str]) -> None:
    assert template(pair[0]) != template(pair[1])
