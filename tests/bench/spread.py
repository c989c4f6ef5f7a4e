"""How much the median of one case moves from run to run, in devbench and in other harnesses."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from devbench.detection import usable_threads
from tests.bench.common import ROOT, installed, line, program
from tests.bench.harness import HARNESSES
from tests.helpers import DevBench

SUITE = Path(__file__).with_name("repeat_suite.py")
OURS = "devbench"
#: The same runs in units of the fixed step that was timed beside the samples.
IN_YARDSTICKS = "devbench, in yardsticks"
#: Wall time that devbench is given; the command then takes a few seconds longer.
BUDGET_S = 10.0


@dataclass
class Found:
    """What one harness said in each repetition, and how long its whole command took, in seconds."""

    figures: list[float] = field(default_factory=list)
    walls: list[float] = field(default_factory=list)

    @property
    def spread(self) -> float:
        return statistics.stdev(self.figures) / statistics.fmean(self.figures)


def spread(cli: DevBench, repetitions: int = 20) -> None:
    """devbench in its default rounds, against the others at equal wall time: their whole command takes
    as long as devbench's. All of them in turn and back, so that drift meets all alike."""
    others = list(HARNESSES)
    found = {name: Found() for name in (OURS, IN_YARDSTICKS, *others)}
    first_wall = _ours(cli)[2]
    # What each of the others needs beside its timing, taken once.
    starting = {name: _other(cli, name, 2.0)[1] - 2.0 for name in others}
    for repetition in range(repetitions):
        kinds = [OURS, *others]
        for name in kinds if repetition % 2 == 0 else reversed(kinds):
            if name == OURS:
                median, yardsticks, wall = _ours(cli)
                found[IN_YARDSTICKS].figures.append(yardsticks)
                found[IN_YARDSTICKS].walls.append(wall)
            else:
                whole = statistics.fmean(found[OURS].walls or [first_wall])
                median, wall = _other(cli, name, max(0.1, whole - starting[name]))
            found[name].figures.append(median)
            found[name].walls.append(wall)
    for name, each in found.items():
        print(
            f"  {name:<24} spread {each.spread:6.2%} of {len(each.figures)} runs, "
            f"whole command {statistics.fmean(each.walls):.1f} s"
        )
    best = min(others, key=lambda name: found[name].spread)
    bound = found[best].spread / 2
    for name in (OURS, IN_YARDSTICKS):
        ours = found[name].spread
        what = f"run-to-run spread, {name} (best other: {best})"
        line(what, f"{ours:.2%}", f"<= {bound:.2%}", ours <= bound)


def _ours(cli: DevBench) -> tuple[float, float, float]:
    """Median, the same in yardsticks, and seconds of the whole command."""
    words = ["run", "repeat", "--suite-path", str(SUITE), "--json"]
    start = time.perf_counter()
    done = subprocess.run(
        [
            *(program(), *words, "--framework", "torch", "--device", "cpu"),
            *("--time-budget", str(BUDGET_S)),
        ],
        env=installed(cli),
        cwd=cli.home,
        capture_output=True,
        text=True,
        check=False,
    )
    wall = time.perf_counter() - start
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    [row] = json.loads(done.stdout)["results"]
    return row["median"], row["yardsticks"], wall


def _other(cli: DevBench, name: str, seconds: float) -> tuple[float, float]:
    """Median, and seconds of the whole command."""
    threads = {"OMP_NUM_THREADS": str(usable_threads())}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.harness", name, str(seconds)],
        env={**installed(cli), **threads},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    wall = time.perf_counter() - start
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return float(done.stdout), wall
