"""What may happen to a measurement, made to happen for real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from devbench.detection import read_host
from devbench.detection.peaks import find_core
from devbench.process import oom_kills
from devbench.telemetry.clocks import CpuClocks
from devbench.telemetry.rapl import read_packages
from tests.control_groups import control_group
from tests.helpers import DevBench, environment

SUITE = '''
import os, time, weakref
from pathlib import Path
import numpy as np
from devbench import Step, Work, benchmark


class Simple:
    def inputs(self, rng, n):
        return {"x": rng.standard_normal(4)}

    def reference(self, n, x):
        Path(os.environ["FAKE_FOLDER"], f"{type(self).__name__}-{n}").touch()
        if n == 2:
            np.empty(1 << 57)  # an exbibyte
        return x

    def fake(self, ctx, x):
        return lambda: x


@benchmark(name="huge", axes={"n": [1]}, size="n")
class Huge(Simple):
    """Few operations on more memory than there is."""

    def work(self, n):
        return Work(flops=1, bytes=1e18, footprint=1e18)


@benchmark(name="greedy", axes={"n": [1, 2, 3]}, quick={"n": [1, 2, 3]}, size="n")
class Greedy(Simple):
    """Its reference has no room at n = 2."""


@benchmark(name="slowing", axes={"n": [1]})
class Slowing(Simple):
    """Each call takes a quarter longer than the one before, from 4 ms on and up to 250 ms."""

    def fake(self, ctx, x):
        seconds = [4e-3]

        def run():
            end = time.perf_counter() + seconds[0]
            while time.perf_counter() < end:
                pass
            seconds[0] = min(0.25, 1.25 * seconds[0])
            return x

        return Step(run)


HELD = []


@benchmark(name="held", axes={"n": [1, 3]}, quick={"n": [1, 3]})
class Held(Simple):
    """Its step holds itself, as a network does; the next case must find nothing of it."""

    reference = None

    def fake(self, ctx, x):
        if any(one() is not None for one in HELD):
            raise RuntimeError("the step of the case before is still there")

        class Network:
            def __init__(self):
                self.layers = [self]

            def __call__(self):
                return x

        network = Network()
        HELD.append(weakref.ref(network))
        return network


@benchmark(name="hungry", axes={"n": [1, 5, 6]}, quick={"n": [1, 5, 6]}, size="n")
class Hungry(Simple):
    """From n = 5 on it takes memory until it is ended."""

    def fake(self, ctx, n, x):
        def run():
            kept = []
            while n >= 5:
                kept.append(bytearray(os.urandom(1 << 20) * 16))
            return x

        return run
'''


def words(folder: Path, *select: str) -> tuple[str, ...]:
    suite = folder / "engine_suite.py"
    suite.write_text(SUITE, encoding="utf-8")
    more = (
        "--suite-path",
        str(suite),
        "--framework",
        "fake",
        "--device",
        "cpu",
        "--quick",
        "--json",
    )
    return ("run", *select, *more)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("engine")
    done = DevBench(folder)(
        *words(folder, "huge", "greedy", "slowing", "held"), env={"FAKE_FOLDER": str(folder)}
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    found = {row["case_id"].split("@")[0]: row for row in told["results"]}
    referenced = sorted(file.name for file in folder.glob("*-[0-9]"))
    return found | {"referenced": referenced, "targets": told["run"]["environment"]["targets"]}


def test_the_reference_of_a_case_that_cannot_fit_is_not_computed(rows: Any) -> None:
    assert rows["huge[n=1]"]["reason"].startswith("does-not-fit: needs 1e+09 GB and ")
    assert rows["referenced"] == ["Greedy-1", "Greedy-2", "Greedy-3", "Slowing-1"]


def test_a_reference_that_finds_no_memory_is_one_row_and_prunes_the_larger_sizes(rows: Any) -> None:
    assert rows["greedy[n=1]"]["status"] == "ok"
    assert rows["greedy[n=2]"]["status"] == "oom"
    assert rows["greedy[n=2]"]["reason"].startswith(
        "out-of-memory: on the host, for its reference: "
    )
    assert rows["greedy[n=3]"]["reason"] == "after-oom: n=2 ran out of memory"


def test_a_step_that_gets_slower_all_the_time_is_called_not_steady(rows: Any) -> None:
    row = rows["slowing[n=1]"]
    assert row["quality"] == "suspect"
    [doubt] = [one for one in row["quality_reasons"] if one.startswith("not-steady")]
    assert doubt.startswith("not-steady: +")


def test_a_case_is_freed_before_the_next_one_is_built(rows: Any) -> None:
    assert [rows[f"held[n={n}]"]["status"] for n in (1, 3)] == ["ok", "ok"]


def test_why_a_cpu_has_no_peak_is_recorded(rows: Any) -> None:
    clocks = CpuClocks(Path("/"), tuple(sorted(os.sched_getaffinity(0))))
    clocks.close()
    reason = rows["targets"]["fake:cpu"].get("peak_unread")
    if find_core(read_host()) is None:
        assert "does a clock is not known" in reason
    else:
        assert reason == clocks.unread


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells")
def test_why_a_figure_of_the_telemetry_is_missing_is_recorded(rows: Any) -> None:
    reasons = rows["targets"]["fake:cpu"]["telemetry_unread"]
    packages, refused = read_packages(Path("/"))
    assert packages or reasons["energy_j"] == refused


@pytest.mark.skipif(sys.platform != "linux", reason="sets the affinity")
def test_an_affinity_below_the_threads_is_respected_and_more_threads_are_refused(
    tmp_path: Path,
) -> None:
    one = min(os.sched_getaffinity(0))
    done = subprocess.run(
        DevBench(tmp_path).command(("run", "sum[n=100]", "--framework", "fake", "--threads", "2")),
        env=environment(tmp_path),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, {one}),
    )
    assert done.returncode == 2
    assert done.stderr == "devbench: --threads 2: between 1 and 1 CPUs are usable here\n"


@pytest.mark.skipif(oom_kills() is None, reason="the kernel does not count whom it kills")
def test_a_worker_that_the_kernel_kills_for_memory_is_out_of_memory_and_prunes_the_larger_sizes(
    tmp_path: Path,
) -> None:
    limit = str(400 << 20)
    limits = {1: ("memory.limit_in_bytes", limit), 2: ("memory.max", limit)}
    with control_group("memory", limits) as group:
        done = subprocess.run(
            DevBench(tmp_path).command(words(tmp_path, "hungry")),
            env=environment(tmp_path, FAKE_FOLDER=str(tmp_path)),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=lambda: (group / "cgroup.procs").write_text(str(os.getpid())),
        )
    assert done.returncode == 0, done.stderr
    small, killed, larger = json.loads(done.stdout)["results"]
    assert small["status"] == "ok"
    assert killed["status"] == "oom"
    assert killed["reason"].startswith("out-of-memory: the kernel ended it for want of memory")
    assert larger["reason"] == "after-oom: n=5 ran out of memory"


def test_kills_are_counted_where_the_kernel_tells(tmp_path: Path) -> None:
    assert oom_kills(tmp_path) is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/vmstat").write_text("nr_free_pages 7\noom_kill 12\npswpin 3\n")
    assert oom_kills(tmp_path) == 12
