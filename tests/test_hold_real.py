"""Where the threads of the real torch and the real TensorFlow run while a case is held to be timed."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from devbench.detection import usable_threads
from devbench.measure.binding import cores
from devbench.model import Target
from devbench.process import WorkerProcess
from devbench.registry import frameworks
from tests.helpers import environment
from tests.test_hold import LIMITS


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads are bound on Linux only")
@pytest.mark.parametrize(
    ("framework", "address"),
    [
        pytest.param("torch", "cpu", marks=pytest.mark.torch),
        pytest.param("tensorflow", "CPU:0", marks=pytest.mark.tensorflow),
    ],
)
def test_the_threads_of_a_step_have_a_cpu_each_until_it_is_dropped(
    framework: str, address: str, tmp_path: Path
) -> None:
    threads, target = usable_threads(), Target(framework, (address,))
    cpus = os.sched_getaffinity(0)
    if threads not in (len(cpus), cores(cpus)):
        pytest.skip("a quota grants fewer threads than there are cores")
    variables = environment(tmp_path) | frameworks()[framework].environment(target, threads)
    worker = WorkerProcess(variables, tmp_path / "log")

    def ask(kind: str, **fields: Any) -> Any:
        worker.send(kind, **fields)
        while (answer := worker.receive(120))["type"] == "doing":
            pass
        return answer

    def confined() -> list[set[int]]:
        """The CPUs of each thread that may not use all of them."""
        tids = [int(task.name) for task in Path(f"/proc/{worker.pid}/task").iterdir()]
        masks = [os.sched_getaffinity(tid) for tid in tids]
        return [mask for mask in masks if mask != os.sched_getaffinity(0)]

    try:
        assert ask("start", target=target.to_json(), threads=threads)["type"] == "ready"
        source = {"suite": "matmul", "kind": "module", "location": "devbench_suites.matmul"}
        held = ask(
            "hold",
            source=source,
            benchmark="matmul",
            params={"n": 512, "dtype": "float32"},
            seed=0,
            limits=LIMITS,
            scratch=str(tmp_path),
            kept=None,
            check=None,
            roots=[],
            tops=[],
        )
        assert held["facts"]["pinned"] is True
        masks = confined()
        assert len(masks) >= threads
        assert all(len(mask) == 1 for mask in masks)
        assert len(set.union(*masks)) == threads
        ask("drop")
        assert confined() == []
    finally:
        worker.close()
