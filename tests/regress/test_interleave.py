"""Pairs of told processes: what is lost where one does not start, is killed or finds no room."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from devbench.declare import Benchmark
from devbench.model import Case, Measurement, Target, Work
from devbench.process import WorkerGone
from devbench.registry import Catalog, Source
from devbench.regress.ab import Request, _until_decided
from devbench.regress.interleave import Interleaver
from devbench.regress.pairs import Reading, Turns
from devbench.regress.variant import Variant

TARGET = Target("fake", ("dev:0",))
SAME, SLOWER = (Case("s", name, (), TARGET) for name in ("same", "slower"))

#: Raises what becomes of a process (role, kind of message, roles that are alive), or does nothing.
Fate = Callable[[str, str, list[str]], None]


class Process:
    """One of them. Its step takes a second, in the head of `slower` half as long again."""

    pid = 1

    def __init__(self, role: str, alive: list[str], fate: Fate) -> None:
        self.role, self.alive, self.fate = role, alive, fate
        self.kind = self.benchmark = ""
        alive.append(role)

    def send(self, kind: str, **fields: Any) -> None:
        self.kind, self.benchmark = kind, fields.get("benchmark", self.benchmark)

    def receive(self, timeout_s: float) -> dict[str, Any]:
        self.fate(self.role, self.kind, self.alive)
        slow = self.role != "base" and self.benchmark == "slower"
        seconds = (1.5 if slow else 1.0) * random.gauss(1, 0.02)
        facts = {
            "hold": {"status": "ok"},
            "burst": {"status": "ok", "samples": [seconds]},
            "drop": {"yardstick_s": 1.0},
        }
        return {"type": "", "version": "1", "facts": facts.get(self.kind), "files": []}

    def close(self) -> None:
        if self.role in self.alive:
            self.alive.remove(self.role)

    kill = close


class Stored(list[tuple[str, Measurement]]):
    def add_measurement(self, run_id: str, measurement: Measurement) -> None:
        self.append((run_id, measurement))


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Fate], Interleaver]:
    random.seed(5)
    monkeypatch.setattr(Turns, "_let_rest", lambda *_: None)

    def made(fate: Fate) -> Interleaver:
        alive: list[str] = []
        monkeypatch.setattr(
            Interleaver, "_process", lambda self, role, target: Process(role, alive, fate)
        )
        suite = str(tmp_path / "suite.py")
        return Interleaver(
            base=Variant("old", Path("python")),
            head=Variant("new", Path("python")),
            stage=tmp_path,
            catalog=Catalog(
                {
                    case.benchmark: Benchmark(case.benchmark, {}, {}, None, None, "", suite, "s")
                    for case in (SAME, SLOWER)
                },
                {"s": Source("s", "file", suite)},
                (),
            ),
            threads=1,
            seed=0,
            share_s=0.0,
            timeout_s=1.0,
            runs={"base": "base", "head": "head"},
            sink=Stored(),
            tell=lambda event: None,
            scratch=tmp_path,
            log=tmp_path / "log",
        )

    return made


def test_who_never_rests_is_kept_with_its_case(
    make: Callable[[Fate], Interleaver], monkeypatch: pytest.MonkeyPatch
) -> None:
    def let_rest(turns: Any, roles: Any) -> None:
        if turns.workers["head"].benchmark == "slower":
            turns.restless.add("head")

    work = make(lambda *_: None)
    monkeypatch.setattr(Turns, "_let_rest", let_rest)
    for number in range(6):  # either is the first in some of them
        work.pair(number, [SAME, SLOWER], lambda: True)
    assert (work.found[SAME.id].restless, work.found[SLOWER.id].restless) == (set(), {"head"})


@pytest.mark.parametrize(
    ("files", "differs", "own"),
    [
        (["suite.py"], False, False),
        (["suite.py"], True, True),
        (["tests/conftest.py", "tests/test_it.py"], False, False),
        (["tests/conftest.py"], True, True),
        (["pkg/__init__.py"], False, True),
        (["tmp/engine/devbench/worker.py", "tmp/scratch/drawn.py"], False, False),
    ],
)
def test_the_file_that_does_the_timing_is_a_side_s_own_code_only_where_the_sides_differ_in_it(
    make: Callable[[Fate], Interleaver],
    tmp_path: Path,
    files: list[str],
    differs: bool,
    own: bool,
) -> None:
    work = make(lambda *_: None)
    trees = [tmp_path / "tree", tmp_path]
    for place in files:
        for tree in trees:
            (tree / place).parent.mkdir(parents=True, exist_ok=True)
            (tree / place).write_text(str(tree) if differs else "")
    work.stage, work.scratch = tmp_path / "tmp/engine", tmp_path / "tmp/scratch"
    work.base, work.head = (
        Variant(name, Path("python"), top=tmp_path, tree=tree)
        for name, tree in zip(("old", "new"), trees, strict=True)
    )
    loaded = Reading({}, tuple(str(tmp_path / place) for place in files))
    assert work._has_own_code({"base": Reading({}), "head": loaded}) is own


def killed(role: str) -> Fate:
    """The kernel ends the process of that role while three are alive."""

    def fate(asked: str, kind: str, alive: list[str]) -> None:
        if (asked, kind) == (role, "hold") and "again" in alive:
            raise WorkerGone("out-of-memory", "killed")

    return fate


@pytest.mark.parametrize("role", ["base", "head", "again"])
def test_memory_that_three_processes_have_not_costs_neither_side_its_pair(
    make: Callable[[Fate], Interleaver], role: str
) -> None:
    work = make(killed(role))
    work.pair(0, [SAME, SLOWER], lambda: True)
    for case in (SAME, SLOWER):
        found = work.found[case.id]
        assert (len(found.pairs), found.null, found.trouble) == (1, [], None)
    assert isinstance(work.sink, Stored)
    assert [one.status for _, one in work.sink] == ["ok"] * 4


def test_a_process_that_the_kernel_ends_for_memory_is_no_crash_of_the_code(
    make: Callable[[Fate], Interleaver],
) -> None:
    def fate(role: str, kind: str, alive: list[str]) -> None:
        if (role, kind) == ("head", "burst"):
            raise WorkerGone("out-of-memory", "killed")

    work = make(fate)
    work.pair(1, [SAME], lambda: True)
    assert isinstance(work.sink, Stored)
    [(run, lost)] = work.sink
    assert (run, lost.status, lost.reason) == ("head", "oom", "out-of-memory")
    assert work.found[SAME.id].trouble == "head: killed"


def test_a_control_that_does_not_start_is_left_out(make: Callable[[Fate], Interleaver]) -> None:
    def fate(role: str, kind: str, alive: list[str]) -> None:
        if (role, kind) == ("again", "start"):
            raise WorkerGone("exit", "exit status 1")

    work = make(fate)
    work.pair(0, [SAME], lambda: True)
    found = work.found[SAME.id]
    assert (len(found.pairs), found.null, found.trouble) == (1, [], None)


def test_a_case_that_does_more_on_one_side_is_not_timed_again_and_again(
    make: Callable[[Fate], Interleaver],
) -> None:
    work = make(lambda *_: None)
    once, twice = (replace(SAME, work=Work(items=items)) for items in (1, 2))
    _until_decided(work, [twice], [once], Request(base="old"), None, lambda event: None)
    assert len(work.found[SAME.id].pairs) == 1


def test_a_process_that_does_not_start_in_a_later_pair_leaves_what_is_decided(
    make: Callable[[Fate], Interleaver],
) -> None:
    def fate(role: str, kind: str, alive: list[str]) -> None:
        if (role, kind) == ("head", "start") and all(
            case.id in work.found and len(work.found[case.id].pairs) == 8 for case in (SAME, SLOWER)
        ):
            raise WorkerGone("exit", "exit status 1")

    work = make(fate)
    cases = [SAME, SLOWER]
    judged = _until_decided(work, cases, cases, Request(base="old"), None, lambda event: None)
    assert {case_id: judgement.verdict for case_id, (_, judgement) in judged.items()} == {
        SAME.id: "inconclusive",
        SLOWER.id: "regressed",
    }
    trouble = work.found[SAME.id].trouble
    assert trouble is not None
    assert trouble.startswith("in pair 9 new: fake:dev:0 did not start: exit status 1")
