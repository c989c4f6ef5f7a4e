"""The quick sweep of every suite, in both frameworks: how long it takes and what it holds."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections import Counter

import psutil

from tests.bench.common import installed, line, program
from tests.helpers import DevBench


def every_suite(cli: DevBench) -> None:
    """Memory is the resident memory of all processes of the run added up, so pages that several of
    them share count several times."""
    start = time.perf_counter()
    child = subprocess.Popen(
        [program(), "run", "--quick", "--json"],
        env=installed(cli),
        cwd=cli.home,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    held: list[int] = []
    watching = threading.Thread(target=_watch, args=(child, held))
    watching.start()
    out, _ = child.communicate()
    watching.join()
    minutes = (time.perf_counter() - start) / 60
    rows = json.loads(out)["results"]
    found = Counter(row["status"] for row in rows)
    bad = [
        row["case_id"]
        for row in rows
        if row["status"] not in ("ok", "skipped") or row["numerics"] in ("mismatch", "unchecked")
    ]
    told = ", ".join(f"{count} {status}" for status, count in found.items())
    line(
        f"devbench run --quick, every suite ({told})",
        f"{minutes:.1f} min",
        "<= 6 min",
        minutes <= 6,
    )
    gigabytes = max(held) / 1e9
    line("its processes together: most memory", f"{gigabytes:.2f} GB", "<= 6 GB", gigabytes <= 6)
    line("rows that failed, or whose result is not right", str(len(bad)), "0", not bad)
    for case in bad:
        print(f"  {case}")


def _watch(child: subprocess.Popen[str], held: list[int]) -> None:
    process = psutil.Process(child.pid)
    while child.poll() is None:
        total = 0
        try:
            family = [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for one in family:
            try:
                total += one.memory_info().rss
            except psutil.NoSuchProcess:  # ended since it was listed
                continue
        held.append(total)
        time.sleep(0.25)
