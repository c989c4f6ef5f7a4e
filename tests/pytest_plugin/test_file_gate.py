"""``--devbench-gate FILE``, and the calibration by which a stored file is judged."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from devbench.model import RunInfo
from devbench.pytest_plugin import ordinary
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
