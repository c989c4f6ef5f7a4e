"""What telemetry says of one timed window: frozen records that a measurement keeps as JSON.

Every figure may be None: the machine does not tell it. `unread` then has the reason under its name (of
figures that are read together, under the name of the first).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

from devbench.model import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSummary:
    """The host over the window.

    cpus, cores: logical CPUs that this process and its workers may run on, and the physical cores
        that they lie on.
    steal: share of these CPUs' time that the hypervisor gave to somebody else.
    worker_busy: CPU seconds a second (cores) of the worker, its threads and its child processes.
    others_busy: the same of everything else on these CPUs, without the sampling process itself.
    throttled_periods, throttled_s: how often the CPU quota stopped a control group of the worker,
        and for how long, summed over its CPUs.
    cpu_clock_hz: median over the samples of the CPUs that were busy; None where the hardware does not
    count it.
    swapped_in, swapped_out: pages, of the whole machine.
    memory_pressure: share of the window in which some task waited for memory (PSI).
    energy_j: of all CPU packages together, other processes and idle power included.
    """

    cpus: int | None = None
    cores: int | None = None
    steal: float | None = None
    worker_busy: float | None = None
    others_busy: float | None = None
    throttled_periods: int | None = None
    throttled_s: float | None = None
    cpu_clock_hz: float | None = None
    swapped_in: int | None = None
    swapped_out: int | None = None
    memory_pressure: float | None = None
    energy_j: float | None = None
    unread: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSummary:
    """One GPU over the window.

    gpu: the UUID (or PCI bus id) that it was asked for by.
    sm_clock_hz, sm_clock_lowest_hz, sm_clock_highest_hz: median and extremes of the samples in which
        the GPU was not idle (all samples where every one was idle).
    sm_clock_max_hz: the highest that the clock may go.
    clock_event_mask: all bits seen in any sample. clock_events: each bit's name → share of samples.
    power_w, power_highest_w: median and maximum. From Ampere on (GA100 aside) each reading is itself
        an average over a second: https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html
    pcie_generation, pcie_width: the best that the link was seen at while the GPU was not idle; at rest
        it falls back on purpose. pcie_generation_max, pcie_width_max: of device and slot together.
    utilization: median share of the driver's last sample period in which a kernel ran.
    processes: the most compute processes that NVML listed at once.
    other_pids: those among them that are neither this process nor its descendants; None where NVML
        numbers processes in another namespace (in a container), so that they cannot be told apart.
    energy_j: of the whole board.
    """

    gpu: str
    sm_clock_hz: float | None = None
    sm_clock_lowest_hz: float | None = None
    sm_clock_highest_hz: float | None = None
    sm_clock_max_hz: float | None = None
    memory_clock_hz: float | None = None
    clock_event_mask: int | None = None
    clock_events: Mapping[str, float] = field(default_factory=dict)
    power_w: float | None = None
    power_highest_w: float | None = None
    power_limit_w: float | None = None
    temperature_c: float | None = None
    pcie_generation: int | None = None
    pcie_generation_max: int | None = None
    pcie_width: int | None = None
    pcie_width_max: int | None = None
    utilization: float | None = None
    memory_used_bytes: int | None = None
    processes: int | None = None
    other_pids: tuple[int, ...] | None = None
    energy_j: float | None = None
    unread: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One window: its length, how many samples were taken in it, the host, and each GPU asked for."""

    seconds: float
    samples: int
    host: HostSummary
    gpus: tuple[GpuSummary, ...] = ()

    @property
    def sm_clock_hz(self) -> float | None:
        """The median clock of the slowest GPU; None without a reading."""
        return min((g.sm_clock_hz for g in self.gpus if g.sm_clock_hz is not None), default=None)

    @property
    def temperature_c(self) -> float | None:
        """The highest temperature of any GPU; None without a reading."""
        return max(
            (g.temperature_c for g in self.gpus if g.temperature_c is not None), default=None
        )

    def to_json(self) -> Json:
        return asdict(self) | {"gpus": [asdict(gpu) for gpu in self.gpus]}

    @classmethod
    def from_json(cls, data: Mapping[str, Json]) -> Summary:
        """The record of what `to_json` gave, of this version or an older or newer one: a field that
        is missing is None, one that is not known here is left out."""
        return cls(
            seconds=float(data["seconds"]),
            samples=int(data["samples"]),
            host=_record(HostSummary, data["host"]),
            gpus=tuple(_record(GpuSummary, gpu) for gpu in data.get("gpus", ())),
        )


_Record = TypeVar("_Record", HostSummary, GpuSummary)


def _record(kind: type[_Record], data: Mapping[str, Json]) -> _Record:
    names = {item.name for item in fields(kind)}
    known: dict[str, Any] = {name: value for name, value in data.items() if name in names}
    if isinstance(known.get("other_pids"), list):
        known["other_pids"] = tuple(known["other_pids"])
    return kind(**known)
