"""Every check by its id: where it stands, what it looks at, and its words in ``table.toml``."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final, Literal

from devbench.doctor.checks import (
    Found,
    architectures,
    build,
    driver,
    health,
    libraries,
    slow_gpu,
    slow_host,
    use,
)
from devbench.doctor.gpus import Vendor

#: What a check is about; it is called once for each of them: facts, then the framework, then the GPU.
Scope = Literal["machine", "gpu", "framework", "framework on gpu"]

#: The links of the chain in their order. A GPU's maker decides which of them there are.
LINKS: Final = {
    "PCI device": frozenset({"nvidia", "amd"}),
    "kernel module": frozenset({"nvidia", "amd"}),
    "device node": frozenset({"nvidia", "amd"}),
    "libcuda": frozenset({"nvidia"}),
    "NVML": frozenset({"nvidia"}),
    "build": frozenset({"nvidia", "amd", "apple"}),
    "visibility": frozenset({"nvidia", "amd"}),
    "context": frozenset({"nvidia", "amd"}),
    "kernel": frozenset({"nvidia", "amd", "apple"}),
}

_NVIDIA: Final[frozenset[Vendor]] = frozenset({"nvidia"})
_PCI: Final[frozenset[Vendor]] = frozenset({"nvidia", "amd"})
_ALL: Final[frozenset[Vendor]] = frozenset({"nvidia", "amd", "apple"})


@dataclass(frozen=True, slots=True)
class Check:
    """link: its place in the chain; None for what does not break one. vendors: whose GPUs it is about."""

    id: str
    scope: Scope
    run: Callable[..., Iterator[Found]]
    link: str | None = None
    vendors: frozenset[Vendor] = _NVIDIA


@dataclass(frozen=True, slots=True)
class Words:
    """What stands on the documentation page of an id."""

    title: str
    means: str
    reads: str
    mends: str
    sources: tuple[str, ...]


CHECKS: Final = (
    Check("D18", "gpu", driver.no_driver, "kernel module"),
    Check("D11", "machine", driver.container_without_gpus, "device node"),
    Check("D19", "machine", driver.permissions, "device node", _PCI),
    Check("D14", "machine", driver.unified_memory_node, "device node"),
    Check("D17", "machine", driver.wsl_library_path, "libcuda"),
    Check("D13", "machine", driver.versions_differ, "NVML"),
    Check("D12", "machine", driver.unknown_error_after_reload, "NVML"),
    Check("D23", "gpu", driver.lost, "NVML"),
    Check("D24", "framework", libraries.will_not_import, "build", _ALL),
    Check("D08", "framework", build.no_wheel, "build", _ALL),
    Check("D07", "framework", build.native_windows, "build"),
    Check("D20", "framework on gpu", build.apple, "build", frozenset({"apple"})),
    Check("D21", "framework on gpu", build.wrong_vendor, "build", _PCI),
    Check("D01", "framework on gpu", build.cpu_only, "build", _PCI),
    Check("D02", "framework on gpu", build.driver_too_old, "build"),
    Check("D03", "framework on gpu", architectures.no_code_for_it, "build"),
    Check("D04", "framework on gpu", architectures.compiles_from_ptx, "build"),
    Check("D05", "framework on gpu", libraries.tensorflow_without_libraries, "build"),
    Check("D06", "framework on gpu", libraries.wheels_not_found, "build"),
    Check("D09", "machine", use.hidden_by_variable, "visibility"),
    Check("D10", "machine", use.set_too_late, "visibility"),
    Check("D16", "gpu", use.mig_instances, "visibility"),
    Check("D15", "machine", use.fabric_manager, "context"),
    Check("D22", "gpu", use.compute_mode, "context"),
    Check("D25", "framework on gpu", use.no_kernel, "kernel", _ALL),
    Check("S01", "gpu", slow_gpu.pcie_link),
    Check("S02", "gpu", slow_gpu.slowed_down),
    Check("S03", "gpu", slow_gpu.power_limit),
    Check("S04", "gpu", slow_gpu.clocks_locked),
    Check("S05", "gpu", slow_gpu.persistence_off),
    Check("S06", "gpu", slow_gpu.others_on_it),
    Check("S07", "gpu", slow_gpu.display_attached),
    Check("S08", "machine", slow_host.debugging_variables),
    Check("S09", "framework", slow_host.math_settings),
    Check("S10", "framework", slow_host.too_many_threads),
    Check("S11", "machine", slow_host.processor_held_back),
    Check("S12", "gpu", slow_gpu.other_numa_node),
    Check("S13", "machine", slow_host.small_shared_memory),
    Check("S14", "machine", slow_host.memory_short),
    Check("S15", "framework", slow_host.slow_path),
    Check("H01", "gpu", health.uncorrected_errors),
    Check("H02", "gpu", health.remapping),
    Check("H03", "gpu", health.retirement),
    Check("H04", "gpu", health.xid_messages),
    Check("H05", "gpu", health.replays),
    Check("H06", "gpu", health.inactive_links),
    Check("H07", "gpu", health.ecc_off),
    Check("H08", "framework", health.wrong_answers),
)


@cache
def words() -> Mapping[str, Words]:
    """The words of every id, in the order of the ids."""
    table = tomllib.loads(files(__package__).joinpath("table.toml").read_text(encoding="utf-8"))
    return {
        id: Words(row["title"], row["means"], row["reads"], row["mends"], tuple(row["sources"]))
        for id, row in table.items()
    }
