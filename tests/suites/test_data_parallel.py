"""data_parallel: replicas train as one device does, and a rank that is lost costs one row."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest

from devbench import Context, Step, Unsupported, benchmark
from devbench.declare import Benchmark
from devbench.measure.bench import Bench
from devbench.measure.inputs import draw
from devbench.measure.visit import outcome
from devbench.model import Target, dtype
from devbench.registry import frameworks
from devbench_suites import data_parallel
from devbench_suites._ranks import RankFailed, Ranks, serve
from tests.plugins.devbench_fake import FakeFramework
from tests.suites.harness import SEED, builtin, verdict

STRATEGIES = ("data_parallel_ddp", "data_parallel_dp", "data_parallel_mirrored")
DDP, DP, MIRRORED = (builtin(name, "data_parallel")[0] for name in STRATEGIES)
POINT: dict[str, Any] = {"network": "cnn", "scaling": "weak", "batch": 8, "world_size": 2}


class Idle:
    """A rank without a framework."""

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def step(self) -> float:
        return 0.001

    def stall(self) -> None:
        time.sleep(60)

    def refuse(self) -> None:
        if self.rank == 1:
            raise ValueError("rank 1 will not")

    def starve(self) -> None:
        raise MemoryError("no room")

    def leave(self) -> None:
        print("out of patience", file=sys.stderr)
        raise SystemExit(3)


@pytest.fixture(autouse=True)
def same_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks find what the tests find."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))


def idle_ranks(scratch: Path, patience_s: float = 30) -> Ranks:
    jobs = [{"rank": rank} for rank in range(2)]
    return Ranks("tests.suites.test_data_parallel", jobs, scratch, {}, patience_s)


def context(scratch: Path, framework: str, device: str, *more: str, threads: int = 2) -> Context:
    return Context(
        framework=framework,
        device=device,
        devices=(device, *more),
        dtype=dtype("float32"),
        mode="",
        threads=threads,
        params=POINT,
        scratch=scratch,
        compile=lambda function: function,
    )


def build(declared: Benchmark, ctx: Context, **point: Any) -> tuple[Step, dict[str, Any]]:
    """The step, built in this process, which needs no framework for it; and the inputs."""
    params = POINT | point
    inputs = draw(declared, params, SEED)
    step = declared.call(ctx.framework, params, ctx=ctx, **inputs)
    assert isinstance(step, Step)
    return step, inputs


def answer(step: Step) -> Any:
    assert step.output is not None
    return step.output(step.run())


def rank_pid(rank: int) -> int:
    """The rank among the children of this process."""
    (found,) = (
        child.pid
        for child in psutil.Process().children()
        if child.cmdline()[-1].endswith(f"rank-{rank}.job")
    )
    return found


def gone(pid: int) -> bool:
    try:  # a process that nobody waits for stays in the table
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.torch
def test_ddp_trains_as_one_device_does_until_a_killed_rank_fails_its_row(tmp_path: Path) -> None:
    step, inputs = build(DDP, context(tmp_path, "torch", "cpu"))
    assert step.clock is not None
    assert step.metrics is not None
    assert step.close is not None
    pids = [rank_pid(0), rank_pid(1)]
    try:
        found = verdict(DDP, POINT, inputs, answer(step))
        assert found.numerics == "match", found
        assert step.clock() > 0
        metrics = dict(step.metrics())
        assert metrics["threads_per_rank"] == 1
        assert float(metrics["compute_s"]) > 0
        assert {"slowest_rank_s", "all_reduce_s", "optimizer_s", "peak_memory_bytes"} < set(metrics)

        os.kill(pids[1], signal.SIGKILL)  # rank 0 complains of its peer; that is not the reason
        with pytest.raises(RankFailed, match=r"^rank 1 was killed by SIGKILL$"):
            step.run()
        assert all(map(gone, pids))
    finally:
        step.close()


@pytest.mark.tensorflow
def test_mirrored_variables_train_as_one_device_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Target("tensorflow", ("CPU:0",))
    for name, value in frameworks()["tensorflow"].environment(target, 2).items():
        monkeypatch.setenv(name, value)
    step, inputs = build(MIRRORED, context(tmp_path, "tensorflow", "/CPU:0"))
    assert step.metrics is not None
    assert step.close is not None
    pid = rank_pid(0)
    try:
        found = verdict(MIRRORED, POINT, inputs, answer(step))
        assert found.numerics == "match", found
        metrics = dict(step.metrics())
        assert str(metrics["scaling"]).startswith("path only")
        assert float(metrics["compute_s"]) > 0
    finally:
        step.close()
    assert gone(pid)


@pytest.mark.tensorflow
def test_the_process_of_mirrored_variables_is_given_the_gpu_that_was_asked_for() -> None:
    """In the worker of the machine's fourth GPU that one is /GPU:0; a fresh process counts them all."""
    done = subprocess.run(
        [sys.executable, "-c", FOURTH_GPU], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


FOURTH_GPU = """
from types import SimpleNamespace
import tensorflow as tf
from devbench_suites.data_parallel import _physical

names = [SimpleNamespace(name=f"/physical_device:GPU:{index}") for index in (1, 3)]
tf.config.get_visible_devices = lambda kind: names
assert _physical(("/GPU:1",)) == ("GPU:3",)
assert _physical(("/GPU:0", "/GPU:1")) == ("GPU:1", "GPU:3")
"""


def test_ranks_leave_no_file_behind(tmp_path: Path) -> None:
    """A job is as large as the inputs, and a run has hundreds of them."""
    ranks = idle_ranks(tmp_path)
    assert not list(tmp_path.rglob("*.job"))
    ranks.close()
    assert not list(tmp_path.iterdir())


def test_a_stopped_rank_is_named_after_bounded_time_and_none_is_left(tmp_path: Path) -> None:
    ranks = idle_ranks(tmp_path, patience_s=0.5)
    os.kill(ranks.pids[1], signal.SIGSTOP)
    with pytest.raises(RankFailed, match=r"'step' within 0.5 s from rank 1 \(stopped\)$"):
        ranks.ask("step")
    assert all(map(gone, ranks.pids))


@pytest.mark.parametrize(
    ("request_", "error", "reason"),
    [
        ("refuse", RankFailed, "^rank 1: ValueError: rank 1 will not$"),
        ("starve", MemoryError, "^rank [01]: MemoryError: no room$"),
        ("leave", RankFailed, "^rank [01] ended with exit status 3: out of patience$"),
    ],
)
def test_what_goes_wrong_in_a_rank_is_what_its_row_says(
    tmp_path: Path, request_: str, error: type[Exception], reason: str
) -> None:
    ranks = idle_ranks(tmp_path)
    with pytest.raises(error, match=reason):
        ranks.ask(request_)
    assert all(map(gone, ranks.pids))


def test_ranks_end_with_a_killed_worker_in_a_step_and_stopped(tmp_path: Path) -> None:
    script = f"""
import os, signal
from pathlib import Path
from tests.suites.test_data_parallel import idle_ranks
ranks = idle_ranks(Path({str(tmp_path)!r}))
os.kill(ranks.pids[1], signal.SIGSTOP)
print(*ranks.pids, flush=True)
ranks.ask("stall")
"""
    worker = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        start_new_session=True,  # as the runner starts its workers
    )
    assert worker.stdout is not None
    with worker.stdout as out:
        pids = [int(word) for word in out.readline().split()]
    assert len(pids) == 2
    assert not any(map(gone, pids))
    worker.kill()
    worker.wait()
    end = time.monotonic() + 20
    while not all(map(gone, pids)):
        assert time.monotonic() < end, [psutil.Process(pid) for pid in pids if not gone(pid)]
        time.sleep(0.02)


def test_a_rank_that_dies_is_one_failed_row_with_its_reason(tmp_path: Path) -> None:
    others = set(psutil.Process().children())

    class Waiting:
        reference = None  # nothing is computed

        def fake(self, ctx: Context) -> Step:
            return data_parallel._step(idle_ranks(ctx.scratch), {})

    declared = benchmark(name="idle", axes={"world_size": [2]})(Waiting)
    framework: Any = FakeFramework()
    bench = Bench(declared, {"world_size": 2}, framework, ("cpu",), 2, SEED, tmp_path)

    def measure() -> dict[str, Any]:
        with bench.build() as (step, _):
            assert step.clock is not None
            assert step.clock() == 0.001
            os.kill(rank_pid(0), signal.SIGKILL)
            return {"samples": [step.clock()]}

    facts = outcome(bench, measure)
    assert facts["status"] == "failed"
    assert facts["reason"] == "error"
    assert "RankFailed: rank 0 was killed by SIGKILL" in facts["detail"]
    assert set(psutil.Process().children()) <= others


@pytest.mark.parametrize(
    ("declared", "devices", "point", "reason"),
    [
        (DDP, ["cpu"], {"world_size": 4}, "4 ranks of one CPU thread each; there are 2 threads"),
        (DDP, ["cuda:0", "cuda:1"], {"world_size": 4}, "asks for 4 devices; there are 2"),
        (DDP, ["mps"], {}, "over gloo on a CPU or NCCL on CUDA, not on mps"),
        (DP, ["cpu"], {}, "silently falls back to the plain module"),
        (DP, ["cuda:0"], {}, "asks for 2 devices; there are 1"),
        (MIRRORED, ["/GPU:0"], {}, "asks for 2 devices; there are 1"),
        (MIRRORED, ["/CPU:0"], {"batch": 9, "scaling": "strong"}, "a batch of 9 cannot be shared"),
        (DDP, ["cpu"], {"batch": 9, "scaling": "strong"}, "a batch of 9 cannot be shared evenly"),
        (DDP, ["cpu"], {"world_size": 0, "scaling": "strong"}, "world_size must be at least 1"),
    ],
)
def test_what_cannot_run_is_skipped_with_the_reason(
    tmp_path: Path, declared: Benchmark, devices: list[str], point: dict[str, Any], reason: str
) -> None:
    (framework,) = declared.builders
    with pytest.raises(Unsupported, match=reason):
        build(declared, context(tmp_path, framework, *devices), **point)


def no_loopback(patch: pytest.MonkeyPatch) -> None:
    other = SimpleNamespace(address="192.0.2.1")
    patch.setattr(psutil, "net_if_addrs", lambda: {"lo": [], "eth0": [other]})


def no_shared_memory(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(data_parallel, "os", SimpleNamespace(access=lambda *_: False, W_OK=os.W_OK))


@pytest.mark.parametrize(
    ("lacking", "devices", "reason"),
    [
        (no_loopback, ["cpu"], "the loopback interface, which is missing or down"),
        (no_shared_memory, ["cuda:0", "cuda:1"], "through /dev/shm, which is not writable"),
    ],
)
def test_what_a_machine_lacks_is_the_reason(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lacking: Callable[[pytest.MonkeyPatch], None],
    devices: list[str],
    reason: str,
) -> None:
    lacking(monkeypatch)
    with pytest.raises(Unsupported, match=reason):
        build(DDP, context(tmp_path, "torch", *devices))


def test_replicas_that_drift_apart_are_caught() -> None:
    def replica(weight: float, loss: float) -> dict[str, Any]:
        return {
            "loss": loss,
            "gradients": {"w": np.ones(2)},
            "weights": {"w": np.array([1, weight])},
        }

    assert data_parallel.agreed([replica(2, 1.0), replica(2, 3.0)])["loss"] == 2.0
    with pytest.raises(RankFailed, match="the weights of w on replica 1 differ"):
        data_parallel.agreed([replica(2, 1.0), replica(np.nextafter(2, 3), 1.0)])


def test_the_parts_of_a_step_add_up_to_it() -> None:
    times = {"compute": [1.0, 4.0, 2.0], "gradients": [5.0, 5.0, 5.5], "step": [6.0, 6.25, 6.0]}
    times["memory"] = [10.0, 30.0, 20.0]
    assert data_parallel.breakdown(lambda part: times[part], seconds=0) == {
        "compute_s": 2.0,
        "slowest_rank_s": 2.0,
        "all_reduce_s": 1.5,
        "optimizer_s": 0.75,
        "peak_memory_bytes": 30.0,
    }


@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_strong_scaling_declares_the_work_of_one_device_and_weak_that_of_each(network: str) -> None:
    alone, _ = builtin(network)
    point: dict[str, Any] = {"batch": 64, "phase": "train_step"}
    single = alone.work(point | ({"hidden": 1024} if network == "mlp" else {}))
    assert single.flops is not None
    for scaling, times in (("strong", 1), ("weak", 4)):
        work = DDP.work({"network": network, "scaling": scaling, "batch": 64, "world_size": 4})
        assert work.flops == times * single.flops
        assert work.items == times * 64


if __name__ == "__main__":
    serve(Idle)
