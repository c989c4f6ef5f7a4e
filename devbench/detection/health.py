"""What NVML says of a GPU's health, its links and its settings: asked by a diagnosis, not by each run.

Functions and units: https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html; row
remapping: https://docs.nvidia.com/deploy/a100-gpu-mem-error-mgmt/.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from devbench.detection.nvml import Nvml, NvmlError, Query, answer
from devbench.model import Json

#: nvmlGpuRecoveryAction_t in nvml.h: what the driver says must be done before the GPU works again.
RECOVERY_ACTIONS: Final = {
    0: "none",
    1: "reset the GPU",
    2: "reboot the node",
    3: "drain peer-to-peer work",
    4: "drain and reset",
    5: "recover the IMEX domain",
    6: "reset the bus",
    7: "reboot the system",
}

#: NVML_NVLINK_MAX_LINKS of the drivers so far; a GPU refuses the numbers that it does not have.
NVLINKS: Final = 36

_RECOVERY_ACTION: Final = 230  # NVML_FI_DEV_GET_GPU_RECOVERY_ACTION
_SM: Final = 1  # NVML_CLOCK_SM
_UNCORRECTED: Final = 1  # NVML_MEMORY_ERROR_TYPE_UNCORRECTED
_SLOWDOWN: Final = 1  # NVML_TEMPERATURE_THRESHOLD_SLOWDOWN


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A compute process on a GPU; NVML may number it in another namespace than ours."""

    pid: int
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuHealth:
    """One GPU, every field on its own; `unread` says why one is None.

    ecc_uncorrected: since the driver was loaded; ecc_uncorrected_ever: in the life of the board.
    nvlinks: whether each link that exists is active. pcie_replays: packets sent again so far.
    """

    index: int
    pstate: int | None = None
    power_min_limit_w: float | None = None
    power_max_limit_w: float | None = None
    slowdown_temperature_c: int | None = None
    application_clock_hz: float | None = None
    application_clock_default_hz: float | None = None
    pcie_gpu_generation_max: int | None = None
    pcie_replays: int | None = None
    bar1_bytes: int | None = None
    ecc_pending: bool | None = None
    ecc_uncorrected: int | None = None
    ecc_uncorrected_ever: int | None = None
    remapped_rows: int | None = None
    remap_pending: bool | None = None
    remap_failed: bool | None = None
    retirement_pending: bool | None = None
    recovery_action: str | None = None
    display_active: bool | None = None
    compute_processes: tuple[GpuProcess, ...] | None = None
    nvlinks: tuple[bool, ...] | None = None
    unread: Mapping[str, str] = field(default_factory=dict)


def _hertz(megahertz: int) -> float:
    return megahertz * 1e6


def _on(value: int) -> bool:
    return value == 1


def _processes(found: list[Json]) -> tuple[GpuProcess, ...]:
    return tuple(GpuProcess(int(one["pid"]), one.get("usedGpuMemory")) for one in found)


def _recovery(values: list[Json]) -> str:
    if values[0]["nvmlReturn"] != 0:
        raise NvmlError("NotSupported")
    action = int(values[0]["value"])
    return RECOVERY_ACTIONS.get(action, f"action {action}")


QUERIES: Final = (
    Query("pstate", ("nvmlDeviceGetPerformanceState",)),
    Query(
        "power_min_limit_w",
        ("nvmlDeviceGetPowerManagementLimitConstraints",),
        lambda limits: limits[0] / 1000,
    ),
    Query(
        "power_max_limit_w",
        ("nvmlDeviceGetPowerManagementLimitConstraints",),
        lambda limits: limits[1] / 1000,
    ),
    Query("slowdown_temperature_c", ("nvmlDeviceGetTemperatureThreshold",), arguments=(_SLOWDOWN,)),
    Query("application_clock_hz", ("nvmlDeviceGetApplicationsClock",), _hertz, (_SM,)),
    Query(
        "application_clock_default_hz", ("nvmlDeviceGetDefaultApplicationsClock",), _hertz, (_SM,)
    ),
    Query("pcie_gpu_generation_max", ("nvmlDeviceGetGpuMaxPcieLinkGeneration",)),
    Query("pcie_replays", ("nvmlDeviceGetPcieReplayCounter",)),
    Query("bar1_bytes", ("nvmlDeviceGetBAR1MemoryInfo",), lambda memory: memory["bar1Total"]),
    Query("ecc_pending", ("nvmlDeviceGetEccMode",), lambda modes: _on(modes[1])),
    Query("ecc_uncorrected", ("nvmlDeviceGetTotalEccErrors",), arguments=(_UNCORRECTED, 0)),
    Query("ecc_uncorrected_ever", ("nvmlDeviceGetTotalEccErrors",), arguments=(_UNCORRECTED, 1)),
    # [correctable, uncorrectable, pending, failed]
    Query("remapped_rows", ("nvmlDeviceGetRemappedRows",), lambda rows: rows[0] + rows[1]),
    Query("remap_pending", ("nvmlDeviceGetRemappedRows",), lambda rows: _on(rows[2])),
    Query("remap_failed", ("nvmlDeviceGetRemappedRows",), lambda rows: _on(rows[3])),
    Query("retirement_pending", ("nvmlDeviceGetRetiredPagesPendingStatus",), _on),
    Query("recovery_action", ("nvmlDeviceGetFieldValues",), _recovery, ([_RECOVERY_ACTION],)),
    Query("display_active", ("nvmlDeviceGetDisplayActive",), _on),
    Query("compute_processes", ("nvmlDeviceGetComputeRunningProcesses",), _processes),
)


def read_health(nvml: Nvml, index: int) -> GpuHealth:
    """What the GPU of this NVML index says. NVML must have been initialised."""
    try:
        handle = nvml.query("nvmlDeviceGetHandleByIndex", index)
    except NvmlError as error:
        return GpuHealth(index=index, unread={"handle": str(error)})
    found: dict[str, Any] = {}
    unread: dict[str, str] = {}
    for query in QUERIES:
        try:
            found[query.field] = answer(nvml, query, handle)
        except NvmlError as error:
            unread[query.field] = str(error)
    links, refused = _nvlinks(nvml, handle)
    if links is None:
        unread["nvlinks"] = refused
    return GpuHealth(index=index, nvlinks=links, unread=unread, **found)


def _nvlinks(nvml: Nvml, handle: Any) -> tuple[tuple[bool, ...] | None, str]:
    """Whether each link is active, and why the first cannot be asked."""
    states: list[bool] = []
    refused = ""
    for link in range(NVLINKS):
        try:
            states.append(_on(nvml.query("nvmlDeviceGetNvLinkState", handle, link)))
        except NvmlError as error:  # no such link: the GPU has none, or no more of them
            refused = str(error)
            break
    return tuple(states) if states else None, refused
