"""How many turns a pair takes: told processes, and a clock that only they move."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from devbench.regress import pairs
from devbench.regress.pairs import TURN_S, Reading, Turns, confine

SHARE_S = 20 * TURN_S


class _Told(Turns):
    """Each process reads what `spread` makes of its time; a turn takes `TURN_S` by the clock."""

    now = 0.0
    spread = 0.0
    medians = {"base": 1.0, "head": 1.05, "again": 1.05}  # noqa: RUF012

    def _ask(self, role: str, kind: str, **fields: Any) -> Any:
        if kind != "burst":
            return {"facts": {"status": "ok"}, "files": []}
        self.now += TURN_S
        noise = random.Random(f"{role} {self.now}").gauss(0, self.spread)
        return {"facts": {"status": "ok", "samples": [self.medians[role] * (1 + noise)]}}

    def _let_rest(self, roles: Any) -> None:
        pass


def readings(monkeypatch: pytest.MonkeyPatch, spread: float, *roles: str) -> dict[str, Reading]:
    turns = _Told(dict.fromkeys(roles), 1.0)  # type: ignore[arg-type]
    turns.spread = spread
    monkeypatch.setattr(pairs, "time", SimpleNamespace(monotonic=lambda: turns.now))
    return turns.run(lambda role: {}, SHARE_S, flip=False)


def test_both_processes_of_a_pair_are_kept_to_the_same_cpus_and_to_no_more_than_they_have_threads() -> (
    None
):
    allowed = os.sched_getaffinity(0)
    found = []
    for _ in range(2):
        with subprocess.Popen(["sleep", "60"]) as process:
            confine(process.pid, 1)
            found.append(os.sched_getaffinity(process.pid))
            confine(process.pid, len(allowed) + 1)
            process.kill()
    assert found[0] == found[1]
    assert len(found[0]) == 1
    assert os.sched_getaffinity(0) == allowed


def test_a_process_is_confined_to_as_many_cpus_as_it_has_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[list[int]] = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    monkeypatch.setattr(pairs, "by_core", lambda cpus: [0, 2, 1, 3])
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cpus: given.append(list(cpus)))
    for threads in (1, 2, 3, 9):
        confine(1, threads)
    assert given == [[0], [0, 2], [0, 2, 1], [0, 2, 1, 3]]


def test_a_process_that_has_just_worked_rests_before_its_next_turn_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[set[str]] = []
    turns = Turns({"base": SimpleNamespace(pid=1), "head": SimpleNamespace(pid=2)}, 1.0)  # type: ignore[dict-item]

    def nobody_busy(pids: dict[str, int]) -> set[str]:
        asked.append(set(pids))
        return set()

    monkeypatch.setattr(pairs, "_busy", nobody_busy)
    monkeypatch.setattr(Turns, "_ask", lambda *_, **__: {"facts": {"status": "ok", "samples": [1]}})
    turns._take_turns(["base", "head"], 0.0)
    assert asked
    assert all(pids == {"base", "head"} for pids in asked)


@pytest.mark.parametrize("roles", [["base", "head"], ["base", "head", "again"]])
def test_no_process_follows_itself_or_another_more_often_than_its_partners_do(
    roles: list[str],
) -> None:
    turns = 6
    order = [role for turn in range(turns + 1) for role in pairs.order_of_turn(roles, turn)]
    followed = Counter(itertools.pairwise(order[: turns * len(roles) + 1]))
    assert len({followed[role, role] for role in roles}) == 1
    assert {role for role, _ in followed} == set(roles)
    for role in roles:
        assert sum(count for (_, after), count in followed.items() if after == role) == turns


@pytest.mark.parametrize("status", ["oom", "skipped"])
def test_a_control_without_room_does_not_keep_the_pair_from_its_turns(
    status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(_Told):
        def _ask(self, role: str, kind: str, **fields: Any) -> Any:
            if kind == "hold" and role == "again":
                return {"facts": {"status": status}, "files": []}
            assert (kind, role) != ("burst", "again")
            return super()._ask(role, kind, **fields)

    turns = Full(dict.fromkeys(("base", "head", "again")), 1.0)  # type: ignore[arg-type]
    monkeypatch.setattr(pairs, "time", SimpleNamespace(monotonic=lambda: turns.now))
    found = turns.run(lambda role: {}, SHARE_S, flip=False)
    assert found["base"].samples
    assert len(found["base"].samples) == len(found["head"].samples)
    assert found["again"].samples == ()


def test_a_control_that_finds_no_room_in_a_later_turn_costs_neither_side_its_samples(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class FullLater(_Told):
        bursts = 0

        def _ask(self, role: str, kind: str, **fields: Any) -> Any:
            if (kind, role) == ("burst", "again"):
                self.bursts += 1
                assert self.bursts <= 3, "it is asked again"
                if self.bursts == 3:
                    return {"facts": {"status": "oom"}}
            return super()._ask(role, kind, **fields)

    turns = FullLater(dict.fromkeys(("base", "head", "again")), 1.0)  # type: ignore[arg-type]
    monkeypatch.setattr(pairs, "time", SimpleNamespace(monotonic=lambda: turns.now))
    found = turns.run(lambda role: {}, SHARE_S, flip=False)
    assert len(found["base"].samples) == len(found["head"].samples) >= 20
    assert (found["again"].facts["status"], found["again"].samples) == ("oom", ())


def test_a_turn_that_reads_zero_fails_its_case_and_not_the_comparison(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_Told, "medians", {"base": 1.0, "head": 0.0})
    found = readings(monkeypatch, 0.0, "base", "head")
    assert (found["base"].is_ok, found["head"].is_ok) == (True, False)
    assert "the clock is too coarse" in found["head"].facts["detail"]
    assert found["base"].samples == found["head"].samples == ()


def test_turns_take_all_their_time_where_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    found = readings(monkeypatch, 0.03, "base", "head")
    assert 20 <= len(found["base"].samples) <= 21
