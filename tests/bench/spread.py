"""How much the median of one case moves from run to run, in devbench and in other harnesses."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from devbench.detection import usable_threads
from tests.bench.common import ROOT, installed, line, program, timed_seconds
from tests.bench.harness import HARNESSES
from tests.helpers import DevBench

SUITE = Path(__file__).with_name("repeat_suite.py")
OURS = "devbench"


@dataclass
class Found:
    """What one harness said in each repetition, and how long its whole command took, in seconds."""

    medians: list[float] = field(default_factory=list)
    walls: list[float] = field(default_factory=list)

    @property
    def spread(self) -> float:
        return statistics.stdev(self.medians) / statistics.fmean(self.medians)


def spread(cli: DevBench, repetitions: int = 20) -> None:
    """devbench in its default five rounds, against the others at equal cost in two senses.

    Equal timing: they are given as many seconds of warm-up and samples as devbench took inside its
    rounds; devbench's command then takes longer, because it starts and imports five times. Equal
    wall time: their whole command takes as long as devbench's. All of them in turn and back, so
    that drift meets all alike.
    """
    others = list(HARNESSES)
    kinds = [OURS, *((name, sense) for name in others for sense in ("timing", "wall"))]
    found: dict[object, Found] = {kind: Found() for kind in kinds}
    _, first_wall, first_timing = _ours(cli)
    # What each of the others needs beside its timing, taken once.
    starting = {name: _other(cli, name, first_timing)[1] - first_timing for name in others}
    timings = [first_timing]
    for repetition in range(repetitions):
        for kind in kinds if repetition % 2 == 0 else reversed(kinds):
            if isinstance(kind, str):
                median, wall, timing = _ours(cli)
                timings.append(timing)
            else:
                name, sense = kind
                whole = statistics.fmean(found[OURS].walls or [first_wall])
                equal_wall = max(0.1, whole - starting[name])
                seconds = statistics.fmean(timings) if sense == "timing" else equal_wall
                median, wall = _other(cli, name, seconds)
            found[kind].medians.append(median)
            found[kind].walls.append(wall)
    ours = found[OURS]
    for sense in ("timing", "wall"):
        _report(sense, ours, {name: found[name, sense] for name in others})


def _report(sense: str, ours: Found, others: Mapping[str, Found]) -> None:
    for name, each in {OURS: ours, **others}.items():
        middle, wall = statistics.fmean(each.medians), statistics.fmean(each.walls)
        print(
            f"  equal {sense}: {name:<18} spread {each.spread:6.2%} of {len(each.medians)} medians, "
            f"mean {middle * 1e3:.3f} ms, whole command {wall:.1f} s"
        )
    best = min(others, key=lambda name: others[name].spread)
    bound = others[best].spread / 2
    line(
        f"run-to-run spread, equal {sense} (best other: {best})",
        f"{ours.spread:.2%}",
        f"<= {bound:.2%}",
        ours.spread <= bound,
    )


def _ours(cli: DevBench) -> tuple[float, float, float]:
    """Median, seconds of the whole command, and seconds inside warm-up and timing."""
    words = ["run", "repeat", "--suite-path", str(SUITE), "--json"]
    start = time.perf_counter()
    done = subprocess.run(
        [program(), *words, "--framework", "torch", "--device", "cpu"],
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
    return row["median"], wall, timed_seconds(cli)


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
