"""``compare``: its formats, its exit codes, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from devbench.store import Store
from tests.cli.command import devbench
from tests.regress.factory import QUIET, make_case, make_run, timed
from tests.regress.test_sides import pytest_json

CASE, OTHER = make_case(), make_case(512)


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store, named by the environment, with a base and what may come after it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEVBENCH_STORE", str(tmp_path / "results.sqlite"))
    with Store.open() as opened:
        opened.import_run(make_run("nothing", {CASE: []}, label="nothing"))
        for place, (label, factor, rounds) in enumerate(
            (("base", 1.0, 5), ("single", 1.0, 1), ("same", 1.001, 5), ("slow", 1.2, 5))
        ):
            times = [factor * seconds for seconds in QUIET[:rounds]]
            started = f"2026-02-0{place + 1}T12:00:00.000+00:00"
            opened.import_run(
                make_run(
                    f"run-{place}",
                    {CASE: timed(CASE, times), OTHER: timed(OTHER, QUIET[:rounds])},
                    label=label,
                    started_at=started,
                )
            )
        opened.import_run(
            make_run(
                "gpu", {CASE: timed(CASE, QUIET)}, label="gpu", target_facts={"device_name": "B"}
            )
        )


@pytest.mark.parametrize(
    ("words", "code", "last"),
    [
        (("base", "same"), 0, "2 equivalent"),
        (("base", "slow"), 1, "1 regressed, 1 equivalent"),
        (("base",), 1, "1 regressed, 1 equivalent"),  # the latest run
        (("slow", "base"), 0, "1 improved, 1 equivalent"),
        (("base", "slow", "--margin", "30%"), 0, "2 equivalent"),
        (("base", "slow", "--margin", "0.3"), 0, "2 equivalent"),
        (("base", "single"), 4, "2 inconclusive"),
        (("base", "single", "--allow-inconclusive"), 0, "2 inconclusive"),
        (("gpu", "base"), 3, "2 not-measured"),
        (("gpu", "base", "--allow-inconclusive"), 3, "2 not-measured"),
    ],
)
def test_each_outcome_has_its_exit_code(words: tuple[str, ...], code: int, last: str) -> None:
    answer = devbench("compare", *words)
    assert (answer.code, answer.err) == (code, "")
    assert answer.out.splitlines()[-1] == last


def test_every_format_tells_the_same() -> None:
    text = devbench("compare", "base", "slow")
    assert text.out == devbench("compare", "base", "slow", "--format", "text").out
    data = devbench("compare", "base", "slow", "--json")
    assert data.out == devbench("compare", "base", "slow", "--format", "json").out
    answer = json.loads(data.out)
    assert (answer["schema"], answer["exit_code"]) == ("devbench.compare/1", 1)
    assert answer["counts"] == {"regressed": 1, "equivalent": 1}
    (slow,) = (row for row in answer["results"] if row["verdict"] == "regressed")
    assert slow["case_id"] == CASE.id
    assert slow["low"] < slow["ratio"] < slow["high"]
    assert slow["ratio"] == pytest.approx(1.2)
    markdown = devbench("compare", "base", "slow", "--format", "markdown")
    assert markdown.out.startswith("## Something got slower")
    root = ElementTree.fromstring(devbench("compare", "base", "slow", "--format", "junit").out)
    assert [test.get("name") for test in root.iter("testcase") if len(test.findall("failure"))] == [
        CASE.id
    ]
    assert {answer.code for answer in (text, data, markdown)} == {1}


def test_files_of_pytest_benchmark_are_compared(tmp_path: Path) -> None:
    for name, median in (("old.json", 0.002), ("new.json", 0.004)):
        (tmp_path / name).write_text(json.dumps(pytest_json(median)))
    answer = devbench("compare", "old.json", "new.json")
    assert answer.code == 4
    assert "one process a side" in answer.out
    told = " ".join(answer.out.split())
    assert "compare folders" in told, "no calibration takes a plain test"


@pytest.fixture
def calibrated() -> None:
    """A calibration of both cases: rounds of the one spread by 0.5 %, of the other by 2 %."""
    found = {}
    for case, spread in ((CASE, 0.005), (OTHER, 0.02)):
        logs = [spread * step for step in (-1, 0, 1, -1, 0, 1, -1, 1)]
        found[case.id] = {"pairs": logs, "rounds": logs}
    with Store.open() as opened:
        visits = {CASE: timed(CASE, QUIET), OTHER: timed(OTHER, QUIET)}
        opened.import_run(
            make_run(
                "calibration",
                visits,
                settings={"kind": "calibration"},
                environment={"calibration": found},
                started_at="2026-01-01T12:00:00.000+00:00",
            )
        )


def test_a_calibrated_margin_is_shown_for_each_case_in_every_format(calibrated: None) -> None:
    words = ("compare", "base", "slow", "--margin", "calibrated")
    answer = devbench(*words, "--json")
    assert (answer.code, answer.err) == (1, "")
    margins = {row["case_id"]: row["margin"] for row in json.loads(answer.out)["results"]}
    assert 0.02 < margins[CASE.id] < 0.3
    assert margins[OTHER.id] > 3 * margins[CASE.id]
    shown = [f"±{100 * margins[case.id]:.3g} %" for case in (CASE, OTHER)]
    for format_ in ("text", "markdown", "junit"):
        said = devbench(*words, "--format", format_).out
        assert [text in said for text in shown] == [True, True], format_


def test_what_was_not_calibrated_on_this_machine_is_refused_by_name(calibrated: None) -> None:
    with Store.open() as opened:
        opened.import_run(
            make_run(
                "again",
                {CASE: timed(CASE, QUIET)},
                label="gpu-again",
                target_facts={"device_name": "B"},
            )
        )
    answer = devbench("compare", "gpu", "gpu-again", "--margin", "calibrated")
    assert (answer.code, answer.out) == (2, "")
    assert f"no calibration by this machine of {CASE.id}; `devbench calibrate`" in answer.err


def test_bad_input_is_one_line_that_names_the_culprit(tmp_path: Path) -> None:
    (tmp_path / "foreign.json").write_text('{"data": []}')
    (tmp_path / "old.json").write_text(json.dumps(pytest_json(version="1.0")))
    (tmp_path / "nan.json").write_text(json.dumps(pytest_json(float("nan"))))
    for words, code, message in (
        (("singel", "slow"), 2, "there is no run 'singel'; did you mean 'single'"),
        (("none.json", "slow"), 2, "there is no file none.json"),
        (("foreign.json", "slow"), 2, "foreign.json is not a run file"),
        (("old.json", "slow"), 2, "old.json was written by pytest-benchmark 1.0"),
        (("nan.json", "slow"), 2, "is nan; a time must be a positive number"),
        (("base", "base"), 2, "base and base are the same"),
        (("base", "nothing"), 3, "nothing holds no measurement"),
        (("base", "slow", "--margin", "much"), 2, "--margin 'much' is no share"),
        (("base", "slow", "--margin", "5"), 2, "do you mean 5%?"),
        (("base", "slow", "--margin", "-1%"), 2, "a margin of -1 % is none"),
        (("base", "slow", "--margin", "nan"), 2, "a margin of nan % is none"),
        (
            ("base", "slow", "--format", "jnuit"),
            2,
            "there is no report format 'jnuit'; did you mean",
        ),
        (("base", "slow", "--format", "text", "--json"), 2, "two different things"),
    ):
        answer = devbench("compare", *words)
        assert (answer.code, answer.out) == (code, ""), words
        assert answer.err.startswith("devbench: "), words
        assert answer.err.count("\n") == 1, words
        assert message in answer.err, words


def test_the_verbs_load_nothing_heavy_before_they_are_called() -> None:
    heavy = {"sqlalchemy", "pandas", "numpy", "scipy", "plotly", "rich.table"}
    program = (
        "import sys; from devbench.cli import compare, history;"
        f"print(sorted({heavy!r} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
