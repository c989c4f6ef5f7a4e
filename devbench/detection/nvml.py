"""NVIDIA GPUs through NVML, each field asked on its own: one that fails costs itself and no more.

Functions and units: https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from devbench.detection.files import read_integer, read_line
from devbench.detection.records import Gpu, MigDevice
from devbench.model import Json


class NvmlError(Exception):
    """NVML's answer to one query, by the name of its error: ``NotSupported``, ``LibraryNotFound``."""


class Nvml(Protocol):
    """What is asked of NVML, so that a recorded machine can answer in its place."""

    def query(self, function: str, *arguments: Any) -> Json:
        """The answer as plain numbers, texts, lists and dicts; handles as they are. Raises NvmlError."""
        ...


class Pynvml:
    """NVML through the module ``pynvml`` of the distribution nvidia-ml-py."""

    def query(self, function: str, *arguments: Any) -> Json:
        try:
            import pynvml
        except ImportError as error:
            raise NvmlError(f"{error} (pip install nvidia-ml-py)") from None
        # No NVMLError: raised where a driver lacks the version of a function that pynvml prefers.
        mismatch = getattr(pynvml, "NVMLLibraryMismatchError", AttributeError)
        try:
            return _plain(getattr(pynvml, function)(*arguments))
        except pynvml.NVMLError as error:
            name = type(error).__name__.removeprefix("NVMLError_")
            raise NvmlError(name if name != "NVMLError" else str(error)) from None
        except (AttributeError, mismatch):  # an older nvidia-ml-py, an older driver
            raise NvmlError("FunctionNotFound") from None
        except UnicodeDecodeError:  # seen where a driver returns a name that it never filled in
            raise NvmlError("NotReadable") from None


def _plain(value: Any) -> Json:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, ctypes.Array):
        return [_plain(item) for item in value]
    if isinstance(value, ctypes.Structure) and hasattr(value, "nvmlReturn"):
        return _field_value(value)
    if isinstance(value, ctypes.Structure):
        return {field[0]: _plain(getattr(value, field[0])) for field in value._fields_}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if type(value).__name__ == "nvmlFriendlyObject":
        return {name: _plain(item) for name, item in vars(value).items()}
    return value


def _field_value(value: Any) -> Json:
    """nvmlFieldValue_t: a union, whose member `valueType` names (nvmlValueType_t)."""
    members = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
    number = None
    if value.nvmlReturn == 0:
        if value.valueType >= len(members):
            raise NvmlError("NotReadable")  # a type of a driver to come
        number = getattr(value.value, members[value.valueType])
    return {"fieldId": value.fieldId, "nvmlReturn": value.nvmlReturn, "value": number}


#: Names of the bits: nvmlClocksEventReasons in nvml.h. Several may be set at once.
CLOCK_EVENTS: Final = {
    0x001: "gpu idle",
    0x002: "application clocks",
    0x004: "software power cap",
    0x008: "hardware slowdown",
    0x010: "sync boost",
    0x020: "software thermal slowdown",
    0x040: "hardware thermal slowdown",
    0x080: "hardware power brake",
    0x100: "display clock",
    0x200: "board limit",
    0x400: "reliability",
}

COMPUTE_MODES: Final = {
    0: "default",
    1: "exclusive thread",
    2: "prohibited",
    3: "exclusive process",
}

#: Why NVML as a whole does not answer, where more can be said than the name.
UNAVAILABLE: Final = {
    "LibraryNotFound": "no NVIDIA driver is installed (its NVML library is not there)",
    "DriverNotLoaded": "the NVIDIA driver is installed and its kernel module is not loaded",
    "LibRmVersionMismatch": "the NVIDIA kernel module and libraries differ in version: reboot after "
    "a driver update",
    "NoPermission": "this user may not talk to the NVIDIA driver",
    "Unknown": "the NVIDIA driver answers 'Unknown Error'; in a container, start it again",
}


def decode_clock_events(mask: int) -> tuple[str, ...]:
    """The names of all bits set in the mask, ``bit 0x…`` for one that has no name here."""
    bits = [1 << position for position in range(mask.bit_length()) if mask >> position & 1]
    return tuple(CLOCK_EVENTS.get(bit, f"bit 0x{bit:x}") for bit in bits)


def _cuda_version(number: int) -> str:
    """12040 → 12.4."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _megahertz(value: int) -> float:
    return value * 1e6


def _milliwatts(value: int) -> float:
    return value / 1000


def _percent(value: int) -> float:
    return value / 100


def _on(value: int) -> bool:
    return value == 1


@dataclass(frozen=True, slots=True)
class Query:
    """How one field of `Gpu` is asked: the functions to try in turn, newest first, and their unit."""

    field: str
    functions: tuple[str, ...]
    convert: Callable[[Any], Any] = lambda value: value
    arguments: tuple[Any, ...] = ()
    handle: bool = True


_SM, _MEMORY = 1, 2  # nvmlClockType_t

#: The plain name is the third version, from driver 510 on.
RUNNING_PROCESSES: Final = (
    "nvmlDeviceGetComputeRunningProcesses",
    "nvmlDeviceGetComputeRunningProcesses_v2",
)

QUERIES: Final = (
    Query("driver", ("nvmlSystemGetDriverVersion",), handle=False),
    Query(
        "cuda_driver",
        ("nvmlSystemGetCudaDriverVersion_v2", "nvmlSystemGetCudaDriverVersion"),
        _cuda_version,
        handle=False,
    ),
    Query("name", ("nvmlDeviceGetName",)),
    Query("uuid", ("nvmlDeviceGetUUID",)),
    Query("pci_bus_id", ("nvmlDeviceGetPciInfo",), lambda pci: str(pci["busId"]).lower()),
    Query(
        "compute_capability",
        ("nvmlDeviceGetCudaComputeCapability",),
        lambda version: ".".join(map(str, version)),
    ),
    Query("cores", ("nvmlDeviceGetNumGpuCores",)),
    Query("memory_bus_bits", ("nvmlDeviceGetMemoryBusWidth",)),
    Query("memory_bytes", ("nvmlDeviceGetMemoryInfo",), lambda memory: memory["total"]),
    Query("free_memory_bytes", ("nvmlDeviceGetMemoryInfo",), lambda memory: memory["free"]),
    Query("sm_clock_hz", ("nvmlDeviceGetClockInfo",), _megahertz, (_SM,)),
    Query("sm_clock_max_hz", ("nvmlDeviceGetMaxClockInfo",), _megahertz, (_SM,)),
    Query("memory_clock_hz", ("nvmlDeviceGetClockInfo",), _megahertz, (_MEMORY,)),
    Query("memory_clock_max_hz", ("nvmlDeviceGetMaxClockInfo",), _megahertz, (_MEMORY,)),
    Query(
        "clock_event_mask",
        ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"),
    ),
    Query("power_w", ("nvmlDeviceGetPowerUsage",), _milliwatts),
    Query("power_limit_w", ("nvmlDeviceGetEnforcedPowerLimit",), _milliwatts),
    Query("power_default_limit_w", ("nvmlDeviceGetPowerManagementDefaultLimit",), _milliwatts),
    Query("temperature_c", ("nvmlDeviceGetTemperature",), arguments=(0,)),  # 0: the GPU's sensor
    Query("pcie_generation", ("nvmlDeviceGetCurrPcieLinkGeneration",)),
    Query("pcie_generation_max", ("nvmlDeviceGetMaxPcieLinkGeneration",)),
    Query("pcie_width", ("nvmlDeviceGetCurrPcieLinkWidth",)),
    Query("pcie_width_max", ("nvmlDeviceGetMaxPcieLinkWidth",)),
    Query("utilization", ("nvmlDeviceGetUtilizationRates",), lambda rates: _percent(rates["gpu"])),
    Query(
        "memory_utilization",
        ("nvmlDeviceGetUtilizationRates",),
        lambda rates: _percent(rates["memory"]),
    ),
    Query("ecc", ("nvmlDeviceGetEccMode",), lambda modes: _on(modes[0])),  # [current, pending]
    Query("persistence", ("nvmlDeviceGetPersistenceMode",), _on),
    Query(
        "compute_mode",
        ("nvmlDeviceGetComputeMode",),
        lambda mode: COMPUTE_MODES.get(mode, f"mode {mode}"),
    ),
    Query("mig", ("nvmlDeviceGetMigMode",), lambda modes: _on(modes[0])),
    Query("processes", RUNNING_PROCESSES, len),
)


def read_gpus(
    nvml: Nvml | None = None, root: Path = Path("/")
) -> tuple[tuple[Gpu, ...], str | None]:
    """Every GPU that NVML lists, and, where NVML does not answer, a sentence on why."""
    nvml = nvml or Pynvml()
    try:
        nvml.query("nvmlInit")
        count = int(nvml.query("nvmlDeviceGetCount"))
    except NvmlError as error:
        name = str(error)
        return (), UNAVAILABLE.get(name, f"NVML does not answer: {name}")
    return tuple(_read_gpu(nvml, index, root) for index in range(count)), None


def _read_gpu(nvml: Nvml, index: int, root: Path) -> Gpu:
    try:
        handle = nvml.query("nvmlDeviceGetHandleByIndex", index)
    except NvmlError as error:
        return Gpu(index=index, unread={"handle": str(error)})
    found: dict[str, Any] = {}
    unread: dict[str, str] = {}
    for query in QUERIES:
        try:
            found[query.field] = answer(nvml, query, handle)
        except NvmlError as error:
            unread[query.field] = str(error)
    if "clock_event_mask" in found:
        found["clock_events"] = decode_clock_events(found["clock_event_mask"])
    if found.get("mig"):
        found["mig_devices"] = _mig_devices(nvml, handle)
    if "pci_bus_id" in found:
        found |= _place(root, found["pci_bus_id"])
    return Gpu(index=index, unread=unread, **found)


def answer(nvml: Nvml, query: Query, handle: Any) -> Any:
    """One field of a GPU in its unit. Raises NvmlError."""
    arguments = ((handle,) if query.handle else ()) + query.arguments
    return query.convert(_first(nvml, query.functions, arguments))


def _first(nvml: Nvml, functions: tuple[str, ...], arguments: tuple[Any, ...]) -> Json:
    """The answer of the first function that the driver knows."""
    for function in functions[:-1]:
        try:
            return nvml.query(function, *arguments)
        except NvmlError as error:
            if str(error) != "FunctionNotFound":
                raise
    return nvml.query(functions[-1], *arguments)


def _mig_devices(nvml: Nvml, handle: Any) -> tuple[MigDevice, ...]:
    def ask(function: str, *arguments: Any) -> Json:
        try:
            return nvml.query(function, *arguments)
        except NvmlError:  # a slot without an instance answers NotFound; a field reads as unknown
            return None

    found = []
    for slot in range(ask("nvmlDeviceGetMaxMigDeviceCount", handle) or 0):
        device = ask("nvmlDeviceGetMigDeviceHandleByIndex", handle, slot)
        if device is not None:
            memory = ask("nvmlDeviceGetMemoryInfo", device)
            found.append(
                MigDevice(
                    ask("nvmlDeviceGetUUID", device),
                    ask("nvmlDeviceGetName", device),
                    None if memory is None else memory["total"],
                )
            )
    return tuple(found)


#: GT/s of a PCIe lane → generation.
PCIE_GENERATIONS: Final = {2.5: 1, 5.0: 2, 8.0: 3, 16.0: 4, 32.0: 5, 64.0: 6}


def _place(root: Path, pci_bus_id: str) -> dict[str, int | None]:
    """Where a GPU sits, by the kernel: its NUMA node, and what the port above it can do.

    sysfs writes the PCI domain with four digits, NVML with eight. Its folders of devices are links into
    the tree of ports (https://docs.kernel.org/PCI/sysfs-pci.html); in a virtual machine the port is often
    one that has no link.
    """
    device = root / "sys/bus/pci/devices" / pci_bus_id[-12:]
    node, port = read_integer(device, "numa_node"), device.resolve().parent
    # "8.0 GT/s PCIe"; before Linux 5.9 without the decimal and the word
    speed = re.match(r"(\d+(?:\.\d+)?) GT/s", read_line(port, "max_link_speed") or "")
    width = read_integer(port, "max_link_width")
    return {
        "numa_node": node if node is not None and node >= 0 else None,
        "pcie_slot_generation_max": PCIE_GENERATIONS.get(float(speed[1])) if speed else None,
        "pcie_slot_width_max": width or None,  # 0: a port without a link
    }
