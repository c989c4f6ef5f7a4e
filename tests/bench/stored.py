"""What the verbs on stored runs cost, over as many as a year of nightly runs of a large project leaves."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

from devbench.model import Case, Measurement, Run, RunInfo, Target, Work
from devbench.store import Store
from tests.bench.common import installed, line, program
from tests.helpers import DevBench

_FACTS = {"physical_device": "cpu", "device_name": "A CPU", "framework_version": "2.13.0"}


def compared(cli: DevBench) -> None:
    store = cli.home / "compared.sqlite"
    with Store.open(str(store)) as opened:
        for run in _runs(count=2, cases=1000, rounds=5, samples=20):
            opened.import_run(run)
    words = ("compare", "run-0", "run-1", "--json", "--store", str(store))
    seconds, _ = min(_costs(cli, *words) for _ in range(3))
    what = "compare: 1,000 cases x 5 rounds, the best wall time of 3"
    line(what, f"{seconds:.2f} s", "<= 2 s", seconds <= 2)


def many_runs(cli: DevBench) -> None:
    """300,000 measurements are made first, which takes minutes."""
    store = cli.home / "many.sqlite"
    with Store.open(str(store)) as opened:
        made = _runs(count=1000, cases=300, rounds=1, samples=100)
        while some := list(itertools.islice(made, 20)):
            opened.import_runs(some)
    megabytes = sum(file.stat().st_size for file in cli.home.glob("many.sqlite*")) / 1e6
    line("a store of 1,000 runs x 300 cases", f"{megabytes:.0f} MB", "<= 500 MB", megabytes <= 500)
    seconds, most = min(_costs(cli, "history", "--store", str(store)) for _ in range(3))
    what = "history over them, the best wall time of 3"
    line(what, f"{seconds:.2f} s", "<= 5 s", seconds <= 5)
    line("history over them, memory", f"{most:.0f} MB", "<= 1 GB", most <= 1000)


def _costs(cli: DevBench, *words: str) -> tuple[float, float]:
    """Wall time in seconds and most memory in MB of one call."""
    start = time.perf_counter()
    child = subprocess.Popen([program(), *words], env=installed(cli), stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in (0, 1, 4):
        raise SystemExit(f"devbench {' '.join(words)} ended with {child.returncode}")
    return seconds, usage.ru_maxrss / 1000


def _runs(count: int, cases: int, rounds: int, samples: int) -> Iterator[Run]:
    """Runs of one a day whose times scatter by a few percent, and get slower by a tenth half-way."""
    draw = random.Random(0)
    target = Target("torch", ("cpu",))
    known = tuple(
        Case("bench", "step", (("n", n),), target, Work(flops=float(n + 1))) for n in range(cases)
    )
    noon = datetime(2024, 1, 1, 12, tzinfo=UTC)
    for place in range(count):
        at = (noon + timedelta(days=place)).isoformat(timespec="milliseconds")
        slower = 1.1 if place >= count / 2 else 1.0
        yield Run(
            info=RunInfo(
                id=f"run-{place}",
                label=None,
                started_at=at,
                finished_at=at,
                state="complete",
                devbench_version="0.1.0",
                settings={"rounds": rounds},
                environment={"targets": {str(target): _FACTS}, "git": _commit(place)},
            ),
            cases=known,
            measurements=tuple(
                Measurement(
                    case_id=case.id,
                    round=number,
                    status="ok",
                    started_at=at,
                    mode="eager",
                    yardstick="gemm 192x192 float32",
                    yardstick_s=1e-4 * draw.gauss(1, 0.02),
                    samples=tuple(1e-3 * slower * draw.gauss(1, 0.02) for _ in range(samples)),
                )
                for case in known
                for number in range(rounds)
            ),
        )


def _commit(place: int) -> Mapping[str, str | bool]:
    return {"commit": f"{place:040x}", "dirty": False}
