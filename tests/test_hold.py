"""A case that a worker keeps, so that two workers can be timed in turn."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from devbench.model import Target
from devbench.process import WorkerProcess
from devbench.worker import _files_below
from tests.helpers import PLUGINS, environment

LIMITS = {"warmup_s": 0.05, "share_s": 0.05, "precision": 0.01, "min_samples": 5, "step_s": 5.0}


class Worker:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process = WorkerProcess(environment(folder), folder / "log")
        self._process.send("start", target=Target("fake", ("cpu",)).to_json(), threads=1)
        assert self._process.receive(60)["type"] == "ready"

    def ask(self, kind: str, **fields: Any) -> Any:
        """The answer; what it was doing meanwhile is passed over."""
        self._process.send(kind, **fields)
        while (answer := self._process.receive(60))["type"] == "doing":
            pass
        return answer

    def hold(self, benchmark: str = "sum", **params: Any) -> Any:
        source = {"suite": "fake", "kind": "module", "location": "devbench_fake_suite"}
        return self.ask(
            "hold",
            source=source,
            benchmark=benchmark,
            params=params,
            seed=0,
            limits=LIMITS,
            scratch=str(self._folder),
            kept=None,
            check=None,
            roots=[str(PLUGINS)],
            tops=[],
        )

    def burst(self, **fields: Any) -> Any:
        wanted = {"seconds": 0.0, "samples": 3, "yardstick": True} | fields
        return self.ask("burst", **wanted)["facts"]

    def close(self) -> None:
        self._process.close()


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    found = Worker(tmp_path)
    yield found
    found.close()


def test_a_case_is_kept_for_as_many_bursts_as_are_asked_for(worker: Worker) -> None:
    answer = worker.hold(n=100, dtype="float32")
    held = answer["facts"]
    assert held["status"] == "ok", held
    assert str(PLUGINS / "devbench_fake_suite.py") in answer["files"]
    assert [len(worker.burst(samples=count)["samples"]) for count in (1, 4)] == [1, 4]
    assert sum(worker.burst(seconds=0.2)["samples"]) * held["block"] >= 0.02
    dropped = worker.ask("drop")["facts"]
    assert dropped["yardstick_s"] > 0
    assert worker.ask("drop")["facts"] == {}


def test_what_a_benchmark_does_wrong_in_a_hold_is_an_answer_and_the_worker_goes_on(
    worker: Worker,
) -> None:
    assert worker.hold(n=100, dtype="bfloat16")["facts"]["reason"] == "unsupported"
    assert worker.hold("no such thing")["facts"]["reason"] == "declaration"
    assert worker.hold(n=100, dtype="float32")["facts"]["status"] == "ok"


def test_a_second_hold_takes_the_place_of_the_first(worker: Worker) -> None:
    worker.hold(n=100, dtype="float32")
    worker.hold(n=400, dtype="float32")
    assert worker.burst()["status"] == "ok"


def loaded(file: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    module = ModuleType("loaded")
    module.__file__ = str(file)
    monkeypatch.setitem(sys.modules, file.stem, module)
    return str(file)


def test_a_repository_below_the_interpreter_s_prefix_is_seen_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As /usr/src/app is, with the interpreter of a distribution."""
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
    file = loaded(tmp_path / "src/app/m.py", monkeypatch)
    assert _files_below([str(tmp_path / "src/app")]) == [file]


def test_an_interpreter_below_the_repository_is_none_of_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "app/python"))
    file = loaded(tmp_path / "app/m.py", monkeypatch)
    loaded(tmp_path / "app/python/lib/n.py", monkeypatch)
    assert _files_below([str(tmp_path / "app")]) == [file]
