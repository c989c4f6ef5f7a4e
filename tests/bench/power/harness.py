"""The same steps timed by another harness, as its users would, in a process of its own.

``python -m tests.bench.power.harness NAME KIND UNITS SECONDS`` prints one JSON object. SECONDS is what
the harness may take for its own calibration, warm-up and samples. The step has the first size of its
kind.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from devbench.detection import usable_threads
from devbench.model import Json
from tests.bench.common import ROOT
from tests.bench.power.steps import SIZES, make_step

#: Processes of pyperf, and values of each, after one for its warm-up.
PROCESSES, VALUES = 5, 5


def timed(name: str, kind: str, units: int, seconds: float) -> Json:
    """What it says, and as `wall_s` how long its whole command took."""
    variables = {**os.environ, "OMP_NUM_THREADS": str(usable_threads()), "PYTHONPATH": str(ROOT)}
    start = time.monotonic()
    words = [
        sys.executable,
        "-m",
        "tests.bench.power.harness",
        name,
        kind,
        str(units),
        str(seconds),
    ]
    done = subprocess.run(
        words, env=variables, cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{name}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1]) | {"wall_s": time.monotonic() - start}


def torch_timer(kind: str, units: int, seconds: float) -> Json:
    from torch.utils.benchmark import Timer

    # Its default is one thread, and devbench takes all that are granted.
    timer = Timer(
        "step()",
        globals={"step": make_step(kind, SIZES[kind][0], units)},
        num_threads=int(os.environ["OMP_NUM_THREADS"]),
    )
    return _told(timer.blocked_autorange(min_run_time=seconds).times)


def pytest_benchmark(kind: str, units: int, seconds: float) -> Json:
    with tempfile.TemporaryDirectory() as folder:
        file, answer = Path(folder) / "test_step.py", Path(folder) / "answer.json"
        file.write_text(
            "from tests.bench.power.steps import make_step\n"
            f"def test_step(benchmark): benchmark(make_step({kind!r}, {SIZES[kind][0]}, {units}))\n"
        )
        options = [f"--benchmark-max-time={seconds}", f"--benchmark-json={answer}"]
        words = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            *options,
            str(file),
        ]
        subprocess.run(words, cwd=folder, check=True, stdout=sys.stderr)
        [found] = json.loads(answer.read_text())["benchmarks"]
        return {name: found["stats"][name] for name in ("median", "mean", "min")}


def pyperf(kind: str, units: int, seconds: float) -> Json:
    import pyperf

    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        least = seconds / (PROCESSES * (VALUES + 1))
        counts = ["-p", str(PROCESSES), "-n", str(VALUES), "-w", "1", "--min-time", str(least)]
        options = ["--quiet", "--inherit-environ", "OMP_NUM_THREADS,PYTHONPATH", "-o", str(answer)]
        words = [sys.executable, *_again(kind, units), *counts, *options]
        subprocess.run(words, check=True, stdout=sys.stderr)
        values = pyperf.Benchmark.load(str(answer)).get_values()
        return _told(values) | {"values": list(values)}


def _again(kind: str, units: int) -> tuple[str, ...]:
    return ("-m", "tests.bench.power.harness", "pyperf-worker", kind, str(units))


def pyperf_worker(kind: str, units: int) -> None:
    """pyperf runs this program again for each of its processes, with the same first words."""
    import pyperf

    del sys.argv[1:4]
    runner = pyperf.Runner(program_args=_again(kind, units))
    runner.bench_func("step", make_step(kind, SIZES[kind][0], units))


def _told(times: Sequence[float]) -> dict[str, Any]:
    return {
        "median": statistics.median(times),
        "mean": statistics.fmean(times),
        "min": min(times),
    }


HARNESSES: Final[dict[str, Callable[[str, int, float], Json]]] = {
    "pytest-benchmark": pytest_benchmark,
    "pyperf": pyperf,
    "torch Timer": torch_timer,
}

if __name__ == "__main__":
    match sys.argv[1:]:
        case ["pyperf-worker", kind, units, *_]:
            pyperf_worker(kind, int(units))
        case [name, kind, units, seconds]:
            print(json.dumps(HARNESSES[name](kind, int(units), float(seconds))))
