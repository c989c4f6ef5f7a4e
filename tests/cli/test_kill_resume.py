"""A run killed at any moment loses at most the measurement in flight, and --resume completes it."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from tests.helpers import DevBench

RUN = (
    "run",
    "sum",
    "--framework",
    "fake",
    "--param",
    "n=100,200,300,400",
    "--param",
    "dtype=float32",
)
#: Shortens each visit to about a third; the run ends well before.
BUDGET = ("--time-budget", "60")
ROUNDS, CASES = 8, 4


def stored(path: Path) -> dict[tuple[str, int], str]:
    """(case, round) → samples of everything that is committed, as text."""
    if not path.exists():
        return {}
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        [integrity] = database.execute("pragma integrity_check").fetchone()
        assert integrity == "ok"
        try:
            rows = database.execute(
                "select c.case_id, m.round, hex(m.samples) from measurements m "
                "join plans p on p.key = m.plan_key join cases c on c.key = p.case_key"
            ).fetchall()
        except sqlite3.OperationalError as error:  # killed before the tables were made
            if "no such table" not in str(error):
                raise
            return {}
    found = {(case, round_): samples for case, round_, samples in rows}
    assert len(found) == len(rows), "something was measured twice"
    return found


def workers_of(devbench_cli: DevBench) -> list[int]:
    store = str(devbench_cli.home / "results.sqlite")
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("DEVBENCH_STORE") == store and process.status() != "zombie":
                found.append(process.pid)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def test_ten_kills_lose_nothing_that_was_committed_and_resume_completes(
    devbench_cli: DevBench,
) -> None:
    moments = random.Random(20261121)
    path = devbench_cli.home / "results.sqlite"
    words = [*RUN, *BUDGET, "--rounds", str(ROUNDS)]
    before: dict[tuple[str, int], str] = {}
    for _ in range(10):
        child = (
            devbench_cli.start(*words, "--label", "killed") if not before else resume(devbench_cli)
        )
        _wait_for_growth(path, len(before), child)
        time.sleep(moments.uniform(0, 0.6))
        seen = stored(path)
        child.kill()
        child.communicate(timeout=30)
        after = stored(path)
        assert before.items() <= after.items(), "a committed measurement was lost or changed"
        assert seen.items() <= after.items()
        before = after
        if len(after) == ROUNDS * CASES:
            break
    _wait_until_gone(devbench_cli)
    if len(before) < ROUNDS * CASES:
        child = resume(devbench_cli)
        _, err = child.communicate(timeout=120)
        assert child.returncode == 0, err
    final = stored(path)
    assert before.items() <= final.items(), "resume changed what was measured before"
    assert len(final) == ROUNDS * CASES
    if len(before) < ROUNDS * CASES:
        rows = json.loads(devbench_cli("show", "killed", "--json").stdout)
        assert rows["run"]["state"] == "complete"
        assert {row["rounds"] for row in rows["results"]} == {ROUNDS}


def resume(devbench_cli: DevBench) -> subprocess.Popen[str]:
    return devbench_cli.start("run", "--resume", "killed")


def test_a_complete_run_is_not_resumed(devbench_cli: DevBench) -> None:
    words = ["run", "sum[n=100]", "--framework", "fake", "--quick", "--label", "whole"]
    assert devbench_cli(*words).returncode == 0
    done = devbench_cli("run", "--resume", "whole")
    assert done.returncode == 2
    assert "is complete" in done.stderr


def test_resuming_with_another_version_of_the_framework_is_refused(devbench_cli: DevBench) -> None:
    child = devbench_cli.start(*RUN, "--rounds", str(ROUNDS), "--label", "old")
    _wait_for_growth(devbench_cli.home / "results.sqlite", 0, child)
    child.kill()
    child.communicate(timeout=30)
    done = devbench_cli("run", "--resume", "old", env={"FAKE_VERSION": "2.0"})
    assert done.returncode == 2
    assert "fake changed since the run began, from 1.0" in done.stderr


def _wait_for_growth(path: Path, count: int, child: subprocess.Popen[str]) -> None:
    """Until one more measurement is committed, so that each of the ten runs gets somewhere."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if len(stored(path)) > count:
            return
        if child.poll() is not None:
            pytest.fail(f"the run ended by itself: {child.communicate()[1]}")
        time.sleep(0.05)
    pytest.fail("no progress within a minute")


def _wait_until_gone(devbench_cli: DevBench) -> None:
    """The workers of a killed run end by themselves: their input has ended."""
    deadline = time.monotonic() + 15
    while workers := workers_of(devbench_cli):
        assert time.monotonic() < deadline, f"workers {workers} outlived their runner"
        time.sleep(0.1)
