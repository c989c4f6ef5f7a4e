from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devbench.api import make_settings
from devbench.errors import UsageError
from devbench.settings import Settings


@pytest.mark.parametrize("rounds", [0, -1])
def test_no_rounds_are_refused_since_they_measure_nothing(rounds: int) -> None:
    with pytest.raises(UsageError, match=f"--rounds must be at least 1, not {rounds}"):
        Settings(rounds=rounds)


@pytest.mark.parametrize("seconds", [0.0, -5.0, math.nan, math.inf])
def test_a_time_budget_that_is_no_duration_is_refused(seconds: float) -> None:
    with pytest.raises(UsageError, match="--time-budget takes seconds above zero"):
        Settings(time_budget_s=seconds)


def test_quick_is_one_round_and_shorter_in_everything() -> None:
    quick, usual = Settings.for_quick(), Settings()
    assert (quick.rounds, quick.quick) == (1, True)
    assert quick.warmup_s < usual.warmup_s
    assert quick.share_s < usual.share_s
    assert quick.step_s < usual.step_s


def test_quick_leaves_what_was_asked_for() -> None:
    quick = Settings.for_quick(rounds=3, time_budget_s=60.0)
    assert (quick.rounds, quick.time_budget_s, quick.quick) == (3, 60.0, True)


def test_thorough_is_fifteen_rounds_each_as_by_default() -> None:
    thorough = Settings.for_thorough()
    assert thorough.rounds == 15
    assert replace(thorough, rounds=Settings().rounds) == Settings()
    assert Settings.for_thorough(rounds=20).rounds == 20


def test_quick_and_thorough_together_are_refused() -> None:
    with pytest.raises(UsageError, match="--quick and --thorough exclude each other"):
        make_settings(quick=True, thorough=True, rounds=None, time_budget=None, crossover=False)


@given(
    st.builds(
        Settings,
        rounds=st.integers(1, 99),
        quick=st.booleans(),
        seed=st.integers(0),
        share_s=st.floats(0.01, 100),
        time_budget_s=st.none() | st.floats(0.1, 1e6),
    )
)
def test_settings_survive_being_stored(settings: Settings) -> None:
    assert Settings.from_json(json.loads(json.dumps(settings.to_json()))) == settings


def test_what_is_stored_beside_the_settings_does_not_disturb_them() -> None:
    stored = {**Settings(rounds=2).to_json(), "sources": [{"suite": "matmul"}]}
    assert Settings.from_json(stored) == Settings(rounds=2)


def test_a_short_budget_shortens_the_visit_but_not_what_counts_as_slow() -> None:
    settings = Settings()
    whole, half = settings.limits(), settings.limits(0.5)
    assert (whole.warmup_s, whole.share_s) == (settings.warmup_s, settings.share_s)
    assert (half.warmup_s, half.share_s) == (settings.warmup_s / 2, settings.share_s / 2)
    assert half.step_s == whole.step_s == settings.step_s
