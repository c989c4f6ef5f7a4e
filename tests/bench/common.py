"""What the benches share."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.helpers import DevBench, environment

ROOT = Path(__file__).parents[2]


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


def installed(cli: DevBench) -> dict[str, str]:
    """An installed package has its bytecode; a checkout gets it on the first run."""
    variables = environment(cli.home)
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    variables.pop("PYTHONPATH")
    return variables


def timed_seconds(cli: DevBench) -> float:
    """Seconds inside warm-up and timing of the latest run."""
    out = subprocess.run(
        [program(), "export"], env=installed(cli), capture_output=True, text=True, check=True
    ).stdout
    return sum(
        float(measurement.get("warmup_s", 0.0) + measurement.get("timing_s", 0.0))
        for measurement in json.loads(out)["measurements"]
    )
