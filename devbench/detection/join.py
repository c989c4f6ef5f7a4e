"""Joining what frameworks see on the physical device: by UUID or PCI bus id, never by name or index.

Frameworks number GPUs as they like and two equal GPUs share their name; only these two tell which
piece of hardware an address means.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from devbench.detection.records import FrameworkAnswer, Gpu, Hardware, Machine
from devbench.model import Device


@dataclass(frozen=True, slots=True)
class PhysicalDevice:
    """One piece of hardware, and how each framework addresses it. gpu: its NVML record, if any."""

    physical: str
    name: str | None
    gpu: Gpu | None
    devices: tuple[Device, ...]


def normalize_bus_id(text: str) -> str | None:
    """``0000:1B:00.0`` → ``00000000:1b:00.0``, as NVML writes it; None for anything else."""
    match = re.fullmatch(
        r"([0-9a-f]{1,8}):([0-9a-f]{2}):([0-9a-f]{2}\.[0-7])", text.strip().lower()
    )
    return f"{match[1]:0>8}:{match[2]}:{match[3]}" if match else None


def join(hardware: Hardware, answers: Iterable[FrameworkAnswer]) -> Machine:
    """All devices of all frameworks under one name each: ``cpu``, the UUID of the GPU (or of the MIG
    slice) where NVML or a framework knows it, else its PCI bus id; an address that tells neither stays
    its own. A GPU gets its number of multiprocessors from a framework that sees it."""
    answers = tuple(answers)
    seen = [device for answer in answers if answer.view for device in answer.view.devices]
    names = _canonical_names(hardware.gpus, seen)
    devices = tuple(_joined(device, names, hardware) for device in seen)
    counted = {one.physical: one.multiprocessors for one in devices if one.multiprocessors}
    devices = tuple(replace(one, multiprocessors=counted.get(one.physical)) for one in devices)
    gpus = tuple(
        replace(gpu, multiprocessors=counted.get(_own_name(gpu) or "")) for gpu in hardware.gpus
    )
    return Machine(hardware.host, gpus, hardware.nvml_error, answers, devices, hardware.amd_gpus)


def _canonical_names(gpus: Sequence[Gpu], devices: Sequence[Device]) -> dict[str, str]:
    """Every name by which a framework may mean a device → the one that is used here.

    Where there is no NVML (AMD, some containers) a framework that tells both the UUID and the bus id of
    a device gives the name to one that tells the bus id only.
    """
    names: dict[str, str] = {}
    for device in devices:
        if device.pci_bus_id is not None and not _is_index(device.physical):
            told = normalize_bus_id(device.physical) or device.physical
            names.setdefault(_key(device.pci_bus_id), told)
    for gpu in gpus:
        own = _own_name(gpu)
        if own is None:
            continue
        slices = [mig.uuid for mig in gpu.mig_devices if mig.uuid]
        names |= {_key(uuid): uuid for uuid in slices} | {_key(own): own}
        if gpu.pci_bus_id is not None:
            # A process sees one slice of a partitioned GPU, and all frameworks are started alike: its
            # bus id means the slice that one of them names, or the only one.
            seen = names.get(_key(names.get(_key(gpu.pci_bus_id), "")))
            only = slices[0] if len(slices) == 1 else own
            names[_key(gpu.pci_bus_id)] = seen if seen in slices else only
    return names


def _own_name(gpu: Gpu) -> str | None:
    return gpu.uuid or (normalize_bus_id(gpu.pci_bus_id) if gpu.pci_bus_id else None)


def _key(physical: str) -> str:
    """torch writes ``GPU-`` before the UUID of a MIG slice too, which NVML calls ``MIG-…``."""
    return normalize_bus_id(physical) or re.sub(r"^(gpu|mig)-", "", physical.lower())


def _is_index(physical: str) -> bool:
    """``cuda:0``: what an adapter gives where the framework tells neither UUID nor bus id."""
    return re.fullmatch(r"[a-z]+:\d+", physical) is not None


def _joined(device: Device, names: dict[str, str], hardware: Hardware) -> Device:
    if device.is_cpu:
        return replace(
            device,
            name=hardware.host.cpu_model or device.name,
            memory_bytes=device.memory_bytes or hardware.host.usable_memory_bytes,
        )
    physical = (
        names.get(_key(device.physical))
        or names.get(_key(device.pci_bus_id or ""))
        or normalize_bus_id(device.physical)
    )
    if physical is None and _is_index(device.physical):
        # An index means something to its framework alone; two frameworks' `gpu:0` may differ.
        physical = f"{device.framework}:{device.physical}"
    device = replace(device, physical=physical or device.physical)
    gpu = next((gpu for gpu in hardware.gpus if _own_name(gpu) == device.physical), None)
    if gpu is None:
        return device
    return replace(
        device,
        name=gpu.name or device.name,
        memory_bytes=device.memory_bytes or gpu.memory_bytes,
        compute_capability=device.compute_capability or gpu.compute_capability,
        pci_bus_id=device.pci_bus_id or gpu.pci_bus_id,
    )


def physical_devices(machine: Machine) -> tuple[PhysicalDevice, ...]:
    """The CPU, every NVIDIA and AMD GPU (also one that no framework sees), and what else one sees.

    A partitioned GPU stands there as its slices.
    """
    found = {"cpu": PhysicalDevice("cpu", machine.host.cpu_model, None, ())}
    for gpu in machine.gpus:
        for mig in gpu.mig_devices:
            if mig.uuid:
                found[mig.uuid] = PhysicalDevice(mig.uuid, mig.name, None, ())
        if not gpu.mig_devices:
            own = _own_name(gpu) or f"nvml:{gpu.index}"
            found[own] = PhysicalDevice(own, gpu.name, gpu, ())
    for amd in machine.amd_gpus:
        own = amd.pci_bus_id or f"amdsmi:{amd.index}"
        for (
            device
        ) in machine.devices:  # a framework may tell a UUID too; AMD SMI's has another form
            if amd.pci_bus_id and normalize_bus_id(device.pci_bus_id or "") == amd.pci_bus_id:
                own = device.physical
        found[own] = PhysicalDevice(own, amd.name, None, ())
    for device in machine.devices:
        known = found.get(device.physical) or PhysicalDevice(device.physical, device.name, None, ())
        found[device.physical] = replace(known, devices=(*known.devices, device))
    return tuple(found.values())


def why_unseen(answer: FrameworkAnswer) -> str:
    """Why a framework has no address for a GPU of this machine, as far as its answer tells."""
    if answer.view is None:
        return answer.reason or answer.status
    unmatched = [device.address for device in answer.view.devices if _is_index(device.physical)]
    if unmatched:
        return f"cannot tell: {', '.join(unmatched)} gives neither UUID nor PCI bus id"
    build = answer.view.build
    version = f"{answer.name} {answer.view.version}"
    cuda = build.get("cuda") or build.get("cuda_version")
    rocm = build.get("hip") or build.get("is_rocm_build")
    tells = not {"cuda", "hip", "is_cuda_build", "is_rocm_build"}.isdisjoint(build)
    if tells and not (cuda or rocm or build.get("is_cuda_build")):
        return f"sees no GPU: CPU-only build ({version})"
    if answer.visible_devices is not None:
        return f"does not see it: CUDA_VISIBLE_DEVICES={answer.visible_devices!r}"
    if rocm:
        return f"does not see it: built for ROCm ({version})"
    return f"does not see it: built for CUDA {cuda} ({version})" if cuda else "does not see it"
