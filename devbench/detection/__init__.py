"""Which compute devices this machine has, and what each framework sees of them.

Hardware is read in milliseconds without any framework; frameworks are asked in children of their own::

    with start_asking(adapters) as asking:      # the children start first: they are the slow part
        hardware = read_hardware()
        machine = join(hardware, asking)
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devbench.detection.amd import read_amd_gpus as read_amd_gpus
from devbench.detection.health import GpuHealth as GpuHealth
from devbench.detection.health import read_health as read_health
from devbench.detection.host import read_host as read_host
from devbench.detection.host import usable_threads as usable_threads
from devbench.detection.join import PhysicalDevice as PhysicalDevice
from devbench.detection.join import join as join
from devbench.detection.join import physical_devices as physical_devices
from devbench.detection.join import why_unseen as why_unseen
from devbench.detection.nvml import Nvml as Nvml
from devbench.detection.nvml import NvmlError as NvmlError
from devbench.detection.nvml import read_gpus as read_gpus
from devbench.detection.records import AmdGpu as AmdGpu
from devbench.detection.records import FrameworkAnswer as FrameworkAnswer
from devbench.detection.records import Gpu as Gpu
from devbench.detection.records import Hardware as Hardware
from devbench.detection.records import Host as Host
from devbench.detection.records import Machine as Machine
from devbench.detection.records import MigDevice as MigDevice
from devbench.detection.records import NumaNode as NumaNode
from devbench.detection.records import host_from_json as host_from_json
from devbench.detection.records import machine_from_json as machine_from_json
from devbench.detection.records import machine_to_json as machine_to_json

if TYPE_CHECKING:
    from devbench.detection.asking import Asking as Asking
    from devbench.detection.asking import start_asking as start_asking

#: Children and threads take longer to import than all the hardware takes to read.
_ASKING = ("Asking", "start_asking")


def __getattr__(name: str) -> Any:
    if name not in _ASKING:
        raise AttributeError(f"module 'devbench.detection' has no attribute {name!r}")
    return getattr(importlib.import_module("devbench.detection.asking"), name)


def read_hardware(root: Path = Path("/"), nvml: Nvml | None = None) -> Hardware:
    """Host and GPUs. `root` and `nvml` are given where a recorded machine is read instead."""
    gpus, nvml_error = read_gpus(nvml, root)
    return Hardware(read_host(root), gpus, nvml_error, () if nvml else read_amd_gpus())
