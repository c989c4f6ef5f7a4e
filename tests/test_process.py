"""Where the chatter of workers goes, and what is made of it."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pytest

from devbench.process import KEPT_S, WorkerProcess, log_path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That of the logs."""
    monkeypatch.setattr("platformdirs.user_log_path", lambda name: tmp_path / name / "log")
    return tmp_path / "devbench" / "log"


def test_logs_that_are_no_longer_written_are_removed(folder: Path) -> None:
    assert log_path("first") == folder / "first.log"
    for name, age in (("old", KEPT_S + 60), ("young", KEPT_S - 60)):
        log = log_path(name)
        log.touch()
        os.utime(log, (time.time() - age,) * 2)
    (folder / "notes.txt").touch()
    log_path("new")
    assert sorted(path.name for path in folder.iterdir()) == ["notes.txt", "young.log"]


def test_without_a_folder_for_logs_they_are_temporary_files(folder: Path) -> None:
    folder.parent.touch()
    assert log_path("x") == Path(tempfile.gettempdir(), "devbench-x.log")


def test_last_words_are_those_of_this_worker_however_long_the_log(tmp_path: Path) -> None:
    worker = object.__new__(WorkerProcess)
    worker._log = tmp_path / "a.log"
    worker._log.write_text("another's\n")
    worker._log_start = worker._log.stat().st_size
    assert worker._last_words() == ""
    with worker._log.open("a") as log:
        log.write("mine\n")
    assert worker._last_words() == "; last words: mine"
    with worker._log.open("a") as log:
        log.write("chatter\n" * 10_000 + "the last\n")
    assert worker._last_words() == "; last words: the last"
