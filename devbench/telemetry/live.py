"""Host and GPUs as they are now, read again and again: what a live view shows."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from devbench.detection import Gpu, Nvml, NvmlError, read_gpus, read_host
from devbench.detection.cgroup import memory_limits
from devbench.detection.files import parse_meminfo, read_text
from devbench.detection.nvml import (
    QUERIES,
    RUNNING_PROCESSES,
    UNAVAILABLE,
    Pynvml,
    Query,
    answer,
    decode_clock_events,
)
from devbench.model import Json
from devbench.telemetry.host import Counters, HostReader, between

SCHEMA: Final = "devbench.watch/1"

_KNOWN: Final = {query.field: query for query in QUERIES}

#: One call each a second and a GPU, in the units of `devbench.detection.Gpu`.
_READ: Final = (
    *(
        _KNOWN[name]
        for name in (
            "sm_clock_hz",
            "memory_clock_hz",
            "clock_event_mask",
            "power_w",
            "temperature_c",
        )
    ),
    Query("load", ("nvmlDeviceGetUtilizationRates",)),
    Query("memory", ("nvmlDeviceGetMemoryInfo",)),
    Query("processes", RUNNING_PROCESSES),
)


@dataclass(frozen=True, slots=True)
class Process:
    """A compute process on a GPU. name: None where its number is of another namespace than ours."""

    pid: int
    name: str | None
    memory_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuNow:
    """One GPU at one moment; None: it could not be read, and `unread` says why."""

    index: int
    name: str | None = None
    uuid: str | None = None
    utilization: float | None = None
    memory_utilization: float | None = None
    sm_clock_hz: float | None = None
    sm_clock_max_hz: float | None = None
    memory_clock_hz: float | None = None
    clock_events: tuple[str, ...] | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    temperature_c: float | None = None
    memory_used_bytes: int | None = None
    memory_bytes: int | None = None
    processes: tuple[Process, ...] | None = None
    unread: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostNow:
    """The host since the moment before. busy, steal: shares of the time of the usable CPUs."""

    cpus: int | None = None
    busy: float | None = None
    steal: float | None = None
    memory_bytes: int | None = None
    available_memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Now:
    """One moment. time: seconds since 1970. nvml_error: why no GPU is in it."""

    time: float
    host: HostNow
    gpus: tuple[GpuNow, ...]
    nvml_error: str | None

    def to_json(self) -> Json:
        return {"schema": SCHEMA, **asdict(self)}


class Looker:
    """Looks at the machine. What stays the same is read once, when it is made."""

    def __init__(self, nvml: Nvml | None = None, root: Path = Path("/")) -> None:
        self._nvml = nvml or Pynvml()
        self._root = root
        self._gpus, self._error = read_gpus(self._nvml, root)
        self._handles = {gpu.index: self._handle(gpu) for gpu in self._gpus}
        self._host = HostReader(root, None)
        self._memory = read_host(root).usable_memory_bytes
        self._before = (time.monotonic(), self._host.counters())

    def _handle(self, gpu: Gpu) -> Any:
        try:
            return self._nvml.query("nvmlDeviceGetHandleByIndex", gpu.index)
        except NvmlError:  # `gpu.unread` has the reason
            return None

    def look(self) -> Now:
        """This moment; the host's shares are those since the last look."""
        return Now(
            time.time(), self._host_now(), tuple(map(self._gpu_now, self._gpus)), self._error
        )

    def _host_now(self) -> HostNow:
        (then, before), moment = self._before, time.monotonic()
        now = self._host.counters()
        self._before = (moment, now)
        meminfo = parse_meminfo(read_text(self._root, "proc/meminfo") or "")
        left = [meminfo.get("MemAvailable"), *(left for _, left in memory_limits(self._root))]
        return HostNow(
            cpus=len(self._host.cpus) or None,
            busy=_busy(before, now),
            steal=between(before, now, moment - then).steal,
            memory_bytes=self._memory,
            available_memory_bytes=min((one for one in left if one is not None), default=None),
        )

    def _gpu_now(self, gpu: Gpu) -> GpuNow:
        handle = self._handles[gpu.index]
        if handle is None:
            return GpuNow(index=gpu.index, unread=gpu.unread)
        found: dict[str, Any] = {}
        unread: dict[str, str] = {}
        for query in _READ:
            try:
                found[query.field] = answer(self._nvml, query, handle)
            except NvmlError as error:
                unread[query.field] = UNAVAILABLE.get(str(error), str(error))
        load, memory = found.pop("load", {}), found.pop("memory", {})
        mask, running = found.pop("clock_event_mask", None), found.pop("processes", None)
        return GpuNow(
            index=gpu.index,
            name=gpu.name,
            uuid=gpu.uuid,
            utilization=_share(load.get("gpu")),
            memory_utilization=_share(load.get("memory")),
            sm_clock_max_hz=gpu.sm_clock_max_hz,
            clock_events=None if mask is None else decode_clock_events(mask),
            power_limit_w=gpu.power_limit_w,
            memory_used_bytes=memory.get("used"),
            memory_bytes=memory.get("total"),
            processes=None if running is None else tuple(map(self._process, running)),
            unread=unread,
            **found,
        )

    def _process(self, said: Json) -> Process:
        pid = int(said["pid"])
        name = read_text(self._root, f"proc/{pid}/comm")
        return Process(pid, name and name.strip(), said.get("usedGpuMemory"))


def _share(percent: float | None) -> float | None:
    return None if percent is None else percent / 100


def _busy(before: Counters, now: Counters) -> float | None:
    """The share of the CPU time that was spent, whoever spent it."""
    ends = (before.passed_s, now.passed_s, before.busy_s, now.busy_s)
    passed_then, passed, busy_then, busy = ends
    if passed_then is None or passed is None or busy_then is None or busy is None:
        return None
    return (busy - busy_then) / (passed - passed_then) if passed > passed_then else None
