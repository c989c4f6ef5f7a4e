"""Real pairs of devbench's own engine, over many cases in the same two processes, as `ab` takes them.

The base does a hundred units of each step, the head as many, or 1, 2, 5 and 10 % more. A pair of
processes goes over all of it, so the imports are paid once for thirty comparisons.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from devbench.detection import usable_threads
from devbench.model import Json, Target
from devbench.process import WorkerProcess
from devbench.registry import Source, frameworks
from devbench.regress.ab import SHARE_S
from devbench.regress.interleave import LIMITS
from devbench.regress.pairs import MALLOC, Turns, confine, log_ratio
from devbench.runner import START_TIMEOUT_S
from tests.bench.common import ROOT
from tests.bench.power.steps import KINDS, SIZES, UNITS

SAME: Final = "same code"
#: Units of work by slowdown.
SLOWED: Final[Mapping[str, int]] = {"+1 %": 101, "+2 %": 102, "+5 %": 105, "+10 %": 110}
_SOURCE: Final = Source("power", "module", "tests.bench.power.suite")


@dataclass(frozen=True, slots=True)
class Role:
    """What the head does against the base's hundred units of the same size."""

    name: str
    size: int
    units: int


def roles(kind: str) -> tuple[Role, ...]:
    """The first size with and without slowdowns, the others without."""
    usual, *others = SIZES[kind]
    return (
        Role(SAME, usual, UNITS),
        *(Role(name, usual, units) for name, units in SLOWED.items()),
        *(Role(f"{SAME}, {size}", size, UNITS) for size in others),
    )


def take_pair(folder: Path, seed: int, *, slowed: bool) -> dict[str, dict[str, float]]:
    """By kind the log ratios of the roles, from two fresh processes; the order is drawn anew each time.

    slowed: with the roles that do more; else of the same code only. Raises RuntimeError when one fails.
    """
    threads = usable_threads()
    target = Target("torch", ("cpu",))
    variables = frameworks()["torch"].environment(target, threads) | MALLOC
    variables["PYTHONPATH"] = str(ROOT)
    waiting = [
        (kind, role) for kind in KINDS for role in roles(kind) if slowed or role.name not in SLOWED
    ]
    random.Random(seed).shuffle(waiting)
    found: dict[str, dict[str, float]] = {kind: {} for kind in KINDS}
    with ExitStack() as stack:
        workers = {}
        for side in ("base", "head"):
            workers[side] = WorkerProcess(variables, folder / "log")
            stack.callback(workers[side].close)
            confine(workers[side].pid, threads)
            workers[side].send("start", target=target.to_json(), threads=threads)
        for worker in workers.values():
            if (answer := worker.receive(START_TIMEOUT_S))["type"] != "ready":
                raise RuntimeError(f"torch does not start: {answer}")
        turns = Turns(workers, 300.0)
        for kind, role in waiting:
            found[kind][role.name] = _ratio(turns, kind, role, folder, flip=seed % 2 == 1)
    return found


def _ratio(turns: Turns, kind: str, role: Role, folder: Path, *, flip: bool) -> float:
    def measure(side: str) -> Json:
        return {
            "source": _SOURCE.to_json(),
            "benchmark": "power",
            "params": {
                "kind": kind,
                "size": role.size,
                "units": UNITS if side == "base" else role.units,
            },
            "seed": 0,
            "limits": asdict(LIMITS),
            "scratch": str(folder),
            "kept": None,
            "check": None,
            "roots": [],
            "tops": [],
        }

    readings = turns.run(measure, SHARE_S, flip)
    for reading in readings.values():
        if not reading.is_ok:
            raise RuntimeError(f"a step failed: {reading.facts}")
    return log_ratio(readings["head"].samples, readings["base"].samples)
