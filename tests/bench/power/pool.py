"""Real pairs of devbench's own engine: all slowdowns at once beside one base.

In a pair of `ab` two fresh processes take turns. Here six do: the base, the base again, and the base
with 1, 2, 5 and 10 % of extra work. So one pair tells something of five comparisons, at a third of
their cost.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Final

from devbench.detection import usable_threads
from devbench.model import Json, Target
from devbench.process import WorkerProcess
from devbench.registry import Source, frameworks
from devbench.regress.ab import SHARE_S
from devbench.regress.interleave import LIMITS, NULL_EVERY
from devbench.regress.pairs import Turns, log_ratio
from devbench.runner import START_TIMEOUT_S
from tests.bench.common import ROOT
from tests.bench.power.steps import UNITS

#: Units of work by role; the second one is the same code again.
ROLES: Final[Mapping[str, int]] = {
    "base": UNITS,
    "same": UNITS,
    "+1 %": 101,
    "+2 %": 102,
    "+5 %": 105,
    "+10 %": 110,
}
_SOURCE: Final = Source("power", "module", "tests.bench.power.suite")


def take_pair(kind: str, roles: Mapping[str, int], folder: Path, seed: int) -> dict[str, float]:
    """Log ratios of the roles over the first, from one fresh process each.

    The order in which they take turns is drawn anew each time. Raises RuntimeError when one fails.
    """
    threads = usable_threads()
    target = Target("torch", ("cpu",))
    variables = frameworks()["torch"].environment(target, threads) | {"PYTHONPATH": str(ROOT)}
    order = list(roles)
    random.Random(seed).shuffle(order)
    with ExitStack() as stack:
        workers = {}
        for role in order:
            workers[role] = WorkerProcess(variables, folder / "log")
            stack.callback(workers[role].close)
            workers[role].send("start", target=target.to_json(), threads=threads)
        for worker in workers.values():
            if (answer := worker.receive(START_TIMEOUT_S))["type"] != "ready":
                raise RuntimeError(f"torch does not start: {answer}")

        def measure(role: str) -> Json:
            return {
                "source": _SOURCE.to_json(),
                "benchmark": "power",
                "params": {"kind": kind, "units": roles[role]},
                "seed": 0,
                "limits": asdict(LIMITS),
                "scratch": str(folder),
                "check": None,
                "roots": [],
            }

        readings = Turns(workers, 300.0).run(measure, SHARE_S, flip=False)
    for reading in readings.values():
        if not reading.is_ok:
            raise RuntimeError(f"a step failed: {reading.facts}")
    base, *others = roles
    return {role: log_ratio(readings[role].samples, readings[base].samples) for role in others}


def seconds_of_a_pair(kind: str, folder: Path) -> float:
    """Wall time of a pair as `ab` takes it: two processes, and a third in every `NULL_EVERY`-th."""
    taken = []
    for count in (2, 3):
        start = time.monotonic()
        take_pair(kind, dict.fromkeys(map(str, range(count)), UNITS), folder, seed=count)
        taken.append(time.monotonic() - start)
    return taken[0] + (taken[1] - taken[0]) / NULL_EVERY
