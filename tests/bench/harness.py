"""The same step timed by another harness, in a process of its own.

``python -m tests.bench.harness NAME SECONDS``, from the root of the checkout.
Prints the median in seconds. SECONDS is the time that the harness is given for its own calibration,
warm-up and samples.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Processes and values a process that pyperf takes, with one warm-up value each.
PROCESSES, VALUES = 5, 5
PYPERF_WORKER = ("-m", "tests.bench.harness", "pyperf-worker")


def make_step(times: int = 100) -> Callable[[], Any]:
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(128, 128, generator=generator) for _ in range(2))

    def step() -> Any:
        for _ in range(times):
            product = a @ b
        return product

    return step


def torch_timer(seconds: float) -> float:
    from torch.utils.benchmark import Timer

    step = make_step()
    # Its default is one thread, and devbench takes all that are granted.
    threads = int(os.environ["OMP_NUM_THREADS"])
    timer = Timer("step()", globals={"step": step}, num_threads=threads)
    return float(timer.blocked_autorange(min_run_time=seconds).median)


def pytest_benchmark(seconds: float) -> float:
    with tempfile.TemporaryDirectory() as folder:
        file, answer = Path(folder) / "test_step.py", Path(folder) / "answer.json"
        file.write_text(
            f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
            "from tests.bench.harness import make_step\n"
            "def test_step(benchmark): benchmark(make_step())\n"
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
        subprocess.run(words, cwd=folder, check=True, capture_output=True)
        [found] = json.loads(answer.read_text())["benchmarks"]
        return float(found["stats"]["median"])


def pyperf(seconds: float) -> float:
    import pyperf

    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        least = seconds / (PROCESSES * (VALUES + 1))
        counts = ["-p", str(PROCESSES), "-n", str(VALUES), "-w", "1", "--min-time", str(least)]
        options = [
            "--quiet",
            "--inherit-environ",
            "OMP_NUM_THREADS",
            "-o",
            str(answer),
        ]
        words = [sys.executable, *PYPERF_WORKER, *counts, *options]
        subprocess.run(words, check=True, capture_output=True)
        return float(pyperf.Benchmark.load(str(answer)).median())


def pyperf_worker() -> None:
    """pyperf runs this script again for each of its processes, with the same first word."""
    import pyperf

    del sys.argv[1]
    runner = pyperf.Runner(program_args=PYPERF_WORKER)
    runner.bench_func("step", make_step())


HARNESSES = {
    "torch Timer": torch_timer,
    "pytest-benchmark": pytest_benchmark,
    "pyperf": pyperf,
}

if __name__ == "__main__":
    if sys.argv[1] == "pyperf-worker":
        pyperf_worker()
    else:
        print(HARNESSES[sys.argv[1]](float(sys.argv[2])))
