"""``history``: its text, its JSON and its page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from devbench.store import Store
from tests.cli.command import devbench
from tests.regress.factory import make_case, make_run, timed
from tests.regress.test_history import commit, fill


@pytest.fixture(autouse=True)
def filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEVBENCH_STORE", str(tmp_path / "results.sqlite"))
    with Store.open() as store:
        fill(store, [1.0] * 12 + [1.1] * 12)


def test_the_text_names_the_run_and_the_commit_where_a_change_began() -> None:
    answer = devbench("history")
    assert (answer.code, answer.err) == (0, "")
    assert "2026-01-13 12:00  run-012, commit 00000000000c after 00000000000b" in answer.out
    assert re.search(r"\+(9\.\d|10\.\d) %  matmul\[n=256,dtype=float32\]@torch:cpu", answer.out)
    assert answer.out.splitlines()[-1] == "1 change in 1 of 2 series"
    assert devbench("history", "matmul[n=512]").out.splitlines()[-1] == "0 changes in 0 of 1 series"


def test_the_json_holds_every_figure() -> None:
    answer = json.loads(devbench("history", "--json").out)
    assert answer["schema"] == "devbench.history/1"
    assert len(answer["runs"]) == 24
    (changed,) = (series for series in answer["series"] if series["changes"])
    assert len(changed["seconds"]) == len(changed["levels"]) == len(changed["runs"]) == 24
    assert changed["changes"][0]["run"]["commit"] == commit(12)


def test_the_page_is_written_and_its_path_printed(tmp_path: Path) -> None:
    answer = devbench("history", "--report", "page.html")
    assert (answer.code, answer.out) == (0, "page.html\n")
    page = (tmp_path / "page.html").read_text()
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert "run-012" in page


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("mlp",), 3, "holds no timed case that 'mlp' means"),
        (("[",), 2, "cannot read the selection '['"),
        (("--json", "--report", "x.html"), 2, "two different things"),
        (("--report", "none/x.html"), 2, "there is no folder"),
        (("--store", "empty.sqlite"), 3, "holds no timed case at all"),
    ],
)
def test_bad_input_is_one_line_that_names_the_culprit(
    tmp_path: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    answer = devbench("history", *words)
    assert (answer.code, answer.out) == (code, "")
    assert answer.err.count("\n") == 1
    assert message in answer.err
    assert not list(tmp_path.glob("*.html"))


def test_a_hostile_label_is_only_text_on_the_page(tmp_path: Path) -> None:
    hostile = "</script><img src=x onerror=alert(1)>"
    case = make_case()
    with Store.open() as store:
        for place in range(8):
            store.import_run(
                make_run(
                    f"zz-{place}",
                    {case: timed(case, [3.0])},
                    label=hostile,
                    started_at=f"2026-03-0{place + 1}T12:00:00.000+00:00",
                )
            )
    assert devbench("history", "--report", "page.html").code == 0
    page = (tmp_path / "page.html").read_text()
    assert "onerror=alert(1)" in page
    assert "<img" not in page
