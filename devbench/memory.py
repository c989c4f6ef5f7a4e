"""How much memory a device has free now, for the question whether a case can fit."""

from __future__ import annotations

from devbench.detection import read_hardware
from devbench.model import Device


def free_bytes(device: Device) -> int | None:
    """Free bytes of the device's memory: what the cgroup leaves on a CPU, what NVML says of a GPU.

    None where nobody tells; then nothing is skipped for want of memory.
    """
    hardware = read_hardware()
    if device.is_cpu:
        return hardware.host.available_memory_bytes
    for gpu in hardware.gpus:
        if gpu.uuid == device.physical:
            return gpu.free_memory_bytes
    return None
