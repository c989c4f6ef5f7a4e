"""``--devbench-gate FILE``, and the calibration by which a stored file is judged."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from devbench.model import RunInfo
from devbench.pytest_plugin import ordinary
from devbench.pytest_plugin.pairs import GONE
from devbench.regress.margins import environment_of, of_run
from devbench.regress.sides import Side, read_side
from devbench.store import Store
from tests.pytest_plugin.conftest import SHORT, Run


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

        def test_left_out(device, device_benchmark):
            device_benchmark(Step(run=int, clock=lambda: 0.02))

        def test_plain(benchmark):
            benchmark(int)
        """,
        test_other="""
        from devbench import Step

        def test_elsewhere(device, device_benchmark):
            device_benchmark(Step(run=int, clock=lambda: 0.02))
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

    Path("test_other.py").unlink()
    same = run(*gate, "--devbench-margin", "calibrated", "-k", "short and not 2")
    assert same.ret == 0, "-k may not have meant a test that is no longer there"
    same.stdout.fnmatch_lines(["*as wide as a calibration of this machine says*", "1 equivalent"])
    unknown = run(*gate, "-k", "short")
    assert unknown.ret == 4
    unknown.stdout.fnmatch_lines(["*--devbench-calibrate 16*", "1 equivalent, 1 inconclusive"])

    Path("steps.py").write_text("SHORT = 0.0015")
    tests = Path("test_clocks.py")
    tests.write_text(tests.read_text().replace("test_long", "test_renamed"))
    slower = run(
        *gate, "--deselect", "test_clocks.py::test_left_out", "test_clocks.py", "--device", "cpu"
    )
    assert slower.ret == 1
    report = slower.stdout.str().partition("devbench gate")[2]
    assert "1 regressed, 1 inconclusive, 2 not-measured" in report
    assert "only on the base: it was removed or renamed" in report
    assert not [name for name in ("test_left_out", "test_elsewhere") if name in report]


def test_all_that_can_be_calibrated_being_so_other_benchmarks_do_not_keep_it_from_green(
    pytester: pytest.Pytester, run: Run, clocks: None
) -> None:
    assert run(*SHORT, "--benchmark-json", "base.json").ret == 0
    base = read_side("base.json", None)
    plant_calibration(base, *(name for name in base.cases if "plain" not in name))
    gate = (*SHORT, "--devbench-gate", "base.json", "--devbench-margin", "calibrated")
    result = run(*gate)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["5 equivalent", "1 test is left out: without device_benchmark*"])


def test_a_file_without_a_test_that_can_be_judged_is_said_before_anything_is_measured(
    pytester: pytest.Pytester, run: Run, clocks: None
) -> None:
    assert run(*SHORT, "-k", "plain", "--benchmark-json", "base.json").ret == 0
    result = run(*SHORT, "--devbench-gate", "base.json")
    assert result.ret == 3
    told = result.stdout.str() + result.stderr.str()
    assert "base.json holds no test that takes device_benchmark" in told


def test_a_calibration_of_tests_is_stored_under_the_names_that_files_give_them(
    pytester: pytest.Pytester, run: Run, clocks: None
) -> None:
    Path("steps.py").write_text(
        "import os\nSHORT = 0.001 if 'MALLOC_MMAP_THRESHOLD_' in os.environ else 0.002"
    )
    result = run(*SHORT, "--devbench-calibrate", "4", "-k", "short and not 2")
    assert result.ret == 0
    result.assert_outcomes(passed=1, deselected=5)
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


def test_of_a_file_the_rows_of_devices_that_were_not_named_are_not_missed(
    pytester: pytest.Pytester, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_DEVICES", "1")
    pytester.makepyfile(
        test_shape="""
        import pytest
        from devbench import Step

        @pytest.mark.parametrize("shape", [(2, 3)])
        def test_it(device, device_benchmark, shape):
            device_benchmark(Step(run=int, clock=lambda: 0.001))
        """
    )
    assert run(*SHORT, "--benchmark-json", "base.json").ret == 0
    plant_calibration(read_side("base.json", None), "test_shape.py::test_it[fake:cpu-shape0]")
    result = run(*SHORT, "--device", "cpu", "--devbench-gate", "base.json")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*1 equivalent*"])

    monkeypatch.setenv("FAKE_DEVICES", "0")
    pytester.makeconftest(
        """
        from devbench.pytest_plugin.holding import Holding

        Holding._unseen = lambda self: [("Fake 0", "fake sees no device")]
        """
    )
    lost = run(*SHORT, "--devbench-gate", "base.json", "-k", "it")
    lost.assert_outcomes(passed=1, skipped=1)
    assert lost.ret == 4, "a device that is no longer seen excuses its own rows"
    lost.stdout.fnmatch_lines(["*fake:dev:0-shape0*not-measured*", "1 equivalent, 1 not-measured"])
    assert GONE not in lost.stdout.str(), "it is there, on another device"
