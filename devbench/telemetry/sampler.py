"""Watches GPUs and host from a thread of the parent while a worker times a case."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

from devbench.detection.nvml import Nvml, Pynvml
from devbench.telemetry.clocks import CpuClocks
from devbench.telemetry.gpu import GpuReader
from devbench.telemetry.host import Counters, HostReader
from devbench.telemetry.processes import read_process
from devbench.telemetry.records import Summary

#: Every so many samples the GPU's processes are listed too.
PROCESSES_EVERY: Final = 10

#: The CPUs' clocks, and the figures of each GPU.
_Sample: TypeAlias = tuple[dict[int, float], tuple[dict[str, Any], ...]]


@dataclass(frozen=True, slots=True)
class _Window:
    """What was read at its start, and the samples since."""

    started: float
    counters: Counters
    joules: tuple[float | None, ...]
    samples: list[_Sample] = field(default_factory=list)


class Sampler:
    """Samples while a window is open; between windows it only waits.

    ::

        with Sampler(["GPU-…"], worker_pid=worker.pid) as sampler:
            sampler.start_window()
            ...                                  # the worker times a case
            summary = sampler.end_window()

    gpus: UUIDs (or PCI bus ids) of the physical GPUs that the target uses; none for a CPU target.
    worker_pid: whose CPU time, and whose children's, is no disturbance; None without a worker.
    root, nvml, clock: what is read, given by tests.
    What cannot be read is None in the summary, with the reason in its `unread`; nothing is raised.
    """

    def __init__(
        self,
        gpus: Sequence[str],
        *,
        worker_pid: int | None,
        root: Path = Path("/"),
        nvml: Nvml | None = None,
        hz: float = 10.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        own = read_process(root, "self")
        family = {pid for pid in (worker_pid, own.pid if own else None) if pid is not None}
        self._host = HostReader(root, worker_pid)
        self._cpu_clocks = CpuClocks(root, self._host.cpus)
        nvml = nvml or Pynvml()
        self._gpus = [GpuReader(nvml, gpu, root, frozenset(family)) for gpu in gpus]
        self._period = 1 / hz
        self._clock = clock
        self._window: _Window | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)

    @property
    def no_cpu_clock(self) -> str | None:
        """Why this machine does not tell the clock of its CPUs; None where it does."""
        return self._cpu_clocks.unread

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._cpu_clocks.close()

    def start_window(self) -> None:
        """Forgets what was sampled before and reads every counter."""
        joules = tuple(gpu.joules() for gpu in self._gpus)
        counters = self._host.counters()
        self._window = _Window(self._clock(), counters, joules)

    def end_window(self) -> Summary:
        """Reads every counter again and sums up; one sample is taken now if there is none yet.

        Raises RuntimeError where no window was started.
        """
        window = self._window
        if window is None:
            raise RuntimeError("end_window() without start_window()")
        seconds = self._clock() - window.started
        counters = self._host.counters()
        joules = tuple(gpu.joules() for gpu in self._gpus)
        self._window = None
        samples = tuple(window.samples) or (self._read(with_processes=True),)
        cpu_clocks = [clocks for clocks, _ in samples]
        return Summary(
            seconds=seconds,
            samples=len(samples),
            host=self._host.summary(window.counters, counters, seconds, cpu_clocks),
            gpus=tuple(
                gpu.summary(
                    [figures[index] for _, figures in samples],
                    (window.joules[index], joules[index]),
                    seconds,
                )
                for index, gpu in enumerate(self._gpus)
            ),
        )

    def sample(self) -> None:
        """One sample for the open window; the thread calls it, `hz` times a second."""
        window = self._window
        if window is None:
            return
        with_processes = len(window.samples) % PROCESSES_EVERY == 0
        # To the window that it began in: another one may have been opened meanwhile.
        window.samples.append(self._read(with_processes))

    def _read(self, with_processes: bool) -> _Sample:
        figures = tuple(gpu.sample(with_processes) for gpu in self._gpus)
        return self._cpu_clocks.read(), figures

    def _run(self) -> None:
        due = self._clock() + self._period
        while not self._stop.wait(max(0.0, due - self._clock())):
            self.sample()
            due = max(due, self._clock() - self._period) + self._period
