"""One pair: fresh processes of both sides, alive together and timed in turn, case after case.

Two processes that take turns of some milliseconds meet the same machine, whatever it does meanwhile.
On two CPUs the ratio of such a pair spreads by 1.2 % in torch and by 2.4 % in TensorFlow (the same code,
fifteen cases, root mean squares); where the method was worked out, medians of single processes varied by
12 %.
"""

from __future__ import annotations

import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from devbench.measure.binding import by_core
from devbench.model import Json
from devbench.process import WorkerProcess

#: The second process of the head's code, a control: where the machine has no room for a third it stays out.
CONTROL: Final = "again"
NO_ROOM: Final = frozenset({"oom", "skipped"})
#: A turn lasts at least so long and so many samples; both together are about ten short steps.
TURN_S: Final = 0.01
TURN_SAMPLES: Final = 1
_TOO_COARSE: Final = {
    "status": "failed",
    "reason": "error",
    "detail": "a turn read zero seconds: the clock is too coarse for this step",
}
#: Turns of each process: at most and, however slow a step is, at least.
MOST_TURNS: Final = 40
LEAST_TURNS: Final = 6
#: The yardstick is laid at every fifth turn.
YARDSTICK_EVERY: Final = 5
#: A process that uses less than a tenth of a CPU over so long is at rest. Thread pools spin for some 10 ms
#: after their work, and for ever under an active wait policy. With 10 ms the same code spreads as much
#: from pair to pair (1.2 % over the core suites in torch, 2.4 % in TensorFlow), and a pair takes a third
#: longer.
REST_S: Final = 0.003
REST_SHARE: Final = 0.1
REST_LIMIT_S: Final = 0.1
#: glibc's malloc raises its thresholds as it goes, to these at the most, and whether the top of the heap
#: then goes back to the system after each step, to be faulted in again by the next, hangs on chance: a
#: training step of torch took 6 ms in one process and 10 in the next, and spread by 26 % from pair to
#: pair, with fixed thresholds by 2 % (mallopt(3); other systems ignore it).
MALLOC: Final = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str((2 << 30) - 1),
}


@dataclass(frozen=True, slots=True)
class Reading:
    """What one process of a pair found of one case, as fields of a `Measurement`.

    samples: one figure a turn, the median of its steps in seconds; turn i of every process of a pair
    was taken within the same milliseconds. files: what it loaded of its side's own code. strays: what it
    loaded of the work tree, where its side is another state of the repository.
    """

    facts: dict[str, Any]
    files: tuple[str, ...] = ()
    strays: tuple[str, ...] = ()

    @property
    def samples(self) -> tuple[float, ...]:
        return tuple(self.facts.get("samples", ()))

    @property
    def is_ok(self) -> bool:
        return self.facts.get("status") == "ok"

    @property
    def is_wrong(self) -> bool:
        """What the step computed is not what it should; known of the first pair only."""
        return self.facts.get("numerics") == "mismatch"


def order_of_turn(roles: Sequence[str], turn: int) -> list[str]:
    """Who comes first, second, … in a turn."""
    on = turn // 2 % len(roles) if len(roles) > 2 else 0
    order = [*roles[on:], *roles[:on]]
    return order if turn % 2 == 0 else order[::-1]


def confine(pid: int, threads: int) -> None:
    """Keep a process to as many CPUs as it has threads, the same ones each time, no two of a core while
    there are others. Else one process of a pair comes to lie on another CPU than its partner, and stays
    there: the same training step with one thread spread by 7.6 % from pair to pair, confined by 2.0 %.
    """
    if not hasattr(os, "sched_setaffinity"):  # macOS
        return
    os.sched_setaffinity(pid, by_core(os.sched_getaffinity(pid))[:threads])


def log_ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """The log of the median, over the turns, of one process's time over the other's in that turn."""
    return math.log(statistics.median(a / b for a, b in zip(over, under, strict=True)))


@dataclass(slots=True)
class Turns:
    """Takes a case through a pair (or three) of workers. `ask` waits for an answer past the phases."""

    workers: Mapping[str, WorkerProcess]
    timeout_s: float
    restless: set[str] = field(default_factory=set)
    #: Who was asked last, and so who is lost when an answer does not come.
    asked: str = ""

    def run(self, measure: Callable[[str], Json], share_s: float, flip: bool) -> dict[str, Reading]:
        """One reading a role, in which all are `ok` or none has samples; `CONTROL` has none either where
        there is no room for it, be it that this shows in a later turn.

        measure: fields of the `hold` message for a role. share_s: seconds of turns for each process.
        flip: the second process begins, as every other time. Raises WorkerGone and WorkerTimeout.
        """
        roles = list(self.workers)
        readings = {}
        for role in roles:
            answer = self._ask(role, "hold", **measure(role))
            readings[role] = Reading(
                answer["facts"], tuple(answer["files"]), tuple(answer.get("strays", ()))
            )
        taking = [
            role
            for role in roles
            if role != CONTROL or readings[role].facts.get("status") not in NO_ROOM
        ]
        if all(readings[role].is_ok for role in taking):
            taken = self._take_turns(taking[::-1] if flip else taking, share_s)
            for role, facts in taken.items():
                readings[role].facts.update(facts)
        for role in roles:
            dropped = self._ask(role, "drop")["facts"]
            if readings[role].is_ok:  # else it would say that all went well to its end
                readings[role].facts.update(dropped)
        return readings

    def _take_turns(self, roles: list[str], share_s: float) -> dict[str, dict[str, Any]]:
        """The order is turned round after each turn, so that neither always follows the other. Of three it
        also moves on by one after two turns: else only those at the ends would ever follow themselves, and
        find their data in the caches.
        """
        samples: dict[str, list[float]] = {role: [] for role in roles}
        seconds = dict.fromkeys(roles, 0.0)
        without_room: dict[str, dict[str, Any]] = {}
        for turn in range(MOST_TURNS):
            if turn >= LEAST_TURNS and min(seconds[role] for role in roles) >= share_s:
                break
            for role in order_of_turn(roles, turn):
                if role in without_room:
                    continue
                self._let_rest(roles)
                start = time.monotonic()
                facts = self._ask(
                    role,
                    "burst",
                    seconds=TURN_S,
                    samples=TURN_SAMPLES,
                    yardstick=turn % YARDSTICK_EVERY == 0,
                )["facts"]
                seconds[role] += time.monotonic() - start
                if role == CONTROL and facts["status"] in NO_ROOM:
                    without_room[role] = {**facts, "samples": ()}
                    continue
                if facts["status"] != "ok":
                    return {role: {**facts, "samples": ()}}
                middle = statistics.median(facts["samples"])
                if middle <= 0:  # it has no ratio
                    return {role: {"samples": (), **_TOO_COARSE}}
                samples[role].append(middle)
            roles = [role for role in roles if role not in without_room]
        return without_room | {
            role: {"samples": tuple(samples[role]), "timing_s": seconds[role]} for role in roles
        }

    def _ask(self, role: str, kind: str, **fields: Any) -> Any:
        worker = self.workers[role]
        worker.send(kind, **fields)
        self.asked = role
        while (answer := worker.receive(self.timeout_s))["type"] == "doing":
            pass
        return answer

    def _let_rest(self, roles: Sequence[str]) -> None:
        """Wait until no process of the pair uses the CPU; those that go on are noted.

        The one whose turn it is among them: every second time it is the one that has just been timed,
        and if it went on at once it would find its threads awake, in another state than its partner's.
        """
        pids = {role: self.workers[role].pid for role in roles}
        limit = time.monotonic() + REST_LIMIT_S
        while busy := _busy(pids):
            if time.monotonic() > limit:
                self.restless |= busy
                return


def _busy(pids: Mapping[str, int]) -> set[str]:
    """Whose process uses the CPU now."""
    before = {role: _on_cpu_s(pid) for role, pid in pids.items()}
    time.sleep(REST_S)
    busy = set()
    for role, pid in pids.items():
        start, end = before[role], _on_cpu_s(pid)
        if start is None or end is None:
            time.sleep(0.01)  # nobody tells: wait as long as a thread pool usually spins
        elif end - start >= REST_SHARE * REST_S:
            busy.add(role)
    return busy


def _on_cpu_s(pid: int) -> float | None:
    """Seconds that all threads of a process were on a CPU, to the nanosecond; None off Linux.

    The first field of /proc/PID/task/TID/schedstat; utime and stime in /proc/PID/stat count in
    hundredths of a second.
    """
    if not sys.platform.startswith("linux"):
        return None
    total = 0
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    except (OSError, IndexError, ValueError):  # the thread has just ended, or the file is not there
        return None
    return total * 1e-9
