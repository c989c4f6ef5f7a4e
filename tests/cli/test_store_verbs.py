"""``runs``, ``show``, ``report``, ``export`` and ``import``."""

from __future__ import annotations

import csv
import io
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from devbench.store import Store
from devbench.store.exchange import dump_run
from tests.cli.command import devbench
from tests.helpers import DevBench, environment
from tests.store.example import example_case, example_info, example_measurement, example_run

RUN_ID = example_info().id


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with one run, named by the environment."""
    path = tmp_path / "results.sqlite"
    monkeypatch.setenv("DEVBENCH_STORE", str(path))
    with Store.open(str(path)) as opened:
        opened.import_run(example_run())
    return path


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    path = tmp_path / "run.json"
    path.write_text(dump_run(example_run("20260201-080000-cd34", label="second")))
    return path


def test_runs_without_a_store_is_an_empty_list(tmp_path: Path) -> None:
    missing = tmp_path / "none.sqlite"
    answer = devbench("runs", "--store", missing)
    assert (answer.code, answer.out) == (0, "")
    assert "`devbench run` makes one" in answer.err
    answer = devbench("runs", "--json", "--store", missing)
    assert json.loads(answer.out) == {"schema": "devbench.runs/1", "runs": []}
    assert not missing.exists()


def test_runs_tells_what_each_run_is_and_how_it_went(store: Path) -> None:
    answer = devbench("runs")
    assert answer.code == 0
    header, row = answer.out.splitlines()
    assert header.split()[:2] == ["run", "label"]
    for text in (
        RUN_ID,
        "first",
        "2026-01-31 12:00:00",
        "complete",
        "1 ok, 1 oom",
        "host-1",
        "A CPU",
        "torch 2.13.0",
    ):
        assert text in row


def test_runs_as_json_names_every_figure(store: Path) -> None:
    with Store.open(str(store)) as opened:
        opened.create_run(
            example_info("20260301-000000-0000", label=None, state="running", environment={}),
            example_run().cases,
        )
    rows = json.loads(devbench("runs", "--json").out)["runs"]
    assert {row["id"]: row["cases"] for row in rows} == {
        RUN_ID: {"planned": 2, "ok": 1, "oom": 1},
        "20260301-000000-0000": {"planned": 2},
    }
    assert next(row for row in rows if row["id"] == RUN_ID)["frameworks"] == {"torch": "2.13.0"}
    assert "2 not measured" in devbench("runs").out


def test_a_hostile_label_is_only_text(store: Path, tmp_path: Path) -> None:
    hostile = tmp_path / "hostile.json"
    hostile.write_text(dump_run(example_run("x", label="[red]\x1b[31m\nfake")))
    assert devbench("import", hostile).code == 0
    out = devbench("runs").out
    assert "[red]" in out
    assert "\x1b" not in out


@pytest.mark.parametrize("reference", [RUN_ID, "first", RUN_ID[:9], None])
def test_show_finds_a_run_by_id_label_beginning_or_as_the_latest(
    store: Path, reference: str | None
) -> None:
    answer = devbench("show", "--format", "csv", *([reference] if reference else []))
    assert answer.code == 0
    rows = list(csv.DictReader(io.StringIO(answer.out)))
    assert [row["case_id"] for row in rows] == [case.id for case in example_run().cases]
    assert rows[1]["run_id"] == RUN_ID


def test_the_latest_run_is_one_that_was_asked_for_and_no_calibration_or_side_of_ab(
    store: Path,
) -> None:
    later = "2026-03-01T12:00:00.000+00:00"
    others = {"c": {"kind": "calibration"}, "a-base": {"ab": {"side": "base"}}}
    with Store.open(str(store)) as opened:
        for id_, settings in others.items():
            opened.import_run(example_run(id_, label=id_, started_at=later, settings=settings))
    assert json.loads(devbench("show", "--json").out)["run"]["id"] == RUN_ID
    assert json.loads(devbench("show", "--json", "c").out)["run"]["id"] == "c"
    rows = json.loads(devbench("runs", "--json").out)["runs"]
    assert {row["id"]: row["kind"] for row in rows} == {
        RUN_ID: "run",
        "c": "calibration",
        "a-base": "ab",
    }
    answer = devbench("run", "--resume", "c")
    assert (answer.code, answer.out) == (2, "")
    assert "c was not made by `devbench run` (its kind is calibration)" in answer.err


def test_a_store_of_nothing_but_other_kinds_says_so_by_name(tmp_path: Path) -> None:
    path = str(tmp_path / "others.sqlite")
    with Store.open(path) as opened:
        opened.import_run(example_run("c", settings={"kind": "calibration"}))
    answer = devbench("show", "--store", path)
    assert answer.code == 2
    assert "no run of `devbench run`, only of another kind (calibration); name one" in answer.err


def test_show_prints_the_figures_in_each_format(store: Path) -> None:
    for name in ("text", "markdown", "csv", "json"):
        answer = devbench("show", "--format", name)
        assert (answer.code, answer.err) == (0, "")
        assert "matmul" in answer.out
        assert answer.out.endswith("\n")
    assert devbench("show").out == devbench("show", "--format", "text").out
    assert devbench("show", "--json").out == devbench("show", "--format", "json").out
    data = json.loads(devbench("show", "--json").out)
    assert data["schema"].startswith("devbench.")
    assert [row["median"] for row in data["results"]] == [0.0021, 0.0021]


def test_show_of_a_run_file_needs_no_store(run_file: Path, tmp_path: Path) -> None:
    missing = tmp_path / "none.sqlite"
    answer = devbench("show", run_file, "--json", "--store", missing)
    assert {row["label"] for row in json.loads(answer.out)["results"]} == {"second"}
    assert not missing.exists()


def test_an_imported_run_is_exported_letter_by_letter(store: Path, run_file: Path) -> None:
    answer = devbench("import", run_file)
    assert (answer.code, answer.out) == (0, "20260201-080000-cd34\n")
    assert devbench("import", run_file).code == 0  # again: nothing to do
    assert devbench("export", "second").out == run_file.read_text()
    other = run_file.with_name("other.json")
    assert devbench("export", "20260201-080000-cd34", "-o", other).out == ""
    assert other.read_text() == run_file.read_text()
    assert len(json.loads(devbench("runs", "--json").out)["runs"]) == 2


def test_one_wrong_file_keeps_all_of_them_out(store: Path, run_file: Path) -> None:
    wrong = run_file.with_name("wrong.json")
    wrong.write_text(run_file.read_text()[:-40])
    before = store.read_bytes()
    answer = devbench("import", run_file, wrong)
    assert (answer.code, answer.out) == (2, "")
    assert "wrong.json" in answer.err
    assert store.read_bytes() == before


def test_a_failed_export_keeps_the_file_that_was_there(store: Path, run_file: Path) -> None:
    before = run_file.read_text()
    assert devbench("export", "no-such-run", "-o", run_file).code == 2
    assert run_file.read_text() == before
    assert sorted(path.name for path in run_file.parent.glob(".*")) == []


def test_report_writes_the_page_and_prints_its_path(store: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    answer = devbench("report", "-o", page)
    assert (answer.code, answer.out) == (0, f"{page}\n")
    assert page.read_text().lstrip().lower().startswith("<!doctype html>")


def test_an_unwritable_report_path_is_refused_before_any_work(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devbench.cli.report.load", lambda *_: pytest.fail("work was done"))
    answer = devbench("report", "-o", tmp_path / "none" / "page.html")
    assert answer.code == 2
    assert answer.err.count("\n") == 1
    assert f"there is no folder {tmp_path / 'none'}" in answer.err


def _bad_inputs(folder: Path) -> dict[str, tuple[str, ...]]:
    good = dump_run(example_run())
    (folder / "text.sqlite").write_text("not a database\n" * 20)
    with closing(sqlite3.connect(folder / "other.sqlite")) as connection:
        connection.execute("CREATE TABLE customers (name TEXT)")
        connection.commit()
    Store.open(str(folder / "newer.sqlite")).close()
    with closing(sqlite3.connect(folder / "newer.sqlite")) as connection:
        connection.execute("UPDATE devbench SET value = '3'")
        connection.commit()
    (folder / "cut.json").write_text(good[:500])
    (folder / "foreign.json").write_text('{"benchmarks": []}')
    (folder / "version.json").write_text(good.replace("devbench.run/1", "devbench.run/9"))
    (folder / "negative.json").write_text(good.replace("0.0022", "-0.0022"))
    (folder / "nan.json").write_text(good.replace("0.0022", "NaN"))
    (folder / "status.json").write_text(good.replace('"oom"', '"okay"'))
    (folder / "field.json").write_text(good.replace('"round":1,', ""))
    (folder / "stranger.json").write_text(good.replace('"case_id":"matmul', '"case_id":"conv'))
    (folder / "changed.json").write_text(
        dump_run(replace(example_run(), info=example_info(label="other")))
    )
    return {
        "text.sqlite is not a database": ("runs", "--store", "text.sqlite"),
        "other.sqlite is a database of another": ("show", "--store", "other.sqlite"),
        "made by a newer devbench (schema 3": ("export", "--store", "newer.sqlite"),
        "is a folder": ("runs", "--store", "."),
        "there is no run 'frist'; did you mean 'first'": ("show", "frist"),
        "there is no report format 'jsn'; did you mean 'json'": ("show", "--format", "jsn"),
        "gives no text": ("show", "--format", "table"),
        "two different things": ("show", "--format", "csv", "--json"),
        "there is no export format 'jason'; did you mean 'json'": ("export", "--format", "jason"),
        "there is no file none.json": ("show", "none.json"),
        "cut.json is not a whole JSON file": ("import", "cut.json"),
        "foreign.json is not a run file": ("import", "foreign.json"),
        "version.json has the schema 'devbench.run/9'": ("import", "version.json"),
        "measurements[0].samples[1] is -0.0022; a time must be": ("report", "negative.json"),
        "NaN is not a number": ("import", "nan.json"),
        'measurements[2].status is "okay"': ("import", "status.json"),
        "measurements[2].round is missing": ("import", "field.json"),
        "which is none of the cases": ("import", "stranger.json"),
        f"another version of run '{RUN_ID}'": ("import", "changed.json"),
        "there is no folder": ("export", "-o", "none/run.json"),
        ". is a folder": ("report", "-o", "."),
    }


def test_bad_input_is_one_line_that_names_the_culprit(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for message, arguments in _bad_inputs(tmp_path).items():
        files = {path: path.read_bytes() for path in tmp_path.iterdir()}
        answer = devbench(*arguments)
        assert (answer.code, answer.out) == (2, ""), arguments
        assert answer.err.startswith("devbench: "), arguments
        assert answer.err.count("\n") == 1, arguments
        assert message in answer.err, arguments
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == files, arguments


def _process(*arguments: object) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", "from devbench.cli import main; main()"]
    return subprocess.run(
        [*program, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
    )


def test_the_program_itself_answers_bad_input_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database")
    done = _process("runs", "--store", path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        f"devbench: {path} is not a database; name another with --store or DEVBENCH_STORE"
    ]


def test_the_verbs_load_neither_the_database_nor_tables_before_they_are_called() -> None:
    heavy = {"sqlalchemy", "pandas", "numpy", "scipy", "plotly", "rich.table"}
    program = (
        "import sys; from devbench.cli import list_, report, runs, show, transfer;"
        f"print(sorted({heavy!r} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("cases", [1, 400])
def test_a_reader_that_leaves_is_no_regression(tmp_path: Path, cases: int) -> None:
    planned = tuple(example_case(n) for n in range(1, cases + 1))
    run = replace(example_run(), cases=planned, measurements=())
    timed = replace(run, measurements=tuple(map(example_measurement, planned)))
    (tmp_path / "run.json").write_text(dump_run(timed))
    answer = devbench("show", tmp_path / "run.json", "--json")
    assert (len(answer.out) > 1 << 16) == (cases > 1)
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        DevBench(tmp_path).command(("show", "run.json", "--json")),
        env=environment(tmp_path),
        cwd=tmp_path,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")
