"""``--devbench-gate``: the collected benchmarks against another state of the project."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from devbench.pytest_plugin.pairs import _handed_on, _on_side
from devbench.regress.variant import Variant
from devbench.store import Store
from tests.pytest_plugin.conftest import Run

FAKE = ("--devbench-framework", "fake")


def git(*words: str) -> str:
    identity = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
    done = subprocess.run(["git", *identity, *words], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture
def repository(pytester: pytest.Pytester) -> None:
    """A project whose last commit is the base, and whose files take three times as long."""
    pytester.makepyfile(
        steps="""
        import time

        FACTOR = 1

        def spin(n):
            end = time.perf_counter() + n * FACTOR * 1e-4
            while time.perf_counter() < end:
                pass
            return n
        """
    )
    benchmarks = """
        import pytest
        from steps import spin

        @pytest.mark.parametrize("n", [1])
        def test_spin(device, device_benchmark, n, tmp_path):
            assert device_benchmark(spin, n) == n

        def test_ordinary():
            assert "torch" not in __import__("sys").modules
        """
    pytester.makepyfile(test_bench=benchmarks)
    Path(".gitignore").write_text(
        "results.sqlite*\nstate\n__pycache__\n.pytest_cache\nrunpytest-*\n"
    )
    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message", "base")
    steps = Path("steps.py")
    steps.write_text(steps.read_text().replace("FACTOR = 1", "FACTOR = 3"))
    pytester.makepyfile(
        test_more="""
        from steps import spin

        def test_new(device, device_benchmark):
            device_benchmark(spin, 1)

        def test_wrong(device, device_benchmark):
            assert device_benchmark(spin, 1) == 2
        """
    )


def test_against_a_git_ref_the_slower_step_is_found_and_the_rest_is_said_by_name(
    pytester: pytest.Pytester, run: Run, repository: None
) -> None:
    result = run(*FAKE, "--devbench-gate", "HEAD")
    assert result.ret == 1
    result.assert_outcomes(passed=1, failed=3)
    result.stdout.fnmatch_lines(
        [
            "devbench: HEAD against the work tree, 3 benchmarks, log *",
            "*devbench gate*",
            "FAILED test_bench.py::test_spin[[]fake:cpu-1[]] - regressed: *",
            "FAILED test_more.py::test_new[[]fake:cpu[]] - not-measured; only now*",
            "FAILED test_more.py::test_wrong[[]fake:cpu[]] - not-measured; failed now*",
        ]
    )
    assert git("worktree", "list").count("\n") == 1, "the tree of the base is still there"
    with Store.open(str(pytester.path / "results.sqlite")) as store:
        stored = store.load(None)
    ids = {case.id for case in stored.cases}
    assert "test_bench.py::test_spin[n=1]@fake:cpu" in ids


def test_a_base_that_is_none_ends_it_before_anything_is_measured(
    pytester: pytest.Pytester, run: Run, repository: None
) -> None:
    result = run(*FAKE, "--devbench-gate", "no-such-branch")
    assert result.ret == 2
    result.stdout.fnmatch_lines(["*'no-such-branch' is neither a Python interpreter nor a commit*"])


def test_no_benchmark_is_no_pass(pytester: pytest.Pytester, run: Run, repository: None) -> None:
    result = run(*FAKE, "--devbench-gate", "HEAD", "-k", "ordinary")
    result.assert_outcomes(passed=1)
    assert result.ret == 3
    result.stdout.fnmatch_lines(["*nothing measured is no pass*"])


def test_against_a_file_nothing_can_be_decided(pytester: pytest.Pytester, run: Run) -> None:
    pytester.makepyfile("def test_int(device, device_benchmark):\n    device_benchmark(int)\n")
    short = (*FAKE, "--benchmark-max-time", "0.01")
    assert run(*short, "--benchmark-json", "base.json").ret == 0
    result = run(*short, "--devbench-gate", "base.json")
    assert result.ret == 4
    result.stdout.fnmatch_lines(["*1 inconclusive*", "*Give --devbench-gate a git ref*"])
    missing = run(*short, "--devbench-gate", "none.json")
    assert missing.ret == 2
    missing.stderr.fnmatch_lines(["*there is no file none.json*"])


def test_a_worker_gets_the_arguments_of_the_session_with_the_paths_of_its_side() -> None:
    words = ["/repo/tests", "--basetemp", "/x", "-c", "/repo/ini", "--basetemp=/x", "/repository"]
    side = Variant("base", Path("python"), top=Path("/repo"), tree=Path("/tree"))
    assert [_on_side(word, side) for word in _handed_on(words)] == [
        "/tree/tests",
        "-c",
        "/tree/ini",
        "/repository",
    ]
