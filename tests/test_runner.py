"""The runner with workers that answer from this process, at once and as wanted."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pytest

from devbench import Context, Step, Work, benchmark
from devbench.declare import Benchmark
from devbench.model import Case, Json, Result, Run, RunInfo, Target
from devbench.process import WorkerProcess
from devbench.protocol import Message
from devbench.registry import Catalog, Source
from devbench.runner import Runner
from devbench.settings import Settings
from devbench.stats.results import summarize
from devbench.store import Store
from devbench.telemetry import GpuSummary, HostSummary, Summary
from tests.plugins.devbench_fake import FakeFramework

DEVICE = Target("fake", ("dev:0",))
STARTED = "2026-01-31T12:00:00.000+00:00"


class Declared:
    reference: Any = None

    def work(self, n: int) -> Work:
        return Work(flops=n, footprint=1000 * n)

    def fake(self, ctx: Context) -> Step:
        return Step(lambda: None)


PROBE: Benchmark = benchmark(name="probe", axes={"n": [1, 2]}, size="n")(Declared)
CATALOG = Catalog({"probe": PROBE}, {"suite": Source("suite", "source", "")}, ())


class World:
    """What a test wants to happen in a run, and what happened, in order."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.happened: list[str] = []
        self.watched: list[Sequence[str]] = []
        self.facts: dict[str, Any] = {"samples": [1e-3] * 5, "clock_tick_s": 5e-8}
        self.ceilings: Json = None
        self.gpus: list[Json] = []
        self.windows: list[Summary] = []
        self.free: Callable[[], int | None] = lambda: None
        monkeypatch.setattr("devbench.runner.frameworks", lambda: {"fake": FakeFramework()})
        monkeypatch.setattr("devbench.runner.WorkerProcess", lambda *_: FakeWorker(self))
        monkeypatch.setattr("devbench.runner.Sampler", lambda gpus, **_: FakeSampler(self, gpus))

    def run(self, target: Target = DEVICE, sizes: Sequence[int] = (1,), **facts: Json) -> Run:
        """The run as it is stored. facts: what stands of the target before its worker starts."""
        cases = [Case("suite", "probe", (("n", n),), target, PROBE.work({"n": n})) for n in sizes]
        environment: dict[str, Json] = {
            "machine": {"gpus": self.gpus},
            "targets": {str(target): {"physical_device": "fake-0", **facts}},
        }
        settings = Settings.for_quick()
        info = RunInfo(
            id="20260131-120000-ab12",
            label=None,
            started_at=STARTED,
            finished_at=None,
            state="running",
            devbench_version="0.1.0",
            settings=settings.to_json(),
            environment=environment,
        )
        with Store.open(str(self.folder / "results.sqlite")) as store:
            store.create_run(info, cases)
            runner = Runner(
                run_id=info.id,
                cases=cases,
                catalog=CATALOG,
                settings=settings,
                environment=environment,
                threads=8,
                free_memory=lambda target: self.free(),
                sink=store,
                tell=lambda event: None,
                log=self.folder / "log",
            )
            assert runner.run()
            return store.load(info.id)

    def rows(self, **more: Any) -> list[Result]:
        return summarize(self.run(**more))


class Referenced(Declared):
    def reference(self) -> None:
        raise AssertionError("computed")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


class FakeWorker:
    pid = os.getpid()

    def __init__(self, world: World) -> None:
        self._world = world
        self._answers: deque[dict[str, Any]] = deque()

    def send(self, kind: str, **fields: Any) -> None:
        phases = [{"type": "doing", "phase": phase} for phase in ("build", "timing", "closing")]
        measured = {"status": "ok", "mode": "eager", "threads": 8, **self._world.facts}
        answers: dict[str, list[dict[str, Any]]] = {
            "start": [
                {
                    "type": "ready",
                    "version": "1.0",
                    "file": "fake.py",
                    "build": {},
                    "settings": {},
                    "import_s": 0.1,
                    "threads_used": None,
                }
            ],
            "ceilings": [{"type": "ceilings", "found": self._world.ceilings, "error": None}],
            "measure": [*phases, {"type": "measured", "facts": dict(measured)}],
        }
        self._answers += answers[kind]

    def receive(self, timeout_s: float) -> Mapping[str, Any]:
        answer = self._answers.popleft()
        self._world.happened.append(str(answer.get("phase", answer["type"])))
        return answer

    def close(self) -> None:
        self._world.happened.append("gone")


class Interrupted(WorkerProcess):
    """A real process; Ctrl-C comes while its answer is awaited."""

    def receive(self, timeout_s: float) -> Message:
        raise KeyboardInterrupt


class FakeSampler:
    no_cpu_clock = None

    def __init__(self, world: World, gpus: Sequence[str]) -> None:
        self._world = world
        world.watched.append(gpus)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def start_window(self) -> None:
        self._world.happened.append("watch")

    def end_window(self) -> Summary:
        self._world.happened.append("watched")
        if self._world.windows:
            return self._world.windows.pop(0)
        return Summary(seconds=1.0, samples=10, host=HostSummary())


def test_a_clock_that_reads_zero_costs_a_row_its_trust_and_the_run_nothing(world: World) -> None:
    """A pair of device events round a step that launches nothing."""
    world.facts = {"samples": [0.0, 0.0, 0.0, 5e-7, 5e-7], "clock_tick_s": 5e-7}
    gemm = {"n": 256, "burst": 1e12, "typical": 1e12, "sustained": 1e12}
    world.ceilings = {"gemm": {"float32": gemm}, "dispatch_s": 1e-5}
    run = world.run()
    assert run.measurements[0].samples == (0.0, 0.0, 0.0, 5e-7, 5e-7)
    (row,) = summarize(run)
    assert (row.status, row.median, row.bound) == ("ok", 0.0, None)
    assert "below-resolution" in {reason.split(":")[0] for reason in row.quality_reasons}


def test_what_is_watched_ends_with_the_timing_and_not_with_the_case(world: World) -> None:
    world.run()
    begin = world.happened.index("build")
    assert world.happened[begin:] == [
        "build",
        "timing",
        "watch",
        "closing",
        "watched",
        "measured",
        "gone",
    ]


def test_an_interrupt_leaves_no_reference_that_is_still_computed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Interrupted] = []

    def begin(variables: Mapping[str, str], log: Path) -> Interrupted:
        begun.append(Interrupted(variables, log))
        return begun[0]

    monkeypatch.setattr("devbench.references.WorkerProcess", begin)
    referenced = benchmark(name="probe", axes={"n": [1]}, size="n")(Referenced)
    monkeypatch.setitem(CATALOG.benchmarks, "probe", referenced)
    with pytest.raises(KeyboardInterrupt):
        world.run()
    with pytest.raises(ProcessLookupError):
        os.kill(begun[0].pid, 0)


def test_every_gpu_of_a_target_is_watched(world: World) -> None:
    world.gpus = [{"uuid": f"GPU-{n}"} for n in range(3)]
    both = Target("fake", ("dev:0", "dev:2"))
    world.run(both, physical_device="GPU-0 + GPU-2", physical_devices=["GPU-0", "GPU-2"])
    assert world.watched == [["GPU-0", "GPU-2"]]


def test_what_one_window_was_too_short_for_is_no_fact_of_the_target(world: World) -> None:
    def window(energy_j: float | None) -> Summary:
        unread = {} if energy_j else {"energy_j": "the window was too short"}
        no_steal = {"steal": "/proc/stat does not tell it"}
        gpu = GpuSummary(gpu="GPU-0", energy_j=energy_j, unread=unread)
        host = HostSummary(energy_j=energy_j, unread=unread | no_steal)
        return Summary(seconds=1.0, samples=10, host=host, gpus=(gpu,))

    world.windows = [window(None), window(5.0), window(None)]
    told = world.run(sizes=(1, 2, 3)).info.environment["targets"][str(DEVICE)]
    assert told["telemetry_unread"] == {"steal": "/proc/stat does not tell it"}


def test_what_no_window_has_read_is_told_with_its_reason(world: World) -> None:
    gpu = GpuSummary(gpu="GPU-0", unread={"power_w": "NotSupported"})
    world.windows = [Summary(seconds=1.0, samples=10, host=HostSummary(), gpus=(gpu,))] * 2
    told = world.run(sizes=(1, 2)).info.environment["targets"][str(DEVICE)]
    assert told["telemetry_unread"] == {"GPU-0": {"power_w": "NotSupported"}}


def test_what_a_worker_keeps_of_the_memory_costs_no_later_case(world: World) -> None:
    """TensorFlow's pool on a GPU gives nothing back: in the middle of a round nearly all seems taken."""
    world.free = lambda: 5000 if "measured" not in world.happened else 10
    assert [row.status for row in world.rows(sizes=(1, 2))] == ["ok", "ok"]


def test_a_case_that_cannot_fit_is_skipped_with_what_was_free(world: World) -> None:
    world.free = lambda: 1500
    small, large = world.rows(sizes=(1, 2))
    assert (small.status, large.status) == ("ok", "skipped")
    assert large.reason is not None
    assert large.reason.startswith("does-not-fit")
