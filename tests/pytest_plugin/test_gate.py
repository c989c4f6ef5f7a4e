"""``--devbench-gate``: the collected benchmarks against another state of the project."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from devbench.pytest_plugin import _make_gate
from devbench.pytest_plugin.pairs import GONE, _on_side
from devbench.regress.variant import Variant
from devbench.store import Store
from tests.helpers import PLUGINS
from tests.pytest_plugin.conftest import FAKE, Run

#: What the sessions leave in the project.
IGNORED = "results.sqlite*\nstate\n__pycache__\n.pytest_cache\nrunpytest-*\n"


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
        import numpy as np
        import pytest
        from devbench import Step
        from steps import spin

        @pytest.mark.parametrize("n", [2, 3])
        def test_gone(device, device_benchmark, n):
            device_benchmark(spin, n)

        def test_left_out(device, device_benchmark):
            device_benchmark(spin, 1)

        @pytest.mark.parametrize("n", [1])
        def test_spin(device, device_benchmark, n, tmp_path):
            assert device_benchmark(spin, n) == n

        @pytest.mark.parametrize("cache", ["cold"])
        @pytest.mark.parametrize("mode", ["train"])
        @pytest.mark.parametrize("dtype", ["fp16"])
        def test_axes(device, device_benchmark, cache, mode, dtype):
            open_ = [1]

            def use():
                assert open_, "the step was closed too early"
                spin(1)

            device_benchmark(Step(run=use, reset=lambda: np.ones(2), close=open_.clear))
            assert open_, "close is the caller's"

        def test_ordinary():
            assert "torch" not in __import__("sys").modules
        """
    pytester.makepyfile(test_bench=benchmarks)
    Path(".gitignore").write_text(IGNORED)
    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message", "base")
    tests = Path("test_bench.py")
    tests.write_text(tests.read_text().replace("test_gone", "test_renamed"))
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
    result = run(*FAKE, "--devbench-gate", "HEAD", "-k", "not left_out and not n3 and not 3")
    assert result.ret == 1
    result.assert_outcomes(passed=1, failed=5, deselected=2)
    result.stdout.fnmatch_lines(
        [
            "devbench: HEAD against the work tree, 5 benchmarks, log *",
            "*devbench gate*",
            "FAILED test_bench.py::test_renamed[[]fake:cpu-2[]] - not-measured; only now*",
            "FAILED test_bench.py::test_spin[[]fake:cpu-1[]] - regressed: *",
            "FAILED test_bench.py::test_axes[[]fake:cpu-fp16-train-cold[]] - regressed: *",
            "FAILED test_more.py::test_new[[]fake:cpu[]] - not-measured; only now*",
            "FAILED test_more.py::test_wrong[[]fake:cpu[]] - not-measured; failed now*",
        ]
    )
    report = result.stdout.str().partition("devbench gate")[2]
    assert "only on the base: it was removed or renamed" in report
    assert "test_gone" in report, "a test that the base has was not missed"
    assert "test_left_out" not in report, "a test that was deselected is taken for a removed one"
    assert git("worktree", "list").count("\n") == 1, "the tree of the base is still there"
    with Store.open(str(pytester.path / "results.sqlite")) as store:
        stored = store.load(store.runs()[0].info.id)
    ids = {case.id for case in stored.cases}
    assert "test_bench.py::test_spin[n=1]@fake:cpu" in ids


@pytest.fixture
def base(pytester: pytest.Pytester) -> Callable[..., None]:
    """Commits these files as the base of a gate."""

    def base(**files: str) -> None:
        pytester.makepyfile(**files)
        Path(".gitignore").write_text(IGNORED)
        git("init", "--quiet")
        git("add", "--all")
        git("commit", "--quiet", "--message", "base")

    return base


def test_a_test_that_ends_pytest_or_reads_standard_input_does_not_keep_the_gate_waiting(
    run: Run, base: Callable[..., None]
) -> None:
    base(
        test_bench="""
        import subprocess
        import sys
        import pytest

        def test_exit(device, device_benchmark):
            pytest.exit("needs X")

        def test_interrupt(device, device_benchmark):
            raise KeyboardInterrupt

        def test_read(device, device_benchmark):
            subprocess.run(["cat"], check=True)
            pytest.fail(f"read {sys.stdin.read()!r}")
        """
    )
    start = time.monotonic()
    result = run(*FAKE, "-s", "--devbench-gate", "HEAD")
    assert time.monotonic() - start < 60
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(
        [
            "*call: Failed: the test ended pytest: needs X",
            "*call: Failed: the test ended pytest: KeyboardInterrupt",
            "*call: *read ''*",
        ]
    )


def test_a_file_or_a_test_that_the_base_lacks_does_not_cost_the_others(
    pytester: pytest.Pytester, run: Run, base: Callable[..., None]
) -> None:
    test = """
        import pytest

        def test_both(device, device_benchmark):
            pytest.skip("it ran")
        """
    base(test_old=test)
    pytester.makepyfile(test_old=test + test.replace("both", "late"), test_new=test)
    words = ("test_new.py", "test_old.py::test_both", "test_old.py::test_late")
    result = run(*FAKE, "--devbench-gate", "HEAD", *words)
    result.assert_outcomes(skipped=1, failed=2)
    result.stdout.fnmatch_lines(
        ["SKIPPED *it ran*", "FAILED test_new.py*", "FAILED test_old.py::test_late*"]
    )
    assert "not found" not in result.stdout.str()


def test_a_device_that_only_the_base_sees_is_a_row_for_each_test_of_it(
    pytester: pytest.Pytester, run: Run
) -> None:
    pytester.makepyfile(
        """
        import pytest

        def test_both(device, device_benchmark):
            pytest.skip("it ran")

        @pytest.mark.devbench(device="cpu")
        def test_cpu(device, device_benchmark):
            pytest.skip("it ran")

        @pytest.mark.devbench(device="dev")
        def test_dev(device, device_benchmark):
            pytest.skip("it ran")

        def test_deselected(device, device_benchmark):
            pytest.skip("it ran")
        """
    )
    base = Path("python-with-two")
    base.write_text(f'#!/bin/sh\nFAKE_DEVICES=1 exec {sys.executable} "$@"\n')
    base.chmod(0o755)
    gate = ("--devbench-gate", str(base), "-k", "not deselected")
    report = run(*FAKE, *gate).stdout.str().partition("devbench gate")[2]
    tests = re.findall(r"::test_\w+|(?<!see )fake:dev:0", report)
    assert tests == ["::test_both", "fake:dev:0", "::test_cpu", "::test_dev", "fake:dev:0"]
    assert "this Python does not see fake:dev:0" in report
    report = run(*FAKE, *gate, "--device", "cpu").stdout.str().partition("devbench gate")[2]
    assert "it ran" in report
    assert "dev:0" not in report


@pytest.mark.usefixtures("run")
def test_a_package_of_the_working_folder_is_there_in_the_workers_of_python_m_pytest(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(own="NAME = 'it'")
    pytester.mkdir("benchmarks")
    Path("benchmarks/test_own.py").write_text(
        textwrap.dedent(
            """
            import own
            import pytest

            def test_own(device, device_benchmark):
                pytest.fail(f"found {own.NAME}")
            """
        )
    )
    # Not by pytester, which puts the working folder on PYTHONPATH; and with all plugins that are installed,
    # of whose modules the workers have imported some.
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-W", "error", *FAKE, f"--devbench-gate={sys.executable}"],
        env={**os.environ, "PYTHONPATH": str(PLUGINS)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "call: Failed: found it" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("options", ["", "--basetemp=shared"])
def test_the_files_of_a_test_are_its_process_s_own_and_none_is_left(
    pytester: pytest.Pytester,
    run: Run,
    base: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    options: str,
) -> None:
    pytester.makeini(f"[pytest]\naddopts = {options}")
    base(
        test_files="""
        import os
        import pytest

        def test_file(device, device_benchmark, tmp_path):
            file = tmp_path / "file"
            file.write_text(str(os.getpid()))
            device_benchmark(int)
            pytest.fail(f"its own: {file.read_text() == str(os.getpid())}")
        """
    )
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("PYTEST_DEBUG_TEMPROOT")  # pytester's, which comes first
    result = run(*FAKE, "--devbench-gate", "HEAD")
    result.stdout.fnmatch_lines(["*call: Failed: its own: True"])
    assert not list(tmp_path.iterdir())


def test_cases_are_told_apart_by_their_params_and_found_without_their_device(
    run: Run, base: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_DEVICES", "1")
    base(
        test_params="""
        import enum
        import numpy as np
        import pytest

        class Mode(str, enum.Enum):
            FAST = "fast"

        @pytest.mark.parametrize("p", [Mode.FAST, np.float64(0.5)])
        def test_subclass(device, device_benchmark, p):
            pytest.skip("no")

        @pytest.mark.parametrize("shape", [(2, 3)])
        def test_shape(device, device_benchmark, shape):
            pytest.skip("no")

        @pytest.mark.devbench(device="dev")
        @pytest.mark.parametrize("shape", [(2, 3)])
        def test_on_dev(device, device_benchmark, shape):
            pytest.skip("no")

        @pytest.mark.parametrize("p", [1, 1.0, True])
        def test_equal(device, device_benchmark, p):
            pytest.fail(f"it is {p!r}")
        """
    )
    result = run(*FAKE, "--devbench-gate", "HEAD")
    result.assert_outcomes(skipped=7, failed=6)
    assert GONE not in result.stdout.str()
    told = re.findall(r"call: Failed: it is (\S+)$", result.stdout.str(), re.MULTILINE)
    assert set(told) == {"1", "1.0", "True"}


def test_tests_that_did_not_fail_last_time_are_not_taken_for_removed_ones(
    run: Run, base: Callable[..., None]
) -> None:
    test = """
        import pytest

        def test_first(device, device_benchmark):
            pytest.skip("no")
        """
    base(test_one=test + test.replace("first", "second"), test_two=test)
    file = Path("test_one.py")
    right = file.read_text()
    file.write_text(right.replace("skip", "fail", 1))
    assert run(*FAKE).ret == 1
    file.write_text(right)
    again = run(*FAKE, "--lf", "--devbench-gate", "HEAD")
    again.assert_outcomes(skipped=1)
    assert again.ret != 4
    assert GONE not in again.stdout.str()


def test_told_to_end_it_leaves_no_folder_and_no_worktree(
    pytester: pytest.Pytester, run: Run, repository: None, tmp_path: Path
) -> None:
    words = ("-p", "devbench.pytest_plugin", "-p", "pytest_benchmark.plugin", *FAKE)
    child = subprocess.Popen(
        [sys.executable, "-m", "pytest", *words, "--devbench-gate", "HEAD", "-k", "left_out"],
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    while "HEAD against the work tree" not in (line := child.stdout.readline()):
        assert line, "it ended before it began"
    assert any(tmp_path.iterdir())
    child.send_signal(signal.SIGTERM)
    child.send_signal(signal.SIGINT)  # as a pipeline that is cancelled goes on
    out, _ = child.communicate(timeout=60)
    assert child.returncode == pytest.ExitCode.INTERRUPTED, out
    assert list(tmp_path.iterdir()) == []
    assert git("worktree", "list").count("\n") == 1


def test_a_folder_that_the_base_has_not_is_said(
    pytester: pytest.Pytester, run: Run, repository: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = Path("added")
    added.mkdir()
    Path("test_more.py").rename(added / "test_more.py")
    monkeypatch.chdir(added)
    result = run(*FAKE, "--devbench-gate", "HEAD", "-k", "new")
    assert result.ret == 2
    result.stdout.fnmatch_lines(
        ["*HEAD has no folder *added; start pytest in one that both sides have*"]
    )


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


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--devbench-gate", "none.json"), "there is no file none.json"),
        (("--devbench-gate", "HEAD", "--devbench-margin", "much"), "'much' is no share"),
        (("--devbench-gate", "HEAD", "--devbench-margin", "0%"), "a margin of 0 % is none"),
        (("--devbench-gate", "HEAD", "--devbench-calibrate", "16"), "for another call"),
        (("--devbench-calibrate", "3"), "fewer than 4 pairs"),
    ],
)
def test_options_that_make_no_sense_end_it_by_name(
    pytester: pytest.Pytester, words: tuple[str, ...], told: str
) -> None:
    with pytest.raises(pytest.exit.Exception, match=told) as caught:
        _make_gate(pytester.parseconfig(*words))
    assert caught.value.returncode == 2


def test_a_worker_gets_the_arguments_of_the_session_with_the_paths_of_its_side() -> None:
    words = ["/repo/tests", "-c", "/repo/ini", "--rootdir=/repo", "/repository"]
    side = Variant("base", Path("python"), top=Path("/repo"), tree=Path("/tree"))
    assert [_on_side(word, side) for word in words] == [
        "/tree/tests",
        "-c",
        "/tree/ini",
        "--rootdir=/tree",
        "/repository",
    ]
