"""``--devbench-gate``: the collected benchmarks against another state of the project."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from devbench.model import RunInfo
from devbench.pytest_plugin import _make_gate, ordinary
from devbench.pytest_plugin.pairs import _handed_on, _on_side
from devbench.regress.margins import environment_of, of_run
from devbench.regress.sides import Side, read_side
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

        @pytest.mark.parametrize("n", [2, 3])
        def test_gone(device, device_benchmark, n):
            device_benchmark(spin, n)

        def test_left_out(device, device_benchmark):
            device_benchmark(spin, 1)

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
    result.assert_outcomes(passed=1, failed=4, deselected=2)
    result.stdout.fnmatch_lines(
        [
            "devbench: HEAD against the work tree, 4 benchmarks, log *",
            "*devbench gate*",
            "FAILED test_bench.py::test_renamed[[]fake:cpu-2[]] - not-measured; only now*",
            "FAILED test_bench.py::test_spin[[]fake:cpu-1[]] - regressed: *",
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


#: Steps that tell their own time take none: few rounds of them are enough.
SHORT = (*FAKE, "--benchmark-max-time", "1e-5", "--benchmark-min-rounds", "5")


@pytest.fixture
def clocks(pytester: pytest.Pytester) -> None:
    """A project whose benchmarks are told how long they take."""
    pytester.makepyfile(
        steps="SHORT = 0.001",
        test_clocks="""
        import pytest
        import steps
        from devbench import Step

        @pytest.mark.parametrize("n", [1, 2])
        def test_short(device, device_benchmark, n):
            device_benchmark(Step(run=int, clock=lambda: n * steps.SHORT))

        def test_long(device, device_benchmark):
            device_benchmark(Step(run=int, clock=lambda: 0.05))

        def test_plain(benchmark):
            benchmark(int)
        """,
        test_other="""
        def test_elsewhere(benchmark):
            benchmark(int)
        """,
    )


def plant_calibration(base: Side, *names: str) -> None:
    """What a calibration of this machine would say of these tests, had rounds spread by 0.2 %."""
    logs = [0.002 * step for step in (-1, 0, 1, -1, 0, 1, -1, 1)]
    known = {base.cases[name].calibrated_as: {"pairs": logs, "rounds": logs} for name in names}
    with Store.open("results.sqlite") as store:
        store.create_run(
            RunInfo(
                id="calibration",
                label=None,
                started_at="2026-01-31T12:00:00.000+00:00",
                finished_at=None,
                state="complete",
                devbench_version="1",
                settings={"kind": "calibration"},
                environment={**environment_of(base), "calibration": known},
            ),
            [],
        )


def test_against_a_file_a_calibration_decides_and_what_is_gone_is_named(
    pytester: pytest.Pytester, run: Run, clocks: None
) -> None:
    assert run(*SHORT, "--benchmark-json", "base.json").ret == 0
    plant_calibration(read_side("base.json", None), "test_clocks.py::test_short[fake:cpu-1]")
    gate = (*SHORT, "--devbench-gate", "base.json")

    same = run(*gate, "--devbench-margin", "calibrated", "-k", "short and not 2")
    assert same.ret == 0
    same.stdout.fnmatch_lines(["*as wide as a calibration of this machine says*", "1 equivalent"])
    unknown = run(*gate, "-k", "short")
    assert unknown.ret == 4
    unknown.stdout.fnmatch_lines(["*--devbench-calibrate 16*", "1 equivalent, 1 inconclusive"])

    Path("steps.py").write_text("SHORT = 0.0015")
    tests = Path("test_clocks.py")
    tests.write_text(tests.read_text().replace("test_plain", "test_renamed"))
    slower = run(
        *gate, "--deselect", "test_clocks.py::test_long", "test_clocks.py", "--device", "cpu"
    )
    assert slower.ret == 1
    report = slower.stdout.str().partition("devbench gate")[2]
    assert "1 regressed, 1 inconclusive, 2 not-measured" in report
    assert "only on the base: it was removed or renamed" in report
    assert not [name for name in ("test_long", "test_elsewhere") if name in report]


def test_a_calibration_of_tests_is_stored_under_the_names_that_files_give_them(
    pytester: pytest.Pytester, run: Run, clocks: None
) -> None:
    Path("steps.py").write_text(
        "import os\nSHORT = 0.001 if 'MALLOC_MMAP_THRESHOLD_' in os.environ else 0.002"
    )
    result = run(*SHORT, "--devbench-calibrate", "4", "-k", "short and not 2")
    assert result.ret == 0
    result.assert_outcomes(passed=1, deselected=4)
    result.stdout.fnmatch_lines(
        [
            "*devbench calibration*",
            "test_clocks.py::test_short[[]n=1[]]@fake:cpu: pairs spread by *; sessions by *",
            "stored as *",
        ]
    )
    with Store.open("results.sqlite") as store:
        stored = store.load(store.runs()[0].info.id)
    (one,) = of_run(stored.info).values()
    assert one.case_id == "test_clocks.py::test_short[n=1]@fake:cpu"
    assert one.rounds == pytest.approx([math.log(0.002)] * 4), "not those of an ordinary session"
    assert len(one.pairs) == len(one.in_yardsticks) == 4
    assert str(one.untried).startswith("base: skipped"), "a step with a clock is not repeated"


def test_where_warnings_are_errors_a_worker_whose_pytest_finds_the_plugin_itself_can_start(
    pytester: pytest.Pytester,
) -> None:
    code = "import pytest, devbench; pytest.main(['-W', 'error', '--collect-only', '.'])"
    done = pytester.run(sys.executable, "-P", "-c", code)
    done.stdout.fnmatch_lines(["plugins: *devbench*", "*no tests collected*"])


def test_a_session_for_a_round_calibrates_nothing_and_leaves_its_file_alone_behind(
    pytester: pytest.Pytester, run: Run, clocks: None, tmp_path: Path
) -> None:
    Path("pytest.ini").write_text(
        "[pytest]\naddopts = -p devbench.pytest_plugin -p pytest_benchmark.plugin --lf --basetemp=tmp"
        " --devbench-calibrate=4 --benchmark-autosave --junitxml=report.xml\nfilterwarnings = error"
    )
    file, log = tmp_path / "round.json", tmp_path / "log"
    words = [*SHORT, "-k", "short", "--", "test_clocks.py"]
    assert ordinary.take(words, Path.cwd(), file, log) is None, log.read_text()
    read = read_side(str(file), None)
    assert list(read.cases) == [f"test_clocks.py::test_short[fake:cpu-{n}]" for n in (1, 2)]
    assert not Path(".pytest_cache").exists()
    assert not Path("report.xml").exists()
    assert not list(Path(".benchmarks").rglob("*.json"))

    gone = ordinary.take(["no_such_file.py"], Path.cwd(), tmp_path / "none.json", log)
    assert str(gone).endswith("no benchmarks have been run!")


def test_a_worker_gets_the_arguments_of_the_session_with_the_paths_of_its_side() -> None:
    words = ["/repo/tests", "--basetemp", "/x", "-c", "/repo/ini", "--basetemp=/x", "/repository"]
    side = Variant("base", Path("python"), top=Path("/repo"), tree=Path("/tree"))
    assert [_on_side(word, side) for word in _handed_on(words)] == [
        "/tree/tests",
        "-c",
        "/tree/ini",
        "/repository",
    ]
