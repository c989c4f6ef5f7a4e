"""Host and GPUs as rows of name and value, ``??`` for what could not be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from devbench.detection import Gpu, GpuHealth, Host

Row = tuple[str, str]


def host_rows(host: Host) -> list[Row]:
    smt = "SMT ??" if host.smt is None else "SMT" if host.smt else "no SMT"
    flags = "??" if host.cpu_flags is None else " ".join(host.cpu_flags) or "none that matter"
    clock = "" if host.cpu_max_clock_hz is None else f"up to {host.cpu_max_clock_hz / 1e9:.2f} GHz"
    governor = host.governor and f"governor {host.governor}"
    turbo = "" if host.turbo is None else f"turbo {_on_off(host.turbo)}"
    cpus = f"{_number(host.usable_cpus)} of {_number(host.logical_cpus)}"
    memory = f"{_gib(host.usable_memory_bytes)} of {_gib(host.memory_bytes)}"
    nodes = [
        f"node {node.index}: CPUs {node.cpus or 'none'}, {_gib(node.memory_bytes)}"
        for node in host.numa_nodes or ()
    ]
    return [
        ("CPU", dots(host.cpu_model or "??", clock, governor, turbo)),
        (
            "",
            dots(
                _count(host.sockets, "socket"),
                _count(host.physical_cores, "core"),
                _count(host.logical_cpus, "logical CPU"),
                smt,
            ),
        ),
        ("flags", flags),
        ("usable CPUs", dots(cpus, host.cpu_limit)),
        (
            "usable memory",
            dots(memory, host.memory_limit, f"{_gib(host.available_memory_bytes)} available now"),
        ),
        *((("NUMA", "")[position > 0], node) for position, node in enumerate(nodes or ["??"])),
        ("system", dots(host.os or "??", f"kernel {host.kernel or '??'}", host.architecture)),
        (
            "",
            dots(
                f"Python {host.python or '??'}",
                host.container and f"container: {host.container}",
                host.virtual_machine and f"virtual machine: {host.virtual_machine}",
            ),
        ),
    ]


def gpu_rows(gpus: Sequence[Gpu], health: Sequence[GpuHealth], nvml_error: str | None) -> list[Row]:
    """The rows of all GPUs, or why there is none. health: of each GPU, in the same order."""
    if not gpus:
        return [("NVIDIA", nvml_error or "the driver lists no GPU")]
    return [row for pair in zip(gpus, health, strict=True) for row in _rows_of_gpu(*pair)]


def _rows_of_gpu(gpu: Gpu, health: GpuHealth) -> list[Row]:
    node = "??" if gpu.numa_node is None else gpu.numa_node
    return [
        (
            f"GPU {gpu.index}",
            dots(
                gpu.name or "??",
                f"compute capability {gpu.compute_capability or '??'}",
                f"{_number(gpu.cores)} cores",
            ),
        ),
        (
            "address",
            dots(gpu.uuid or "uuid ??", f"PCI {gpu.pci_bus_id or '??'}", f"NUMA node {node}"),
        ),
        (
            "memory",
            dots(
                f"{_gib(gpu.free_memory_bytes)} free of {_gib(gpu.memory_bytes)}",
                f"{_number(gpu.memory_bus_bits)}-bit bus",
                f"BAR1 {_gib(health.bar1_bytes)}",
            ),
        ),
        ("clocks", _clocks(gpu, health)),
        ("power", _power(gpu, health)),
        ("heat", _heat(gpu, health)),
        (
            "PCIe",
            dots(
                f"generation {_number(gpu.pcie_generation)} ×{_number(gpu.pcie_width)}, at most "
                f"{_number(gpu.pcie_generation_max)} ×{_number(gpu.pcie_width_max)}",
                f"the GPU alone generation {_number(health.pcie_gpu_generation_max)}",
                _count(health.pcie_replays, "replay"),
            ),
        ),
        ("NVLink", _nvlinks(health)),
        (
            "load",
            dots(
                f"busy {_percent(gpu.utilization)}",
                f"memory busy {_percent(gpu.memory_utilization)}",
                _count(gpu.processes, "process", "processes"),
                f"display {_on_off(health.display_active)}",
            ),
        ),
        (
            "modes",
            dots(
                f"ECC {_on_off(gpu.ecc)}{_pending(gpu.ecc, health.ecc_pending)}",
                f"MIG {_on_off(gpu.mig)}",
                f"persistence {_on_off(gpu.persistence)}",
                f"compute mode {gpu.compute_mode or '??'}",
            ),
        ),
        ("health", _health(health)),
        ("driver", dots(gpu.driver or "??", f"CUDA {gpu.cuda_driver or '??'}")),
        *(("MIG slice", dots(mig.name or "??", mig.uuid or "??")) for mig in gpu.mig_devices),
    ]


def _clocks(gpu: Gpu, health: GpuHealth) -> str:
    events = "??" if gpu.clock_events is None else ", ".join(gpu.clock_events) or "nothing"
    return dots(
        f"SM {_mhz(gpu.sm_clock_hz)} of {_mhz(gpu.sm_clock_max_hz)} MHz",
        f"memory {_mhz(gpu.memory_clock_hz)} of {_mhz(gpu.memory_clock_max_hz)} MHz",
        f"held by: {events}",
        f"application {_mhz(health.application_clock_hz)} MHz, default "
        f"{_mhz(health.application_clock_default_hz)}",
        f"P{_number(health.pstate)}",
    )


def _power(gpu: Gpu, health: GpuHealth) -> str:
    return dots(
        f"{_number(gpu.power_w)} of {_number(gpu.power_limit_w)} W",
        f"default limit {_number(gpu.power_default_limit_w)} W",
        f"settable {_number(health.power_min_limit_w)} to {_number(health.power_max_limit_w)} W",
    )


def _heat(gpu: Gpu, health: GpuHealth) -> str:
    now, limit = gpu.temperature_c, health.slowdown_temperature_c
    margin = None if now is None or limit is None else limit - now
    return dots(
        f"{_number(now)} °C", f"slows down at {_number(limit)} °C", f"margin {_number(margin)} °C"
    )


def _nvlinks(health: GpuHealth) -> str:
    if health.nvlinks is None:
        # Asked for its first link, a GPU without any refuses; other refusals are told as they are.
        refused = health.unread.get("nvlinks", "")
        return "none" if refused in ("NotSupported", "InvalidArgument") else "??"
    return f"{sum(health.nvlinks)} of {len(health.nvlinks)} active"


def _pending(now: bool | None, then: bool | None) -> str:
    return "" if then is None or then == now else f" ({_on_off(then)} after a reset)"


def _health(health: GpuHealth) -> str:
    waiting = {"remap": health.remap_pending, "page retirement": health.retirement_pending}
    failed = {True: "a remap failed", False: "no remap failed", None: "failed remaps ??"}
    return dots(
        f"uncorrected ECC errors {_number(health.ecc_uncorrected)}, ever "
        f"{_number(health.ecc_uncorrected_ever)}",
        f"remapped rows {_number(health.remapped_rows)}",
        *(f"{name} pending {_yes_no(value)}" for name, value in waiting.items()),
        failed[health.remap_failed],
        f"recovery {health.recovery_action or '??'}",
    )


def dots(*parts: str | None) -> str:
    """What is there of the parts, with a dot between."""
    return " · ".join(part for part in parts if part)


def _gib(value: int | None) -> str:
    return "??" if value is None else f"{value / 2**30:.1f} GiB"


def _mhz(value: float | None) -> str:
    return "??" if value is None else f"{value / 1e6:.0f}"


def _percent(value: float | None) -> str:
    return "?? %" if value is None else f"{value:.0%}".replace("%", " %")


def _number(value: float | None) -> str:
    """At most one decimal, and none where there is nothing behind it."""
    return "??" if value is None else f"{value:.1f}".removesuffix(".0")


def _count(value: int | None, one: str, several: str | None = None) -> str:
    return f"{_number(value)} {one if value == 1 else several or one + 's'}"


def _on_off(value: bool | None) -> str:
    return "??" if value is None else "on" if value else "off"


def _yes_no(value: bool | None) -> str:
    return "??" if value is None else "yes" if value else "no"
