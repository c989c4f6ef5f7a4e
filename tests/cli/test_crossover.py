"""``devbench run --crossover``: sizes are added where one target overtakes another, and survive a kill."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import DevBench

#: Where the fake suite's race is even.
EVEN = (1.78e-3 / 1e-7) ** 0.5
RACE = ("run", "race", "--framework", "fake", "--quick", "--threads", "1,2", "--rounds", "2")


def answer(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    return found


def test_the_crossover_of_two_thread_counts_is_bisected(devbench_cli: DevBench) -> None:
    done = devbench_cli(*RACE, "--crossover", "--json", "--report", "page.html")
    assert done.returncode == 0, done.stderr
    told = answer(done.stdout)
    (crossover,) = told["crossovers"]
    assert (crossover["base"], crossover["subject"]) == (
        "fake:cpu;threads=1",
        "fake:cpu;threads=2",
    )
    crossing = crossover["without_transfer"]
    assert crossing["status"] == "crosses"
    assert crossing["ahead"] == "fake:cpu;threads=2"
    assert crossing["low"] <= EVEN <= crossing["high"]
    assert crossing["size"] == pytest.approx(EVEN, rel=0.2)
    low, high = crossing["between"]
    assert high / low <= 1.1, "it was not bisected"
    assert crossover["moving"] == "shared"
    assert crossover["with_transfer"] == crossing
    added = {row["params"]["n"] for row in told["results"]} - {104, 152}
    assert added
    assert all(n % 8 == 0 for n in added)
    for row in told["results"]:
        assert row["rounds"] == 2
        assert row["numerics"] == "match"
    assert "crossover: measuring race[n=128]" in done.stderr
    assert told["run"]["settings"]["crossover"] is True
    assert told["run"]["state"] == "complete"
    # the stored run, its export and its page hold the added sizes too
    shown = answer(devbench_cli("show", "--json").stdout)
    assert shown["crossovers"] == told["crossovers"]
    exported = devbench_cli("export", "-o", "run.json")
    assert exported.returncode == 0, exported.stderr
    assert (
        answer(devbench_cli("show", "run.json", "--json").stdout)["crossovers"]
        == (told["crossovers"])
    )
    for one in json.loads((devbench_cli.home / "run.json").read_text("utf-8"))["measurements"]:
        n = int(one["case_id"].split("n=")[1].split("]")[0])
        assert one["input_bytes"] == 4 * n, "inputs are counted in the case's dtype"
        assert one.get("output_bytes") == (4 * n if one["round"] == 0 else None)
    assert "Crossover: who overtakes whom" in (devbench_cli.home / "page.html").read_text("utf-8")


def test_a_run_killed_while_bisecting_is_completed_by_resume(devbench_cli: DevBench) -> None:
    path = devbench_cli.home / "results.sqlite"
    child = devbench_cli.start(*RACE, "--crossover", "--label", "killed")
    deadline = time.monotonic() + 90
    while not measured(path, "race[n=128]"):
        assert child.poll() is None, child.communicate()[1]
        assert time.monotonic() < deadline, "no size was added within 90 s"
        time.sleep(0.02)
    child.kill()
    child.communicate(timeout=30)
    before = measured(path, "race[")
    assert len(before) < 2 * 2 * 3 + 2, "it was killed too late to show anything"
    done = devbench_cli("run", "--resume", "killed", "--json")
    assert done.returncode == 0, done.stderr
    assert before.items() <= measured(path, "race[").items(), "something was lost or measured again"
    told = answer(done.stdout)
    assert told["run"]["state"] == "complete"
    assert {row["rounds"] for row in told["results"]} == {2}
    crossing = told["crossovers"][0]["without_transfer"]
    assert crossing["low"] <= EVEN <= crossing["high"]
    assert len({row["params"]["n"] for row in told["results"]}) >= 4


@pytest.mark.parametrize(
    "words",
    [("--threads", "1"), ("--threads", "1,2", "--param", "n=104")],
    ids=["one target", "one size"],
)
def test_a_crossover_with_nothing_to_compare_is_refused_before_anything_is_measured(
    devbench_cli: DevBench, words: tuple[str, ...]
) -> None:
    done = devbench_cli("run", "race", "--framework", "fake", *words, "--crossover")
    assert done.returncode == 2
    assert "--crossover compares two devices, or two thread counts" in done.stderr


def measured(path: Path, case: str) -> dict[tuple[str, int], str]:
    """(case, round) → samples as text, of what is committed of the cases whose id begins so."""
    if not path.exists():
        return {}
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        try:
            rows = database.execute(
                "select c.case_id, m.round, hex(m.samples) from measurements m "
                "join plans p on p.key = m.plan_key join cases c on c.key = p.case_key"
            ).fetchall()
        except sqlite3.OperationalError as error:  # not made yet
            if "no such table" not in str(error):
                raise
            return {}
    return {(id_, round_): samples for id_, round_, samples in rows if id_.startswith(case)}
