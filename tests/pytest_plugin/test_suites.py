"""``pytest suites``: the declared suites as benchmarks of pytest (`make bench-ci`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pytest_plugin.conftest import Run

FILE = Path(__file__).parents[2] / "suites" / "test_suites.py"


def test_each_case_of_the_short_sweeps_is_a_benchmark_on_each_device(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_DEVICES", "1")
    result = run(str(FILE), "--devbench-framework", "fake", "-k", "sum", "--benchmark-only")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["PASSED *test_suite[[]sum[[]n=100,dtype=float32[]]-fake:dev:0[]]"])


def test_the_framework_must_be_named(run: Run) -> None:
    result = run(str(FILE))
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*say which framework: pytest suites --devbench-framework torch*"])


def test_a_plain_pytest_does_not_collect_it(pytestconfig: pytest.Config) -> None:
    paths = pytestconfig.getini("testpaths")
    assert paths
    assert not any(FILE.is_relative_to(pytestconfig.rootpath / path) for path in paths)
