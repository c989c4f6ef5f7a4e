"""AMD GPUs through AMD SMI's module ``amdsmi``, where it is installed: ROCm brings it.

Written after https://rocm.docs.amd.com/projects/amdsmi/en/latest/reference/amdsmi-py-api.html and tested
with recorded answers. It has not yet run on a device.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final, Protocol

from devbench.detection.records import AmdGpu
from devbench.model import Json


class AmdSmiError(Exception):
    """AMD SMI's answer to one query, in its own words."""


class AmdSmi(Protocol):
    """What is asked of AMD SMI, so that a recorded machine can answer in its place."""

    def query(self, function: str, *arguments: Any) -> Json:
        """Constants are given by name, ``AmdSmiClkType.GFX``. Raises AmdSmiError."""
        ...


class Amdsmi:
    """AMD SMI through its own module."""

    def query(self, function: str, *arguments: Any) -> Json:
        if importlib.util.find_spec("amdsmi") is None:
            raise AmdSmiError("amdsmi is not installed")
        try:
            import amdsmi  # type: ignore[import-not-found, unused-ignore]

            given = [attrgetter(one)(amdsmi) if isinstance(one, str) else one for one in arguments]
            return getattr(amdsmi, function)(*given)
        except Exception as error:  # noqa: BLE001  # without a driver the import itself fails in many ways
            raise AmdSmiError(f"{type(error).__name__}: {error}") from None


@dataclass(frozen=True, slots=True)
class Query:
    """How one field of `AmdGpu` is asked. key: of the dict that is answered; None: the answer itself."""

    field: str
    function: str
    key: str | None = None
    convert: Callable[[Any], Any] = float
    arguments: tuple[str, ...] = ()


def _bus_id(text: str) -> str:
    """``0000:C3:00.0`` as NVML writes it."""
    return f"{text.lower():0>16}"


QUERIES: Final = (
    Query("name", "amdsmi_get_gpu_asic_info", "market_name", str),
    Query("architecture", "amdsmi_get_gpu_asic_info", "target_graphics_version", str),
    Query("multiprocessors", "amdsmi_get_gpu_asic_info", "num_compute_units", int),
    Query("uuid", "amdsmi_get_gpu_device_uuid", convert=str),
    Query("pci_bus_id", "amdsmi_get_gpu_device_bdf", convert=_bus_id),
    Query("driver", "amdsmi_get_gpu_driver_info", "driver_version", str),
    Query("memory_bytes", "amdsmi_get_gpu_vram_usage", "vram_total", lambda mib: int(mib) << 20),
    Query(
        "used_memory_bytes", "amdsmi_get_gpu_vram_usage", "vram_used", lambda mib: int(mib) << 20
    ),
    Query(
        "clock_hz", "amdsmi_get_clock_info", "clk", lambda mhz: mhz * 1e6, ("AmdSmiClkType.GFX",)
    ),
    Query(
        "clock_max_hz",
        "amdsmi_get_clock_info",
        "max_clk",
        lambda mhz: mhz * 1e6,
        ("AmdSmiClkType.GFX",),
    ),
    Query("power_w", "amdsmi_get_power_info", "socket_power"),
    Query(
        "temperature_c",
        "amdsmi_get_temp_metric",
        arguments=("AmdSmiTemperatureType.HOTSPOT", "AmdSmiTemperatureMetric.CURRENT"),
    ),
    Query("utilization", "amdsmi_get_gpu_activity", "gfx_activity", lambda percent: percent / 100),
)


def read_amd_gpus(smi: AmdSmi | None = None) -> tuple[AmdGpu, ...]:
    """Every GPU that AMD SMI lists; none where it does not answer, as on most machines."""
    smi = smi or Amdsmi()
    try:
        smi.query("amdsmi_init")
        handles = smi.query("amdsmi_get_processor_handles")
    except AmdSmiError:
        return ()
    return tuple(_read(smi, index, handle) for index, handle in enumerate(handles))


def _read(smi: AmdSmi, index: int, handle: Any) -> AmdGpu:
    found: dict[str, Any] = {}
    unread: dict[str, str] = {}
    for query in QUERIES:
        try:
            told = smi.query(query.function, handle, *query.arguments)
            value = told if query.key is None else told.get(query.key, "N/A")
            if value == "N/A":  # how it says that it does not know
                raise AmdSmiError("N/A")
            found[query.field] = query.convert(value)
        except (AmdSmiError, TypeError, ValueError, AttributeError) as error:
            unread[query.field] = str(error)
    return AmdGpu(index=index, unread=unread, **found)
