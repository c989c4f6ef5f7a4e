"""What timing adds, what watching disturbs, and how near the ceilings come to the best known."""

from __future__ import annotations

import statistics
import subprocess
import sys
from contextlib import nullcontext

import devbench
from devbench.detection import read_gpus, usable_threads
from devbench.frameworks.base import WallTimer
from devbench.stats.intervals import log_t_interval
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


def telemetry(cli: DevBench, pairs: int = 200, slot_s: float = 0.2) -> None:
    """A worker times a step of 1 ms in slots, the parent's sampler at work in every other one.

    Medians of neighbouring slots, the order swapped every pair; the t interval of their log ratio.
    """
    gpus = [gpu.uuid for gpu in read_gpus()[0] if gpu.uuid]
    ratios = []
    with _child(cli, "slots", str(slot_s)) as child:
        for pair in range(pairs):
            found = {}
            for watched in (True, False) if pair % 2 == 0 else (False, True):
                with Sampler(gpus, worker_pid=child.pid) if watched else nullcontext() as sampler:
                    if sampler is not None:
                        sampler.start_window()
                    found[watched] = _ask(child)
                    if sampler is not None:
                        assert sampler.end_window().samples >= 1
            ratios.append(found[True] / found[False])
    interval = log_t_interval(ratios)
    assert interval is not None
    low, high = (100 * (end - 1) for end in interval)
    line(
        f"telemetry on against off, {pairs} pairs of slots of {slot_s:g} s",
        f"{low:+.2f}..{high:+.2f} %",
        "±0.5 %",
        low >= -0.5 and high <= 0.5,
    )


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
