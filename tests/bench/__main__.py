"""``make bench``: what devbench itself costs, each figure beside its target.

Run on a machine that does nothing else. Absolute times are for people; nothing fails here.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.helpers import DevBench, environment


def main() -> None:
    wanted = sys.argv[1:]
    for bench in (start_up, detection, quick_run):
        if not wanted or bench.__name__ in wanted:
            with tempfile.TemporaryDirectory() as folder:
                bench(DevBench(Path(folder)))


def line(what: str, figure: str, target: str, met: bool) -> None:
    print(f"{what:<58} {figure:>12}  target {target:<10} {'met' if met else 'MISSED'}", flush=True)


def median_seconds(run: Callable[[], object], times: int) -> float:
    run()
    found = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def program() -> str:
    return str(Path(sys.executable).parent / "devbench")


def start_up(cli: DevBench) -> None:
    def show_help() -> None:
        subprocess.run([program(), "--help"], env=_compiled(cli), capture_output=True, check=True)

    seconds = median_seconds(show_help, 15)
    line("devbench --help", f"{seconds:.3f} s", "<= 0.15 s", seconds <= 0.15)


def _compiled(cli: DevBench) -> dict[str, str]:
    """An installed package has its bytecode; a checkout gets it on the first run."""
    variables = environment(cli.home)
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    variables.pop("PYTHONPATH")
    return variables


def detection(cli: DevBench) -> None:
    imports, totals, firsts = [], [], []
    for _ in range(6):
        start = time.perf_counter()
        words = [sys.executable, "-c", "import tensorflow"]
        subprocess.run(words, env=_compiled(cli), capture_output=True, check=True)
        imports.append(time.perf_counter() - start)
        start = time.perf_counter()
        with subprocess.Popen(
            [program(), "detect"], env=_compiled(cli), stdout=subprocess.PIPE
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
    start = time.perf_counter()
    child = subprocess.Popen(
        [program(), "run", "--quick", "--report", "report.html", "--json"],
        env=_compiled(cli),
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
        "devbench run --quick, both frameworks, with report",
        f"{seconds:.1f} s",
        "<= 90 s",
        seconds <= 90,
    )
    targets = answer["run"]["environment"]["targets"].values()
    served = sum(target["served_s"] for target in targets)
    timed = _timed(cli)
    share = timed / served
    line(
        "workers' time after import in warm-up and timing", f"{share:.0%}", ">= 60 %", share >= 0.6
    )
    megabytes, cpu = watched()
    line("parent: most memory", f"{megabytes:.0f} MB", "<= 250 MB", megabytes <= 250)
    line("parent: share of a core while workers time", f"{cpu:.1%}", "<= 2 %", cpu <= 0.02)


def _timed(cli: DevBench) -> float:
    out = subprocess.run(
        [program(), "export"], env=_compiled(cli), capture_output=True, text=True, check=True
    ).stdout
    return sum(
        float(measurement.get("warmup_s", 0.0) + measurement.get("timing_s", 0.0))
        for measurement in json.loads(out)["measurements"]
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


if __name__ == "__main__":
    main()
