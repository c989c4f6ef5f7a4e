"""Histories with known changes, read from a store without its samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from devbench.errors import NothingMeasured, UsageError
from devbench.regress.history import History, history
from devbench.store import Store
from tests.regress.factory import failed, make_case, make_run, timed

CASE, OTHER = make_case(), make_case(512)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def commit(place: int) -> str:
    return f"{place:012x}".ljust(40, "0")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(str(tmp_path / "store.sqlite")) as opened:
        yield opened


def fill(
    store: Store,
    levels: Sequence[float],
    *,
    drift: Sequence[float] | None = None,
    facts: Mapping[int, Mapping[str, Any]] | None = None,
    variables: Mapping[int, Mapping[str, str]] | None = None,
    seed: int = 0,
) -> None:
    """A run a day with three rounds of half a percent about its level. drift: of the whole machine, the
    yardstick too. facts, variables: of the target and of the environment, by the place of the run from
    which on they hold."""
    rng = np.random.default_rng(seed)
    known: dict[str, Any] = {}
    environ: dict[str, str] = {}
    for place, level in enumerate(levels):
        known |= (facts or {}).get(place, {})
        environ |= (variables or {}).get(place, {})
        machine = 1.0 if drift is None else drift[place]
        rounds = machine * level * np.exp(0.005 * rng.standard_normal(3))
        sticks = None if drift is None else {"yardstick_s": [0.1 * machine] * 3}
        store.import_run(
            make_run(
                f"run-{place:03d}",
                {
                    CASE: timed(CASE, rounds.tolist(), **(sticks or {})),
                    OTHER: timed(OTHER, [2.0, 2.0, 2.0]),
                },
                target_facts=known,
                environment={
                    "git": {"commit": commit(place), "dirty": place == 21},
                    "variables": dict(environ),
                },
                started_at=(NOON + timedelta(days=place)).isoformat(timespec="milliseconds"),
            )
        )


def of_case(found: History) -> Any:
    return next(series for series in found.series if series.case_id == CASE.id)


def test_a_known_change_is_found_with_the_commit_where_it_began(store: Store) -> None:
    fill(store, [1.0] * 20 + [1.08] * 15)
    found = history(store)
    series = of_case(found)
    (change,) = series.changes
    assert (change.at, change.run.id, change.before.id) == (20, "run-020", "run-019")
    assert change.ratio == pytest.approx(1.08, abs=0.005)
    assert (change.run.commit, change.before.commit) == (commit(20), commit(19))
    assert [one.what for one in change.differences] == ["git commit"]
    assert series.levels[0] == pytest.approx(1.0, abs=0.005)
    assert series.levels[-1] == pytest.approx(1.08, abs=0.005)
    assert len(found.runs) == len(series.runs) == 35
    assert found.runs[21].dirty is True
    (steady,) = (series for series in found.series if series.case_id == OTHER.id)
    assert (steady.changes, set(steady.levels)) == ((), {2.0})


def test_a_change_tells_what_else_changed_with_it(store: Store) -> None:
    fill(store, [1.0] * 10 + [0.9] * 10, facts={10: {"framework_version": "2.14.0"}})
    (change,) = of_case(history(store)).changes
    assert [(one.severity, one.what, one.new) for one in change.differences[:1]] == [
        ("matters", "framework version", "2.14.0")
    ]


def test_drift_that_the_yardstick_shares_is_no_change(store: Store) -> None:
    drift = [1.0] * 15 + [1.3] * 15
    fill(store, [1.0] * 30, drift=drift)
    series = of_case(history(store))
    assert (series.changes, series.corrected) == ((), "all")


def test_what_was_laid_beside_two_different_steps_is_not_taken_in_units_of_them(
    store: Store,
) -> None:
    """Of two rounds one was timed beside another step than the other, which is ten times as long."""
    for place in range(3):
        visits = [
            replace(visit, yardstick=name)
            for visit, name in zip(
                timed(CASE, [1.0, 1.0], yardstick_s=[0.1 * 2**place, 1.0]),
                ("gemm", "copy"),
                strict=True,
            )
        ]
        store.import_run(make_run(f"run-{place}", {CASE: visits}))
    series = of_case(history(store))
    assert (series.corrected, series.seconds) == ("none", (1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    "what",
    [
        {"facts": {15: {"framework_version": "2.14.0"}}},
        {"facts": {15: {"build": {"mkl": "2026.0"}}}},
        {"facts": {15: {"settings": {"cudnn_allow_tf32": True}}}},
        {"variables": {15: {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_AMX"}}},
    ],
)
def test_a_faster_framework_is_seen_though_its_yardstick_is_faster_too(
    store: Store, what: dict[str, Any]
) -> None:
    drift = [1.0] * 15 + [0.8] * 15
    fill(store, [1.0] * 30, drift=drift, **what)
    (change,) = of_case(history(store)).changes
    assert (change.at, change.ratio) == (15, pytest.approx(0.8, abs=0.01))


def test_a_case_on_another_device_has_a_history_of_its_own(store: Store) -> None:
    fill(store, [1.0] * 10 + [3.0] * 10, facts={10: {"device_name": "B CPU"}})
    series = [one for one in history(store).series if one.case_id == CASE.id]
    assert [(one.device, len(one.runs), one.changes) for one in series] == [
        ("A CPU", 10, ()),
        ("B CPU", 10, ()),
    ]


def test_what_was_not_timed_or_computed_wrongly_is_not_in_it(store: Store) -> None:
    fill(store, [1.0] * 3)
    for name, visits in (
        ("zz-failed", failed(CASE, "failed")),
        ("zz-wrong", timed(CASE, [9.0], numerics="mismatch")),
        ("zz-planned", []),
    ):
        store.import_run(make_run(name, {CASE: visits}))
    found = history(store)
    assert len(of_case(found).runs) == 3
    assert {found.runs[place].id for place in of_case(found).runs} == {
        "run-000",
        "run-001",
        "run-002",
    }


@pytest.mark.parametrize(
    "settings",
    [
        {"ab": {"side": "base"}},
        {"ab": {"side": "head"}},
        {"kind": "calibration"},
        {"kind": "stress"},
    ],
)
def test_what_no_ordinary_run_measured_is_left_out(store: Store, settings: dict[str, Any]) -> None:
    early = (NOON - timedelta(days=1)).isoformat(timespec="milliseconds")
    store.import_run(
        make_run("aa", {CASE: timed(CASE, [9.0])}, settings=settings, started_at=early)
    )
    fill(store, [1.0] * 3)
    found = history(store)
    assert [run.id for run in found.runs] == ["run-000", "run-001", "run-002"]
    assert of_case(found).runs == (0, 1, 2)


@pytest.mark.parametrize(
    ("pattern", "cases"),
    [
        ("matmul", {CASE.id, OTHER.id}),
        ("matmul[n=512]", {OTHER.id}),
        ("mat*[n=2*]@torch:*", {CASE.id}),
        (CASE.id, {CASE.id}),
    ],
)
def test_a_pattern_chooses_cases(store: Store, pattern: str, cases: set[str]) -> None:
    fill(store, [1.0] * 2)
    assert {series.case_id for series in history(store, pattern).series} == cases


def test_a_benchmark_that_is_called_like_its_suite_is_meant_alone(store: Store) -> None:
    batched = replace(CASE, benchmark="matmul_batched")
    store.import_run(make_run("run", {one: timed(one, [1.0]) for one in (CASE, batched)}))

    def meant(pattern: str) -> set[str]:
        return {series.benchmark for series in history(store, pattern).series}

    assert meant("matmul") == {"matmul"}
    assert meant("matmul*") == {"matmul", "matmul_batched"}
    with pytest.raises(NothingMeasured):
        history(store, "matmul[n=9]")


def test_a_suite_without_a_benchmark_of_its_name_is_meant_as_a_whole(store: Store) -> None:
    one, other = (replace(CASE, benchmark=name) for name in ("matmul_one", "matmul_other"))
    store.import_run(make_run("run", {case: timed(case, [1.0]) for case in (one, other)}))
    assert len(history(store, "matmul").series) == 2


@pytest.mark.parametrize("pattern", ["mlp", "matmul[n=9]", "matmul@tensorflow:*"])
def test_a_pattern_that_means_nothing_is_said(store: Store, pattern: str) -> None:
    fill(store, [1.0] * 2)
    with pytest.raises(NothingMeasured, match="holds no timed case that"):
        history(store, pattern)


def test_a_pattern_that_is_none_and_an_empty_store_are_said(store: Store) -> None:
    with pytest.raises(UsageError, match="cannot read the selection"):
        history(store, "[")
    with pytest.raises(NothingMeasured, match="holds no timed case at all"):
        history(store)
