"""``devbench run --quick`` for real: the first case of every benchmark in each framework, in one run.

The whole sweep takes minutes: ``python -m tests.bench every_suite``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import pytest

from devbench.cli.run import exit_code
from devbench.model import Result, Run, Target
from devbench.plan import Pattern, make_cases
from devbench.registry import load_catalog
from devbench.session import Request, carry_out, prepare
from devbench.settings import Settings
from devbench.stats.results import summarize
from devbench.store import Store
from tests.suites.test_all import ONE_FRAMEWORK, TARGETS, UNCHECKED

CATALOG: Final = load_catalog()
#: Benchmarks that measure nothing on a CPU, each with what its rows say there.
NEVER_ON_A_CPU: Final = {
    "data_parallel_dp": "copies to GPUs only",
    "transfer_peer": "it takes two devices",
}
#: What cannot be, asked for beside the sweep, and what its row says.
IMPOSSIBLE: Final = {
    "matmul[n=64,dtype=tfloat32]@torch:cpu": "only NVIDIA GPUs",
    "matmul[n=64,dtype=tfloat32]@tensorflow:CPU:0": "only NVIDIA GPUs",
    "data_parallel_ddp[network=mlp,scaling=strong,batch=256,world_size=128]@torch:cpu": (
        "asks for 128 ranks"
    ),
    "data_parallel_ddp[network=mlp,scaling=strong,batch=255,world_size=2]@torch:cpu": (
        "cannot be shared evenly"
    ),
}


def first_cases(target: Target) -> list[str]:
    """The first of each benchmark's quick sweep that the target's framework has a builder for."""
    return [
        make_cases([(benchmark, Pattern.parse(name))], [target], {}, quick=True)[0].id
        for name, benchmark in CATALOG.benchmarks.items()
        if target.framework in benchmark.builders
    ]


FIRST: Final = {target.framework: first_cases(target) for target in TARGETS}


def of_each_framework(cases: Sequence[str]) -> list[Any]:
    """Parameters that are skipped where their framework is not installed."""
    return [
        pytest.param(case, marks=getattr(pytest.mark, case.partition("@")[2].partition(":")[0]))
        for case in cases
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """As --quick, with visits and probes as short as they can be."""
    folder = tmp_path_factory.mktemp("quick")
    settings = Settings.for_quick(warmup_s=0.01, share_s=0.01, ceiling_s=0.001, step_s=0.01)
    select = (*(case for cases in FIRST.values() for case in cases), *IMPOSSIBLE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder))
        session = prepare(Request(select=select, devices=("cpu",), settings=settings))
        store = Store.open(str(folder / "store.sqlite"))
        try:
            assert carry_out(session, store) == "complete"
            yield store.load(session.info.id)
        finally:
            store.close()


@pytest.fixture(scope="module")
def rows(run: Run) -> dict[str, Result]:
    return {row.case_id: row for row in summarize(run)}


@pytest.mark.parametrize("case", of_each_framework([*FIRST["torch"], *FIRST["tensorflow"]]))
def test_the_case_is_measured_and_right_or_says_why_it_cannot_be(
    rows: dict[str, Result], case: str
) -> None:
    row = rows[case]
    if row.status == "skipped":
        assert row.reason is not None
        assert row.reason.startswith("unsupported: "), row.reason
        return
    assert row.status == "ok", row.reason
    allowed = {"match", "exact", *(["unchecked"] if row.benchmark in UNCHECKED else [])}
    assert row.numerics in allowed, (row.numerics, row.rel_error, row.quality_reasons)
    assert row.samples >= 2
    assert row.median is not None
    assert row.median > 0


@pytest.mark.torch
@pytest.mark.tensorflow
@pytest.mark.parametrize("name", CATALOG.benchmarks)
def test_both_frameworks_have_a_row_of_the_case_and_one_at_least_is_measured(
    rows: dict[str, Result], name: str
) -> None:
    own = [row for row in rows.values() if row.benchmark == name and row.case_id not in IMPOSSIBLE]
    assert len(own) == (1 if name in ONE_FRAMEWORK else 2)
    assert all(row.params == own[0].params for row in own)
    if name in NEVER_ON_A_CPU:
        assert all(NEVER_ON_A_CPU[name] in str(row.reason) for row in own)
    else:
        assert any(row.status == "ok" for row in own), [row.reason for row in own]


@pytest.mark.parametrize("case", of_each_framework(list(IMPOSSIBLE)))
def test_what_cannot_be_is_a_skipped_row_that_says_why(rows: dict[str, Result], case: str) -> None:
    row = rows[case]
    assert row.status == "skipped", row.reason
    assert row.reason is not None
    assert row.reason.startswith("unsupported: ")
    assert IMPOSSIBLE[case] in row.reason


@pytest.mark.torch
@pytest.mark.tensorflow
def test_such_a_run_ends_well(rows: dict[str, Result]) -> None:
    assert exit_code(list(rows.values())) == 0


@pytest.mark.torch
@pytest.mark.tensorflow
def test_the_environment_says_what_was_measured(run: Run) -> None:
    targets = run.info.environment["targets"]
    assert set(targets) == {"torch:cpu", "tensorflow:CPU:0"}
    for target in targets.values():
        assert target["framework_version"]
        assert "site-packages" in target["file"]
        assert 0.3 < target["threads_used"] <= target["threads"] + 0.3
