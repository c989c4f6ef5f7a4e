"""What NVML says of a GPU's health, its links and its settings: asked by a diagnosis, not by each run.

Functions and units: https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html; row
remapping: https://docs.nvidia.com/deploy/a100-gpu-mem-error-mgmt/.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from devbench.detection.nvml import RUNNING_PROCESSES, Nvml, NvmlError, Query, answer
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

#: nvmlDeviceAddressingModeType_t: how the GPU reaches the memory of the host.
ADDRESSING_MODES: Final = {0: "none", 1: "HMM", 2: "ATS"}

#: Why clocks were held down: name → (nvmlPerfPolicyType_t, NVML_FI_DEV_PERF_POLICY_*), both counted in
#: nanoseconds since the driver was loaded. The fields NVML_FI_DEV_CLOCKS_EVENT_REASON_* count the power
#: cap and sync boost under these same numbers. Those that tell hardware from software slowdown have
#: other numbers in the headers of some CUDA 12 (251 to 253) than in others (269 to 271), where the former
#: mean power smoothing: they are not asked, since nothing tells which driver has which.
POLICIES: Final = {
    "software power cap": (0, 74),
    "thermal slowdown": (1, 75),
    "sync boost": (2, 76),
    "board limit": (3, 77),
    "reliability": (5, 79),
}

_RECOVERY_ACTION: Final = 230  # NVML_FI_DEV_GET_GPU_RECOVERY_ACTION
_SM: Final = 1  # NVML_CLOCK_SM
_CORRECTED, _UNCORRECTED = 0, 1  # nvmlMemoryErrorType_t
_SLOWDOWN: Final = 1  # NVML_TEMPERATURE_THRESHOLD_SLOWDOWN


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A compute process on a GPU; NVML may number it in another namespace than ours."""

    pid: int
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuHealth:
    """One GPU, every field on its own; `unread` says why one is None.

    ecc_corrected, ecc_uncorrected: errors since the driver was loaded; …_ever: in the life of the board.
    nvlinks: whether each link that exists is active. pcie_replays: packets sent again so far.
    clock_event_seconds: how long what held the clocks down since the driver was loaded, by its name.
    temperature_margin_c: from the temperature of now to the nearest slowdown.
    retired_pages: taken out of use, for whatever reason. bar1_bytes: window for the host, all of it.
    """

    index: int
    pstate: int | None = None
    power_min_limit_w: float | None = None
    power_max_limit_w: float | None = None
    clock_event_seconds: Mapping[str, float] | None = None
    slowdown_temperature_c: int | None = None
    temperature_margin_c: int | None = None
    application_clock_hz: float | None = None
    application_clock_default_hz: float | None = None
    pcie_gpu_generation_max: int | None = None
    pcie_replays: int | None = None
    bar1_bytes: int | None = None
    addressing_mode: str | None = None
    ecc_pending: bool | None = None
    ecc_corrected: int | None = None
    ecc_corrected_ever: int | None = None
    ecc_uncorrected: int | None = None
    ecc_uncorrected_ever: int | None = None
    remapped_rows: int | None = None
    remap_pending: bool | None = None
    remap_failed: bool | None = None
    retired_pages: int | None = None
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
    Query(
        "addressing_mode",
        ("nvmlDeviceGetAddressingMode",),
        lambda mode: ADDRESSING_MODES.get(mode, f"mode {mode}"),
    ),
    Query("ecc_pending", ("nvmlDeviceGetEccMode",), lambda modes: _on(modes[1])),
    Query("ecc_corrected", ("nvmlDeviceGetTotalEccErrors",), arguments=(_CORRECTED, 0)),
    Query("ecc_corrected_ever", ("nvmlDeviceGetTotalEccErrors",), arguments=(_CORRECTED, 1)),
    Query("ecc_uncorrected", ("nvmlDeviceGetTotalEccErrors",), arguments=(_UNCORRECTED, 0)),
    Query("ecc_uncorrected_ever", ("nvmlDeviceGetTotalEccErrors",), arguments=(_UNCORRECTED, 1)),
    # [correctable, uncorrectable, pending, failed]
    Query("remapped_rows", ("nvmlDeviceGetRemappedRows",), lambda rows: rows[0] + rows[1]),
    Query("remap_pending", ("nvmlDeviceGetRemappedRows",), lambda rows: _on(rows[2])),
    Query("remap_failed", ("nvmlDeviceGetRemappedRows",), lambda rows: _on(rows[3])),
    Query("retirement_pending", ("nvmlDeviceGetRetiredPagesPendingStatus",), _on),
    Query("recovery_action", ("nvmlDeviceGetFieldValues",), _recovery, ([_RECOVERY_ACTION],)),
    Query("display_active", ("nvmlDeviceGetDisplayActive",), _on),
    Query("compute_processes", RUNNING_PROCESSES, _processes),
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
    for field_, read in _READERS.items():
        try:
            found[field_] = read(nvml, handle)
        except NvmlError as error:
            unread[field_] = str(error)
    return GpuHealth(index=index, unread=unread, **found)


def _nvlinks(nvml: Nvml, handle: Any) -> tuple[bool, ...]:
    """Whether each link is active. Raises NvmlError, where the first cannot be asked."""
    states: list[bool] = []
    for link in range(NVLINKS):
        try:
            states.append(_on(nvml.query("nvmlDeviceGetNvLinkState", handle, link)))
        except NvmlError:  # no such link: the GPU has none, or no more of them
            if not states:
                raise
            break
    return tuple(states)


def _retired_pages(nvml: Nvml, handle: Any) -> int:
    """Those of several single-bit errors and those of a double-bit error. Raises NvmlError."""
    return sum(len(nvml.query("nvmlDeviceGetRetiredPages", handle, cause)) for cause in (0, 1))


def _temperature_margin(nvml: Nvml, handle: Any) -> int:
    """An older driver leaves the subtraction to us. Raises NvmlError."""
    try:
        return int(nvml.query("nvmlDeviceGetMarginTemperature", handle))
    except NvmlError:
        slowdown = nvml.query("nvmlDeviceGetTemperatureThreshold", handle, _SLOWDOWN)
        return int(slowdown) - int(nvml.query("nvmlDeviceGetTemperature", handle, 0))


def _clock_event_seconds(nvml: Nvml, handle: Any) -> dict[str, float]:
    """By fields in one call, on a driver that does not know them policy by policy. Raises NvmlError."""
    fields = [number for _, number in POLICIES.values()]
    try:
        values = nvml.query("nvmlDeviceGetFieldValues", handle, fields)
    except NvmlError:
        values = []
    found = {
        name: int(value["value"]) / 1e9
        for name, value in zip(POLICIES, values, strict=False)
        if value["nvmlReturn"] == 0
    }
    refused = NvmlError("NotSupported")
    if not found:
        for name, (policy, _) in POLICIES.items():
            try:
                told = nvml.query("nvmlDeviceGetViolationStatus", handle, policy)
                found[name] = int(told["violationTime"]) / 1e9
            except NvmlError as error:
                refused = error
    if not found:
        raise refused
    return found


#: Fields that take more than one call.
_READERS: Final[Mapping[str, Callable[[Nvml, Any], Any]]] = {
    "nvlinks": _nvlinks,
    "retired_pages": _retired_pages,
    "temperature_margin_c": _temperature_margin,
    "clock_event_seconds": _clock_event_seconds,
}
