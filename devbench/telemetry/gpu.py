"""One GPU, sampled through NVML: each figure asked on its own, one that fails costs itself alone.

Which process is whose: in a container NVML lists PIDs of the host, of the container, or none at all,
depending on the driver (https://github.com/NVIDIA/nvidia-docker/issues/1483,
https://github.com/Project-HAMi/HAMi-core/issues/112). So a listed PID is a stranger's only if /proc
knows it here and it does not descend from this process, or if the list shows one of our own, which
proves that it speaks our numbers. Else it is not said who is there.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from devbench.detection.nvml import (
    QUERIES,
    RUNNING_PROCESSES,
    UNAVAILABLE,
    Nvml,
    NvmlError,
    Query,
    decode_clock_events,
)
from devbench.telemetry.processes import descends
from devbench.telemetry.records import GpuSummary

SOURCE: Final = "nvml total energy counter"

#: The counter moves every 20 to 100 ms (https://petsc.org/main/manualpages/Log/PetscLogGpuEnergyMeter;
#: 100 ms on A100 and H100: https://arxiv.org/abs/2312.02741). Each end of a window may so be 100 ms
#: stale: a fifth of this window at worst, and nothing to be believed in a shorter one.
SHORTEST_S: Final = 0.5

GPU_IDLE: Final = 0x1

_KNOWN: Final = {query.field: query for query in QUERIES}

#: Asked at every sample, in the units of `GpuSummary`.
SAMPLED: Final = (
    *(
        _KNOWN[field]
        for field in (
            "sm_clock_hz",
            "memory_clock_hz",
            "clock_event_mask",
            "power_w",
            "temperature_c",
            "utilization",
        )
    ),
    Query("memory_used_bytes", ("nvmlDeviceGetMemoryInfo",), lambda memory: memory["used"]),
)

#: Asked seldom: they take longer. Processes come and go slowly, and a link that is held down stays so.
PROCESSES: Final = Query(
    "processes",
    RUNNING_PROCESSES,
    lambda found: [int(process["pid"]) for process in found],
)

LINK: Final = (_KNOWN["pcie_generation"], _KNOWN["pcie_width"])

#: Asked once: the limits.
CONSTANT: Final = tuple(
    _KNOWN[field]
    for field in ("sm_clock_max_hz", "power_limit_w", "pcie_generation_max", "pcie_width_max")
)

_ENERGY: Final = Query(
    "energy_j", ("nvmlDeviceGetTotalEnergyConsumption",), lambda millijoules: millijoules / 1e3
)

#: Answers that will not change while this process lives.
_FINAL: Final = frozenset({"NotSupported", "FunctionNotFound", "NoPermission"})


class GpuReader:
    """Samples the GPU of a UUID or PCI bus id. `unread` says why a figure is missing, each once.

    family: the PIDs whose descendants are no strangers on the GPU: this process and the worker.
    """

    def __init__(self, nvml: Nvml, gpu: str, root: Path, family: frozenset[int]) -> None:
        self.gpu = gpu
        self.unread: dict[str, str] = {}
        self._nvml = nvml
        self._root = root
        self._family = family
        self._given_up: set[str] = set()
        self._kin: dict[int, bool | None] = {}
        self._handle = self._open()
        self._limits = {query.field: self._ask(query) for query in CONSTANT}

    def _open(self) -> Any:
        by = "UUID" if self.gpu.upper().startswith(("GPU-", "MIG-")) else "PciBusId"
        try:
            self._nvml.query("nvmlInit")
            return self._nvml.query(f"nvmlDeviceGetHandleBy{by}", self.gpu)
        except NvmlError as error:
            self.unread["handle"] = UNAVAILABLE.get(str(error), str(error))
            return None

    def _ask(self, query: Query) -> Any:
        if self._handle is None or query.field in self._given_up:
            return None
        reason = "FunctionNotFound"
        for function in query.functions:  # newest first; an older driver knows the older name
            try:
                return query.convert(self._nvml.query(function, self._handle, *query.arguments))
            except NvmlError as error:
                reason = str(error)
            if reason != "FunctionNotFound":
                break
        self.unread.setdefault(query.field, reason)
        if reason in _FINAL:
            self._given_up.add(query.field)
        return None

    def sample(self, with_processes: bool) -> dict[str, Any]:
        """The figures of this moment, those that could be read. with_processes: those too that are
        asked seldom."""
        found = {query.field: self._ask(query) for query in SAMPLED}
        if with_processes:
            found |= {query.field: self._ask(query) for query in LINK}
            found["processes"] = self._ask(PROCESSES)
            for pid in found["processes"] or ():  # now: it may be gone when the window ends
                if pid not in self._kin:
                    self._kin[pid] = descends(self._root, pid, self._family)
        return {name: value for name, value in found.items() if value is not None}

    def joules(self) -> float | None:
        """Energy of the board since the driver was loaded (Volta and later)."""
        found: float | None = self._ask(_ENERGY)
        return found

    def summary(
        self,
        samples: Sequence[Mapping[str, Any]],
        joules: tuple[float | None, float | None],
        seconds: float,
    ) -> GpuSummary:
        """The window with these samples in it, and the energy counter at its ends."""
        busy = [s for s in samples if not s.get("clock_event_mask", 0) & GPU_IDLE]
        awake = busy or samples
        sm_clocks = _values(awake, "sm_clock_hz")
        masks = _values(samples, "clock_event_mask")
        power = _values(samples, "power_w")
        listed = _values(samples, "processes")
        other_pids, hidden = self._strangers(listed)
        energy, refused = energy_between(joules, seconds)
        return GpuSummary(
            gpu=self.gpu,
            sm_clock_hz=_median(sm_clocks),
            sm_clock_lowest_hz=min(sm_clocks, default=None),
            sm_clock_highest_hz=max(sm_clocks, default=None),
            memory_clock_hz=_median(_values(samples, "memory_clock_hz")),
            clock_event_mask=union(masks) if masks else None,
            clock_events=event_shares(masks),
            power_w=_median(power),
            power_highest_w=max(power, default=None),
            temperature_c=max(_values(samples, "temperature_c"), default=None),
            pcie_generation=max(_values(busy, "pcie_generation"), default=None),
            pcie_width=max(_values(busy, "pcie_width"), default=None),
            utilization=_median(_values(samples, "utilization")),
            memory_used_bytes=max(_values(samples, "memory_used_bytes"), default=None),
            processes=max(map(len, listed), default=None),
            other_pids=other_pids,
            energy_j=energy,
            unread=self.unread
            | ({} if hidden is None else {"other_pids": hidden})
            | ({} if refused is None else {"energy_j": refused}),
            **self._limits,
        )

    def _strangers(
        self, listed: Sequence[Sequence[int]]
    ) -> tuple[tuple[int, ...] | None, str | None]:
        """PIDs that are not ours, or None and why that cannot be told."""
        if not listed:
            return None, None
        kin = {pid: self._kin[pid] for pids in listed for pid in pids}
        speaks_our_numbers = any(kin.values())
        strangers = tuple(
            sorted(
                pid
                for pid, ours in kin.items()
                if ours is False or (ours is None and speaks_our_numbers)
            )
        )
        if strangers or speaks_our_numbers:
            return strangers, None
        if kin:
            return None, f"NVML lists {len(kin)} processes by the numbers of another namespace"
        return None, "NVML lists no process, not even the worker"


def _values(samples: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    return [sample[name] for sample in samples if name in sample]


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def union(masks: Sequence[int]) -> int:
    """All bits that are set in any of the masks."""
    found = 0
    for mask in masks:
        found |= mask
    return found


def event_shares(masks: Sequence[int]) -> dict[str, float]:
    """Each event that occurred → the share of the masks that have its bit, alone or with others."""
    found = union(masks)
    bits = [1 << position for position in range(found.bit_length()) if found >> position & 1]
    return {
        decode_clock_events(bit)[0]: sum(1 for mask in masks if mask & bit) / len(masks)
        for bit in bits
    }


def energy_between(
    joules: tuple[float | None, float | None], seconds: float
) -> tuple[float | None, str | None]:
    """Joules in the window, or None; and a reason where the counter is there and is refused."""
    before, after = joules
    if before is None or after is None:
        return None, None
    if seconds < SHORTEST_S:
        return None, (
            f"the window of {seconds:.3f} s is shorter than {SHORTEST_S} s, and the counter moves "
            "every 0.1 s"
        )
    if after < before:
        return None, "the counter ran backwards: the driver was loaded again"
    return after - before, None
