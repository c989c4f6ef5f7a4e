"""Any run that could be stored, for hypothesis."""

from __future__ import annotations

from typing import get_args

import numpy as np
from hypothesis import strategies as st

from devbench.model import Case, Measurement, Numerics, Run, RunInfo, Status, Target, Work
from devbench.store.facts import rounded


def float32(value: float) -> float:
    """The shortest decimal of the nearest float32, which is what a store gives back."""
    return float(str(np.float32(value)))


# PostgreSQL's text cannot hold NUL, nor UTF-8 half a surrogate pair.
_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
_name = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8)
_number = st.floats(allow_nan=False, allow_infinity=False)
_time = st.datetimes().map(lambda moment: moment.isoformat(timespec="milliseconds") + "+00:00")
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | _number | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=8,
)
_object = st.dictionaries(_text, _json, max_size=4)
_amount = st.none() | st.floats(0, 1e18) | st.integers(0, 2**80)
_works = st.builds(
    Work,
    flops=_amount,
    bytes=_amount,
    items=_amount,
    footprint=_amount,
    terms=st.integers(1, 10**6),
)
_targets = st.builds(
    Target,
    framework=_name,
    devices=st.lists(_name, min_size=1, max_size=3).map(tuple),
    threads=st.none() | st.integers(1, 512),
)
_params = st.dictionaries(_name, st.booleans() | st.integers() | _number | _name, max_size=3).map(
    lambda values: tuple(values.items())
)
_cases = st.builds(Case, suite=_name, benchmark=_name, params=_params, target=_targets, work=_works)
_samples = st.just(0.0) | st.floats(1e-9, 1e6).map(float32)
_metrics = st.dictionaries(_text, _number | _text, max_size=4).map(rounded)
_maybe = (st.none() | st.floats(allow_nan=False)).map(rounded)


@st.composite
def runs(draw: st.DrawFn) -> Run:
    cases = draw(st.lists(_cases, max_size=4, unique_by=lambda case: case.id))
    visits = [(case, round_) for case in cases for round_ in range(2)]
    measured = draw(st.lists(st.sampled_from(visits), unique=True, max_size=6)) if visits else []
    return Run(
        info=draw(
            st.builds(
                RunInfo,
                id=_name,
                label=st.none() | _text,
                started_at=_time,
                finished_at=st.none() | _time,
                state=st.sampled_from(["running", "complete", "interrupted"]),
                devbench_version=_text,
                settings=_object,
                environment=_object,
            )
        ),
        cases=tuple(cases),
        measurements=tuple(
            draw(
                st.builds(
                    Measurement,
                    case_id=st.just(case.id),
                    round=st.just(round_),
                    status=st.sampled_from(get_args(Status)),
                    started_at=_time,
                    reason=st.none() | _text,
                    detail=st.none() | _text,
                    block=st.integers(1, 1000),
                    samples=st.lists(_samples, max_size=5).map(tuple),
                    first_call_s=_maybe,
                    steady=st.none() | st.booleans(),
                    numerics=st.none() | st.sampled_from(get_args(Numerics)),
                    rel_error=_maybe,
                    peak_memory_bytes=st.none() | st.integers(0, 2**50),
                    metrics=_metrics,
                )
            )
            for case, round_ in measured
        ),
    )


def works(run: Run) -> list[Work]:
    """`Case.work` takes no part in the comparison of runs."""
    return [case.work for case in run.cases]
