from __future__ import annotations

from typing import Any

import pytest

from devbench.model import Case, Result, Target, Work
from devbench.stats.results import summarize
from tests.stats.test_results import CPU, run, visit


def rows(
    seconds: dict[int, tuple[float, ...]], target: Target = CPU, **more: Any
) -> dict[int, Result]:
    """One row a world size, each from its round medians."""
    metrics = more.pop("metrics", {})
    cases = {
        world: Case(
            "s", "ranks", tuple({**more, "world_size": world}.items()), target, Work(items=8)
        )
        for world in seconds
    }
    visits = [
        visit(cases[world], round_, samples=(one,) * 5, metrics=metrics)
        for world, rounds in seconds.items()
        for round_, one in enumerate(rounds)
    ]
    return {row.world_size: row for row in summarize(run(list(cases.values()), visits))}


def test_strong_scaling_is_held_against_a_share_of_the_work() -> None:
    found = rows({1: (8.0,), 2: (4.0,), 4: (4.0,)}, scaling="strong")
    assert found[2].metrics == {"efficiency_fraction": pytest.approx(1.0)}
    assert found[4].metrics == {"efficiency_fraction": pytest.approx(0.5)}


def test_weak_scaling_is_held_against_the_same_time() -> None:
    found = rows({1: (4.0,), 2: (5.0,)}, scaling="weak")
    assert found[2].metrics["efficiency_fraction"] == pytest.approx(0.8)


def test_the_efficiency_has_an_interval_where_there_are_rounds() -> None:
    found = rows({1: (4.0, 4.1, 3.9), 2: (2.0, 2.2, 2.1)}, scaling="strong")[2].metrics
    assert (
        found["efficiency_low_fraction"]
        < found["efficiency_fraction"]
        < found["efficiency_high_fraction"]
    )


def test_ranks_that_share_one_pool_of_threads_have_no_efficiency() -> None:
    found = rows({1: (4.0,), 2: (4.0,)}, metrics={"scaling": "path only: one thread pool"})
    assert "efficiency_fraction" not in found[2].metrics


def test_without_the_row_of_one_rank_nothing_is_said() -> None:
    assert rows({2: (4.0,)})[2].metrics == {}
