"""What detection finds, as frozen records. None means: could not be read here.

Frequencies are Hz, powers W, temperatures °C, utilisation a fraction of 1; memory is bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeVar

from devbench.frameworks.base import FrameworkView
from devbench.model import Device, Json

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class NumaNode:
    """One NUMA node; `cpus` in the kernel's form, ``0-15,32-47``."""

    index: int
    cpus: str
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The machine around the GPUs, and what of it this process may use.

    usable_cpus is a fraction where a quota grants one; cpu_limit and memory_limit say what sets them
    below the whole machine (None: nothing does).
    """

    hostname: str | None = None
    os: str | None = None
    kernel: str | None = None
    architecture: str | None = None
    python: str | None = None
    container: str | None = None
    virtual_machine: str | None = None
    cpu_model: str | None = None
    cpu_flags: tuple[str, ...] | None = None
    cpu_max_clock_hz: float | None = None
    governor: str | None = None
    turbo: bool | None = None
    sockets: int | None = None
    physical_cores: int | None = None
    logical_cpus: int | None = None
    smt: bool | None = None
    usable_cpus: float | None = None
    usable_cores: int | None = None
    cpu_limit: str | None = None
    memory_bytes: int | None = None
    usable_memory_bytes: int | None = None
    available_memory_bytes: int | None = None
    memory_limit: str | None = None
    numa_nodes: tuple[NumaNode, ...] | None = None


@dataclass(frozen=True, slots=True)
class MigDevice:
    """A slice of a GPU that is partitioned; frameworks see it instead of the GPU."""

    uuid: str | None
    name: str | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One NVIDIA GPU as NVML tells it, every field on its own; `unread` says why one is None.

    multiprocessors: as a framework tells it, NVML does not (`devbench.detection.join`).
    pcie_generation_max, pcie_width_max: the most that the GPU and its slot can do together;
    pcie_slot_generation_max, pcie_slot_width_max: the slot alone, by the kernel.
    """

    index: int
    name: str | None = None
    uuid: str | None = None
    pci_bus_id: str | None = None
    numa_node: int | None = None
    compute_capability: str | None = None
    cores: int | None = None
    multiprocessors: int | None = None
    memory_bus_bits: int | None = None
    memory_bytes: int | None = None
    free_memory_bytes: int | None = None
    driver: str | None = None
    cuda_driver: str | None = None
    sm_clock_hz: float | None = None
    sm_clock_max_hz: float | None = None
    memory_clock_hz: float | None = None
    memory_clock_max_hz: float | None = None
    clock_event_mask: int | None = None
    clock_events: tuple[str, ...] | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    power_default_limit_w: float | None = None
    temperature_c: int | None = None
    pcie_generation: int | None = None
    pcie_generation_max: int | None = None
    pcie_width: int | None = None
    pcie_width_max: int | None = None
    pcie_slot_generation_max: int | None = None
    pcie_slot_width_max: int | None = None
    utilization: float | None = None
    memory_utilization: float | None = None
    processes: int | None = None
    ecc: bool | None = None
    persistence: bool | None = None
    compute_mode: str | None = None
    mig: bool | None = None
    mig_devices: tuple[MigDevice, ...] = ()
    unread: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AmdGpu:
    """One AMD GPU as AMD SMI tells it, every field on its own; `unread` says why one is None.

    multiprocessors: compute units. power_w: of the socket. temperature_c: at the hottest place.
    """

    index: int
    name: str | None = None
    uuid: str | None = None
    pci_bus_id: str | None = None
    architecture: str | None = None
    multiprocessors: int | None = None
    memory_bytes: int | None = None
    used_memory_bytes: int | None = None
    driver: str | None = None
    clock_hz: float | None = None
    clock_max_hz: float | None = None
    power_w: float | None = None
    temperature_c: float | None = None
    utilization: float | None = None
    unread: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hardware:
    """What can be told without importing a framework. nvml_error: why NVML lists no GPU."""

    host: Host
    gpus: tuple[Gpu, ...] = ()
    nvml_error: str | None = None
    amd_gpus: tuple[AmdGpu, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameworkAnswer:
    """What became of asking one framework in a process of its own.

    reason is a sentence where the status is not ok; visible_devices is CUDA_VISIBLE_DEVICES as the
    framework saw it (None: not set); log holds the last lines that it wrote.
    """

    name: str
    status: Literal["ok", "missing", "failed"]
    reason: str | None = None
    view: FrameworkView | None = None
    visible_devices: str | None = None
    log: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Machine:
    """Hardware and frameworks joined: `devices` are all that the frameworks address, each with the
    `physical` name that is the same in every framework, and with names filled in."""

    host: Host
    gpus: tuple[Gpu, ...]
    nvml_error: str | None
    frameworks: tuple[FrameworkAnswer, ...]
    devices: tuple[Device, ...]
    amd_gpus: tuple[AmdGpu, ...] = ()


def to_json(record: Host | Gpu | AmdGpu | FrameworkAnswer | Device) -> dict[str, Json]:
    """Plain dicts and lists, ready for ``json.dump``."""
    return {name: _plain(value) for name, value in asdict(record).items()}


def _plain(value: Json) -> Json:
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def machine_to_json(machine: Machine) -> dict[str, Json]:
    """``machine_from_json`` reads it back; the names are those of the records."""
    return {
        "schema": "devbench.detect/1",
        "host": to_json(machine.host),
        "gpus": [to_json(gpu) for gpu in machine.gpus],
        "nvml_error": machine.nvml_error,
        "amd_gpus": [to_json(gpu) for gpu in machine.amd_gpus],
        "frameworks": [to_json(answer) for answer in machine.frameworks],
        "devices": [to_json(device) for device in machine.devices],
    }


def machine_from_json(data: Json) -> Machine:
    """Fields that this version does not know are left out, and those missing are None."""
    return Machine(
        host=host_from_json(data["host"]),
        gpus=tuple(
            _known(
                Gpu,
                gpu,
                clock_events=_tuple(gpu.get("clock_events")),
                mig_devices=tuple(_known(MigDevice, mig) for mig in gpu.get("mig_devices", ())),
            )
            for gpu in data["gpus"]
        ),
        nvml_error=data.get("nvml_error"),
        frameworks=tuple(
            _known(
                FrameworkAnswer,
                answer,
                view=None if answer.get("view") is None else view_from_json(answer["view"]),
                log=tuple(answer.get("log", ())),
            )
            for answer in data["frameworks"]
        ),
        devices=tuple(map(_device, data["devices"])),
        amd_gpus=tuple(_known(AmdGpu, gpu) for gpu in data.get("amd_gpus", ())),
    )


def host_from_json(data: Json) -> Host:
    """The host of a machine alone."""
    nodes = data.get("numa_nodes")
    return _known(
        Host,
        data,
        cpu_flags=_tuple(data.get("cpu_flags")),
        numa_nodes=None if nodes is None else tuple(_known(NumaNode, node) for node in nodes),
    )


def _device(data: Json) -> Device:
    return _known(Device, data, dtypes=_tuple(data.get("dtypes")))


def view_to_json(view: FrameworkView) -> dict[str, Json]:
    return {name: _plain(value) for name, value in asdict(view).items()}


def view_from_json(data: Json) -> FrameworkView:
    return _known(FrameworkView, data, devices=tuple(map(_device, data["devices"])))


def _known(record: type[Record], data: Mapping[str, Any], **converted: Any) -> Record:
    names = {item.name for item in fields(record)}  # type: ignore[arg-type]
    return record(**{name: value for name, value in data.items() if name in names} | converted)


def _tuple(values: list[Any] | None) -> tuple[Any, ...] | None:
    return None if values is None else tuple(values)
