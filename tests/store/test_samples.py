from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devbench.store.samples import pack, unpack

TIMES = st.lists(st.just(0.0) | st.floats(1e-9, 1e6))


@given(TIMES)
def test_a_stored_sample_is_off_by_less_than_any_clock_can_see(samples: list[float]) -> None:
    stored = unpack(pack(samples))
    assert len(stored) == len(samples)
    assert all(math.isclose(a, b, rel_tol=1.2e-7) for a, b in zip(stored, samples, strict=True))


@given(TIMES)
def test_storing_what_came_out_of_a_store_changes_nothing(samples: list[float]) -> None:
    once = pack(samples)
    assert pack(unpack(once)) == once


def test_a_sample_reads_as_it_was_written() -> None:
    assert unpack(pack((0.0021, 1.5e-06, 0.0))) == (0.0021, 1.5e-06, 0.0)


def test_samples_of_one_visit_take_three_quarters_of_their_float32() -> None:
    near = [0.0021 * math.exp(0.02 * math.sin(7 * place**2)) for place in range(50)]
    assert len(pack(near)) < 0.75 * 4 * 50


@pytest.mark.parametrize("sample", [-1.0, math.nan, math.inf, 1e39, 1e-46])
def test_what_is_no_time_is_not_stored(sample: float) -> None:
    with pytest.raises(ValueError, match="zero or more"):
        pack((0.1, sample))
