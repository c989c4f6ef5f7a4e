"""What devbench costs: time of its verbs, memory, and how little of a run is not measuring."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import psutil

from tests.bench.common import installed, line, median_seconds, program, timed_seconds
from tests.helpers import DevBench


def start_up(cli: DevBench) -> None:
    def show_help() -> None:
        subprocess.run([program(), "--help"], env=installed(cli), capture_output=True, check=True)

    seconds = median_seconds(show_help, 15)
    line("devbench --help", f"{seconds:.3f} s", "<= 0.15 s", seconds <= 0.15)


def detection(cli: DevBench) -> None:
    imports, totals, firsts = [], [], []
    for _ in range(6):
        start = time.perf_counter()
        words = [sys.executable, "-c", "import tensorflow"]
        subprocess.run(words, env=installed(cli), capture_output=True, check=True)
        imports.append(time.perf_counter() - start)
        start = time.perf_counter()
        with subprocess.Popen(
            [program(), "detect"], env=installed(cli), stdout=subprocess.PIPE
        ) as child:
            assert child.stdout is not None
            child.stdout.readline()
            firsts.append(time.perf_counter() - start)
            child.stdout.read()
        totals.append(time.perf_counter() - start)
    bare, total, first = (statistics.median(one[1:]) for one in (imports, totals, firsts))
    line("devbench detect: hardware shown after", f"{first:.3f} s", "<= 0.30 s", first <= 0.3)
    bound = 1.15 * bare + 0.3
    line(
        f"devbench detect, whole (bare import of tensorflow {bare:.2f} s)",
        f"{total:.2f} s",
        f"<= {bound:.2f} s",
        total <= bound,
    )


def quick_run(cli: DevBench) -> None:
    """What `make run` does."""
    start = time.perf_counter()
    child = subprocess.Popen(
        [
            *(program(), "run", "matmul", "mlp", "cnn", "data_parallel"),
            *("--quick", "--report", "report.html", "--json"),
        ],
        env=installed(cli),
        cwd=cli.home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    watched = _watch(child)
    out, err = child.communicate()
    seconds = time.perf_counter() - start
    if child.returncode != 0:
        raise SystemExit(err)
    answer = json.loads(out)
    line(
        "devbench run --quick as in `make run`, with report",
        f"{seconds:.1f} s",
        "<= 90 s",
        seconds <= 90,
    )
    targets = answer["run"]["environment"]["targets"].values()
    served = sum(target["served_s"] for target in targets)
    timed = timed_seconds(cli)
    share = timed / served
    line(
        "workers' time after import in warm-up and timing", f"{share:.0%}", ">= 60 %", share >= 0.6
    )
    megabytes, cpu = watched()
    line("parent: most memory", f"{megabytes:.0f} MB", "<= 250 MB", megabytes <= 250)
    line("parent: share of a core while workers time", f"{cpu:.1%}", "<= 2 %", cpu <= 0.02)


def share(cli: DevBench, *more: str) -> None:
    """With the imports of two frameworks in each of five rounds, and everything before and after."""
    params = ["--param", "n=256,512,1024,2048", "--param", "dtype=float32"]
    words = [program(), "run", "matmul", "mlp", *params, *more, "--json"]
    start = time.perf_counter()
    done = subprocess.run(
        words, env=installed(cli), cwd=cli.home, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    answer = json.loads(done.stdout)
    targets = answer["run"]["environment"]["targets"].values()
    imports = sum(target["import_s"] for target in targets) * answer["results"][0]["rounds"]
    part = timed_seconds(cli) / seconds
    line(
        f"run of {len(answer['results'])} cases, {seconds:.0f} s (imports {imports:.0f} s): timing",
        f"{part:.0%}",
        ">= 80 %",
        part >= 0.8,
    )


def _watch(child: subprocess.Popen[str]) -> Callable[[], tuple[float, float]]:
    """Most memory (MB) of the process, and its share of a core while it had a worker but no
    report to write: between the 10th and the 80th percentile of its life."""
    process = psutil.Process(child.pid)
    seen: list[tuple[float, float, float]] = []

    def look() -> None:
        while child.poll() is None:
            try:
                with process.oneshot():
                    cpu = process.cpu_times()
                    seen.append(
                        (time.monotonic(), process.memory_info().rss / 1e6, cpu.user + cpu.system)
                    )
            except psutil.NoSuchProcess:
                return
            time.sleep(0.25)

    thread = threading.Thread(target=look)
    thread.start()

    def result() -> tuple[float, float]:
        thread.join()
        middle = seen[len(seen) // 4 : int(len(seen) * 0.8)]
        (first, _, before), (last, _, after) = middle[0], middle[-1]
        return max(memory for _, memory, _ in seen), (after - before) / (last - first)

    return result
