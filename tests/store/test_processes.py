"""The store between processes: readers beside a writer, two writers, a writer that is killed."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from devbench.store import Store
from tests.store.example import example_case, example_info, example_measurement, example_run

ROOT = Path(__file__).parents[2]
#: Adds measurements, or makes a store, and says so after each that was committed.
WRITER = """
import sys
from devbench.store import Store
from tests.store.example import *
location, run_id, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
case = example_case()
with Store.open(location) as store:
    store.create_run(example_info(run_id, state="running", finished_at=None), [case])
    for round_ in range(rounds):
        store.add_measurement(run_id, example_measurement(case, round_, samples=(0.001,) * 2000))
        print(round_, flush=True)
    store.finish_run(run_id, "complete", STARTED)
"""


def _writer(location: str, run_id: str, rounds: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, location, run_id, str(rounds)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_two_programs_that_make_and_fill_one_store_lose_nothing(location: str) -> None:
    writers = [_writer(location, f"run-{i}", 60) for i in range(3)]
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    with Store.open(location) as store:
        for i in range(3):
            run = store.load(f"run-{i}")
            assert [measurement.round for measurement in run.measurements] == list(range(60))
            assert run.info.state == "complete"


def test_a_reader_sees_each_measurement_as_soon_as_it_is_committed(location: str) -> None:
    with _writer(location, "run", 20) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            with Store.open(location, create=False) as store:
                seen = [measurement.round for measurement in store.load("run").measurements]
            assert int(line) in seen
            assert seen == list(range(len(seen)))
    assert writer.returncode == 0


def test_a_reader_does_not_wait_for_a_writer_that_holds_the_store(tmp_path: Path) -> None:
    path = str(tmp_path / "results.sqlite")
    with Store.open(path) as store:
        store.import_run(example_run())
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM measurements")
        with Store.open(path, create=False) as store:  # a wait would end in `database is locked`
            assert store.load(None) == example_run()
        writer.execute("ROLLBACK")


def test_those_who_make_the_same_store_at_the_same_moment_all_get_it(tmp_path: Path) -> None:
    together = threading.Barrier(6)

    def make(path: str, run_id: str) -> None:
        together.wait()
        with Store.open(path) as store:
            store.import_run(example_run(run_id))

    with ThreadPoolExecutor(6) as pool:
        for attempt in range(20):
            path = str(tmp_path / f"{attempt}.sqlite")
            list(pool.map(make, [path] * 6, map(str, range(6))))
            with Store.open(path) as store:
                assert len(store.runs()) == 6


@pytest.mark.parametrize("seed", range(10))
def test_a_writer_that_is_killed_loses_nothing_that_was_committed(
    tmp_path: Path, seed: int
) -> None:
    path = tmp_path / "results.sqlite"
    chance = random.Random(seed)
    stop_at, extra_reads = chance.randrange(0, 60), chance.randrange(0, 400)
    committed = -1
    with _writer(str(path), "run", 1_000_000) as writer:
        assert writer.stdout is not None
        while committed < stop_at:
            committed = int(writer.stdout.readline())
        sum(range(extra_reads * 100))  # so that the kill falls into any part of a commit
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read().split("\n")
    committed = max([committed, *(int(line) for line in rest[:-1])])
    with Store.open(str(path)) as store:
        run = store.load("run")
        rounds = [measurement.round for measurement in run.measurements]
        assert rounds == list(range(len(rounds)))
        assert committed + 1 <= len(rounds) <= committed + 2  # at most the one in flight
        assert run.info.state == "running"
        store.add_measurement("run", example_measurement(example_case(), len(rounds)))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


def test_a_program_that_is_killed_while_it_makes_a_store_hinders_nobody(tmp_path: Path) -> None:
    """Whatever is left of the file, the next one opens it."""
    for seed in range(5):
        path = tmp_path / f"{seed}.sqlite"
        with _writer(str(path), "run", 1) as writer:
            while writer.poll() is None and not path.exists():
                pass
            sum(range(random.Random(seed).randrange(400_000)))
            writer.kill()
        with Store.open(str(path)) as store:
            store.import_run(example_run())
            assert store.load(example_info().id) == example_run()
