"""The GPUs of a machine, joined from what the bus, the driver and a framework under load say of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from devbench.detection import Gpu, GpuHealth, Machine
from devbench.detection.join import normalize_bus_id
from devbench.detection.nvml import QUERIES as GPU_QUERIES
from devbench.detection.nvml import NvmlError, Query, answer
from devbench.doctor.recording import PciDevice, RecordedCalls, Recording
from devbench.doctor.records import CouldNotCheck

Vendor = Literal["nvidia", "amd", "apple"]

NVIDIA: Final = "0x10de"
AMD: Final = "0x1002"

_LOADED: Final = {query.field: query for query in GPU_QUERIES}
_REPLAYS: Final = Query("pcie_replays", ("nvmlDeviceGetPcieReplayCounter",))


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFacts:
    """One GPU of the machine, by what the bus, the driver and a framework under load say of it.

    physical: the name that frameworks are joined on. pci: None where the bus is not shown (WSL, Apple).
    nvml, health: None where NVML does not list it. loaded: fields read while it was busy.
    names: every physical name that means it, its MIG slices included.
    """

    physical: str
    name: str
    vendor: Vendor
    pci: PciDevice | None = None
    nvml: Gpu | None = None
    health: GpuHealth | None = None
    loaded: Mapping[str, Any] | None = None
    names: frozenset[str] = frozenset()

    def read(self, field: str) -> Any:
        """A field of NVML. Raises CouldNotCheck with NVML's reason."""
        for record in (self.nvml, self.health):
            if record is not None and hasattr(record, field):
                value = getattr(record, field)
                if value is None:
                    reason = record.unread.get(field) or record.unread.get("handle") or "not told"
                    if reason == "GpuIsLost":
                        raise CouldNotCheck("the GPU is lost")
                    raise CouldNotCheck(f"NVML does not tell {field} ({reason})")
                return value
        raise CouldNotCheck("NVML does not list this GPU")

    @property
    def is_lost(self) -> bool:
        """Whether NVML answered some question with that the GPU has fallen off the bus."""
        records = (self.nvml, self.health)
        return any("GpuIsLost" in one.unread.values() for one in records if one is not None)

    @property
    def capability(self) -> tuple[int, int]:
        """Compute capability. Raises CouldNotCheck."""
        match = re.fullmatch(r"([0-9]{1,3})\.([0-9])", str(self.read("compute_capability")))
        if match is None:
            raise CouldNotCheck("NVML tells a compute capability that is none")
        return int(match[1]), int(match[2])

    def under_load(self, field: str) -> Any:
        """The same while the GPU was busy. Raises CouldNotCheck."""
        if self.loaded is None:
            raise CouldNotCheck(
                "no framework could keep this GPU busy, and an idle one tells nothing"
            )
        if field not in self.loaded:
            raise CouldNotCheck(f"NVML did not tell {field} under load")
        return self.loaded[field]


def find_gpus(
    recording: Recording, machine: Machine, health: tuple[GpuHealth, ...]
) -> Iterator[GpuFacts]:
    """NVIDIA's in the order of their bus ids, AMD's that a compute driver could use, Apple's."""
    by_bus = {gpu.pci_bus_id: gpu for gpu in machine.gpus if gpu.pci_bus_id}
    # A driver that answers hardly anything tells no bus id: then its order is the bus's.
    unplaced = [gpu for gpu in machine.gpus if not gpu.pci_bus_id]
    amd = [one for one in recording.pci if one.vendor == AMD and _computes(recording, one)]
    seen: set[int] = set()
    for device in recording.pci:
        bus_id = normalize_bus_id(device.bus_id) or device.bus_id
        if device.vendor == NVIDIA:
            gpu = by_bus.get(bus_id) or (unplaced.pop(0) if unplaced else None)
            if gpu is not None:
                seen.add(gpu.index)
            yield _nvidia(recording, machine, device, gpu, health)
        elif device in amd:
            yield GpuFacts(
                physical=bus_id,
                name=f"AMD GPU {device.device}",
                vendor="amd",
                pci=device,
                names=frozenset({bus_id, *_amd_names(recording, machine, bus_id, len(amd))}),
            )
    for gpu in machine.gpus:  # where the bus is not shown: WSL, some containers
        if gpu.index not in seen:
            yield _nvidia(recording, machine, None, gpu, health)
    if recording.system.platform == "darwin" and _apple_chip(recording):
        names = {one.physical for one in machine.devices if one.kind in ("mps", "gpu")}
        yield GpuFacts(
            physical="mps", name="Apple GPU", vendor="apple", names=frozenset({"mps", *names})
        )


def _computes(recording: Recording, device: PciDevice) -> bool:
    """An AMD GPU that ROCm may drive: the integrated ones of most desktops are not meant to compute."""
    return device.driver == "amdgpu" and recording.entry("dev/kfd") is not None


def _apple_chip(recording: Recording) -> bool:
    return recording.system.machine == "arm64" or bool(recording.system.translated)


def _nvidia(
    recording: Recording,
    machine: Machine,
    device: PciDevice | None,
    gpu: Gpu | None,
    health: tuple[GpuHealth, ...],
) -> GpuFacts:
    bus_id = normalize_bus_id(device.bus_id) if device else None
    physical = (
        (gpu.uuid or gpu.pci_bus_id if gpu else None) or bus_id or f"nvml:{gpu.index if gpu else 0}"
    )
    slices = {mig.uuid for mig in gpu.mig_devices if mig.uuid} if gpu else set()
    names = frozenset({physical} | slices | ({bus_id} if bus_id else set()))
    return GpuFacts(
        physical=physical,
        name=(gpu.name if gpu else None) or "NVIDIA GPU",
        vendor="nvidia",
        pci=device,
        nvml=gpu,
        health=None if gpu is None else next(one for one in health if one.index == gpu.index),
        loaded=_load(recording, machine, names),
        names=names,
    )


def _amd_names(recording: Recording, machine: Machine, bus_id: str, amd_gpus: int) -> Iterator[str]:
    """What frameworks call the GPU at this place of the bus; NVIDIA's beside it are ``cuda`` too.

    A build for ROCm sees AMD's only. Where it tells no places, and as many devices as there are AMD
    GPUs, each GPU has one of them.
    """
    rocm = {one.name for one in recording.frameworks if one.is_rocm}
    unplaced: dict[str, list[str]] = {}
    for one in machine.devices:
        place = normalize_bus_id(one.pci_bus_id or one.physical)
        if place == bus_id:
            yield one.physical
        elif place is None and one.framework in rocm and not one.is_cpu:
            unplaced.setdefault(one.framework, []).append(one.physical)
    for names in unplaced.values():
        if len(names) >= amd_gpus:
            yield from names


def _load(recording: Recording, machine: Machine, names: frozenset[str]) -> dict[str, Any] | None:
    """Fields of a GPU that a framework kept busy, None where none did."""
    addresses = {(one.framework, one.address) for one in machine.devices if one.physical in names}
    for framework in recording.frameworks:
        for load in framework.loads:
            if (framework.name, load.address) in addresses and load.calls:
                return _loaded_fields(load.calls)
    return None


def _loaded_fields(calls: Mapping[str, Any]) -> dict[str, Any]:
    nvml = RecordedCalls(calls)
    handle = next(
        (value for call, value in calls.items() if call.startswith("nvmlDeviceGetHandleBy")), None
    )
    found: dict[str, Any] = {}
    for field, query in (*_LOADED.items(), ("pcie_replays", _REPLAYS)):
        if query.handle:
            try:
                value = answer(nvml, query, handle)
            except NvmlError:
                continue
            except (TypeError, ValueError, KeyError, IndexError, AttributeError) as problem:
                raise CouldNotCheck(f"the answers under load are not NVML's: {problem}") from None
            if value is not None:
                found[field] = value
    return found
