"""What timing adds, what watching disturbs, and how near the ceilings come to the best known."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy.stats import mstats

import devbench
from devbench.detection import read_gpus, usable_threads
from devbench.frameworks.base import WallTimer
from devbench.telemetry import Sampler
from tests.bench.common import ROOT, installed, line
from tests.helpers import DevBench


def empty_step(cli: DevBench) -> None:
    timer = WallTimer(None, "CPU calls block")
    single = statistics.median(timer(_nothing, 1)[0] for _ in range(10_000))
    line("an empty step in a block of one", f"{single * 1e9:.0f} ns", "<= 1 µs", single <= 1e-6)
    blocked = devbench.time(_nothing).median
    line("an empty step as devbench.time", f"{blocked * 1e9:.0f} ns", "<= 1 µs", blocked <= 1e-6)


def _nothing() -> None:
    return None


def telemetry(cli: DevBench, minutes: float = 4.0, slot_s: float = 0.1, hz: float = 20.0) -> None:
    """A worker repeats a step of 1 ms without a pause while the parent switches its sampler on and off,
    in the order on, off, off, on, and then the other way round.

    At 20 Hz, twice the rate of a run, so that there are samples in a slot as short as this: what slows
    this machine for a quarter of a second or longer meets both kinds of slots alike. A figure of four
    slots is the difference of the logs of their median steps, which is what a row shows, and is judged;
    that of their mean steps hides nothing, is noisier, and is shown beside it. A fifth of the figures at
    either end, where a neighbour came or went in between, is left out of the mean of the figures and its
    t interval.
    """
    gpus = [gpu.uuid for gpu in read_gpus()[0] if gpu.uuid]
    slots: list[tuple[bool, float, float]] = []
    samples = 0
    with _child(cli, "stamps") as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()  # the step is warm
        until = time.perf_counter() + 60 * minutes
        while time.perf_counter() < until:
            first = len(slots) // 4 % 2 == 0
            for watched in (first, not first, not first, first):
                if not watched:
                    start = time.perf_counter()
                    time.sleep(slot_s)
                    slots.append((False, start, time.perf_counter()))
                    continue
                with Sampler(gpus, worker_pid=child.pid, hz=hz) as sampler:
                    sampler.start_window()
                    start = time.perf_counter()
                    time.sleep(slot_s)
                    slots.append((True, start, time.perf_counter()))
                    samples += sampler.end_window().samples
        child.stdin.close()
        ends = np.array(json.loads(child.stdout.readline()))
    print(f"  {samples / (len(slots) / 2 * slot_s):.0f} samples a second in slots of {slot_s:g} s")
    of_median, of_mean = (
        100 * np.array(list(_of_four(slots, ends, middle))) for middle in (np.median, np.mean)
    )
    for name, figures in (("median", of_median), ("mean", of_mean)):
        spread = np.subtract(*np.percentile(figures, [75, 25]))
        low, high = mstats.trimmed_mean_ci(figures, (0.2, 0.2))
        print(
            f"  the {name} step: {low:+.2f}..{high:+.2f} % from {len(figures)} figures, half of them "
            f"within {spread:.2f} %"
        )
    low, high = mstats.trimmed_mean_ci(of_median, (0.2, 0.2))
    line(
        "telemetry on against off, 95 % interval",
        f"{low:+.2f}..{high:+.2f} %",
        "±0.5 %",
        low >= -0.5 and high <= 0.5,
    )


def _of_four(
    slots: Sequence[tuple[bool, float, float]],
    ends: np.ndarray,
    middle: Callable[[np.ndarray], np.floating],
) -> Iterator[float]:
    """Log ratio of a step with the sampler on to one with it off, in each four slots (on, start, end).

    ends: when each step ended, which is when the next one began. Four slots of which the machine stood
    still throughout one say nothing.
    """
    seconds = np.diff(ends)
    for begin in range(0, len(slots) - 3, 4):
        found: dict[bool, list[float]] = {True: [], False: []}
        for watched, start, end in slots[begin : begin + 4]:
            # Whole steps only: what began before the slot is not of it.
            inside = seconds[np.searchsorted(ends, start) : np.searchsorted(ends, end) - 1]
            if len(inside):
                found[watched].append(float(np.log(middle(inside))))
        if len(found[True]) == len(found[False]) == 2:
            yield statistics.fmean(found[True]) - statistics.fmean(found[False])


def ceiling(cli: DevBench, rounds: int = 3) -> None:
    """Fastest sample of devbench's GEMM ceiling against the fastest of torch's Timer, in turn."""
    with _child(cli, "ceiling") as child:
        ratios = []
        for round_ in range(rounds):
            found = {}
            for name in ("devbench", "timer") if round_ % 2 == 0 else ("timer", "devbench"):
                found[name] = _ask(child, name)
            ratios.append(found["devbench"] / found["timer"])
            print(
                f"  GEMM: {found['devbench'] / 1e9:.1f} against {found['timer'] / 1e9:.1f} GFLOP/s"
            )
    share = statistics.median(ratios)
    line("GEMM ceiling against the best of torch's Timer", f"{share:.3f}", ">= 0.98", share >= 0.98)


def _child(cli: DevBench, *words: str) -> subprocess.Popen[str]:
    threads = str(usable_threads())
    return subprocess.Popen(
        [sys.executable, "-m", "tests.bench.child", *words],
        env={**installed(cli), "OMP_NUM_THREADS": threads},
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )


def _ask(child: subprocess.Popen[str], what: str = "") -> float:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(what + "\n")
    answer = child.stdout.readline()
    if not answer:
        raise SystemExit(f"the child of the bench ended: exit status {child.wait()}")
    return float(answer)
