"""Host and GPUs as rows of name and value, ``??`` for what could not be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from devbench.detection import AmdGpu, Gpu, GpuHealth, Host, Machine
    from devbench.model import Device, Json

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


def gpu_rows(
    gpus: Sequence[Gpu],
    health: Sequence[GpuHealth],
    nvml_error: str | None,
    amd: Sequence[AmdGpu] = (),
) -> list[Row]:
    """The rows of all GPUs. nvml_error: why there is none of NVIDIA's."""
    nvidia = _nvidia_rows(gpus, health) or [("NVIDIA", nvml_error or "the driver lists no GPU")]
    return nvidia + [row for gpu in amd for row in _rows_of_amd_gpu(gpu)]


def _nvidia_rows(gpus: Sequence[Gpu], health: Sequence[GpuHealth]) -> list[Row]:
    """health: of each GPU, in the same order.

    Of several GPUs what most have in common stands above them, and below each only how it differs: so
    one that is unlike the others is seen.
    """
    if not gpus:
        return []
    models, addresses = list(map(_model, gpus)), list(map(_address, gpus))
    blocks = [_rows_of_gpu(*pair) for pair in zip(gpus, health, strict=True)]
    if len(gpus) == 1:
        return [(f"GPU {gpus[0].index}", models[0]), ("address", addresses[0]), *blocks[0]]
    blocks = [[("model", model), *block] for model, block in zip(models, blocks, strict=True)]
    order = list(dict.fromkeys(name for block in blocks for name, _ in block))
    counted = Counter(row for block in blocks for row in set(block))
    usual = {row for row, times in counted.items() if times > len(gpus) / 2}
    rows = [(f"{len(gpus)} GPUs", "where a GPU below says nothing else:")] if usual else []
    rows += sorted(usual, key=lambda row: order.index(row[0]))
    for gpu, address, block in zip(gpus, addresses, blocks, strict=True):
        rows += [(f"GPU {gpu.index}", address)]
        rows += [row for row in block if row not in usual]
    return rows


def _model(gpu: Gpu) -> str:
    return dots(
        gpu.name or "??",
        f"compute capability {gpu.compute_capability or '??'}",
        f"{_number(gpu.cores)} cores",
    )


def _address(gpu: Gpu) -> str:
    # as sysfs and lspci write it, so that the three fit into a line
    bus_id = "??" if gpu.pci_bus_id is None else gpu.pci_bus_id.removeprefix("0000")
    return dots(gpu.uuid or "uuid ??", f"PCI {bus_id}", f"NUMA {_number(gpu.numa_node)}")


def _rows_of_gpu(gpu: Gpu, health: GpuHealth) -> list[Row]:
    return [
        (
            "memory",
            dots(
                f"{_gib(gpu.free_memory_bytes)} free of {_gib(gpu.memory_bytes)}",
                f"{_number(gpu.memory_bus_bits)}-bit bus",
                f"BAR1 {_gib(health.bar1_bytes)}",
                f"addressing {health.addressing_mode or '??'}",
            ),
        ),
        ("clocks", _clocks(gpu, health)),
        ("slowed", _slowed(health)),
        ("power", _power(gpu, health)),
        ("heat", _heat(gpu, health)),
        (
            "PCIe",
            dots(
                f"generation {_number(gpu.pcie_generation)} ×{_number(gpu.pcie_width)}, at most "
                f"{_number(gpu.pcie_generation_max)} ×{_number(gpu.pcie_width_max)}",
                f"GPU alone {_number(health.pcie_gpu_generation_max)}, slot alone "
                f"{_number(gpu.pcie_slot_generation_max)} ×{_number(gpu.pcie_slot_width_max)}",
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


def _slowed(health: GpuHealth) -> str:
    """For how long, and by what, since the driver was loaded."""
    if health.clock_event_seconds is None:
        return "?? since the driver was loaded"
    longest = sorted(health.clock_event_seconds.items(), key=lambda one: -one[1])
    named = [f"{_duration(seconds)} by {name}" for name, seconds in longest if seconds > 0]
    return f"{', '.join(named) or 'never'} since the driver was loaded"


def _power(gpu: Gpu, health: GpuHealth) -> str:
    return dots(
        f"{_number(gpu.power_w)} of {_number(gpu.power_limit_w)} W",
        f"default limit {_number(gpu.power_default_limit_w)} W",
        f"settable {_number(health.power_min_limit_w)} to {_number(health.power_max_limit_w)} W",
    )


def _heat(gpu: Gpu, health: GpuHealth) -> str:
    return dots(
        f"{_number(gpu.temperature_c)} °C",
        f"slows down at {_number(health.slowdown_temperature_c)} °C",
        f"margin {_number(health.temperature_margin_c)} °C",
    )


def _nvlinks(health: GpuHealth) -> str:
    if health.nvlinks is None:
        # Asked for its first link, a GPU without any refuses; other refusals are told as they are.
        refused = health.unread.get("nvlinks", "")
        return "none" if refused in ("NotSupported", "InvalidArgument") else "??"
    inactive = health.nvlinks.count(False)
    return f"{len(health.nvlinks) - inactive} of {len(health.nvlinks)} active" + (
        f", {inactive} inactive" if inactive else ""
    )


def _pending(now: bool | None, then: bool | None) -> str:
    return "" if then is None or then == now else f" ({_on_off(then)} after a reset)"


def _health(health: GpuHealth) -> str:
    waiting = {"remap": health.remap_pending, "page retirement": health.retirement_pending}
    failed = {True: "a remap failed", False: "no remap failed", None: "failed remaps ??"}
    return dots(
        f"uncorrected ECC errors {_number(health.ecc_uncorrected)}, ever "
        f"{_number(health.ecc_uncorrected_ever)}",
        f"corrected {_number(health.ecc_corrected)}, ever {_number(health.ecc_corrected_ever)}",
        f"remapped rows {_number(health.remapped_rows)}",
        f"retired pages {_number(health.retired_pages)}",
        *(f"{name} pending {_yes_no(value)}" for name, value in waiting.items()),
        failed[health.remap_failed],
        f"recovery {health.recovery_action or '??'}",
    )


def _rows_of_amd_gpu(gpu: AmdGpu) -> list[Row]:
    used, total = _gib(gpu.used_memory_bytes), _gib(gpu.memory_bytes)
    return [
        (
            f"AMD {gpu.index}",
            dots(
                gpu.name or "??",
                gpu.architecture or "architecture ??",
                f"{_number(gpu.multiprocessors)} compute units",
            ),
        ),
        ("address", dots(gpu.uuid or "uuid ??", f"PCI {gpu.pci_bus_id or '??'}")),
        ("memory", f"{used} used of {total}"),
        ("clocks", f"{_mhz(gpu.clock_hz)} of {_mhz(gpu.clock_max_hz)} MHz"),
        ("power", f"{_number(gpu.power_w)} W"),
        ("heat", f"{_number(gpu.temperature_c)} °C at the hottest"),
        ("load", f"busy {_percent(gpu.utilization)}"),
        ("driver", gpu.driver or "??"),
    ]


def framework_rows(machine: Machine) -> list[Row]:
    """What each framework was built for, and what it says of each of its devices."""
    return [
        row
        for answer in machine.frameworks
        if answer.view is not None
        for row in (
            (answer.name, _build(answer.view.build)),
            *(
                (one.address, _device(one))
                for one in machine.devices
                if one.framework == answer.name
            ),
        )
    ]


def _build(build: Mapping[str, Json]) -> str:
    """By the names that torch and TensorFlow have for it; a plugin's may be others."""
    cuda = build.get("cuda") or build.get("cuda_version")
    rocm = build.get("hip") or build.get("rocm_version")
    tells = not {"cuda", "hip", "is_cuda_build", "is_rocm_build"}.isdisjoint(build)
    without = "CPU-only build" if tells else "built for ??"
    if build.get("xpu") or build.get("mps"):
        without = f"built for XPU {build['xpu']}" if build.get("xpu") else "built for MPS"
    codes = build.get("arch_list") or build.get("cuda_compute_capabilities") or ()
    cudnn = build.get("cudnn") or build.get("cudnn_version")
    return dots(
        f"built for CUDA {cuda}" if cuda else f"built for ROCm {rocm}" if rocm else without,
        cudnn and f"cuDNN {cudnn}",
        " ".join(map(str, codes)),
        build.get("cpu_capability"),
    )


def _device(device: Device) -> str:
    formats = "formats ??" if device.dtypes is None else " ".join(device.dtypes)
    if device.is_cpu:
        return formats
    unified = {True: "the host's memory", False: "memory of its own", None: "memory ??"}
    return dots(
        device.architecture or f"compute capability {device.compute_capability or '??'}",
        f"{_number(device.multiprocessors)} multiprocessors",
        f"{unified[device.unified_memory]}, {_gib(device.memory_bytes)}",
        formats,
    )


def dots(*parts: str | None) -> str:
    """What is there of the parts, with a dot between."""
    return " · ".join(part for part in parts if part)


def _duration(seconds: float) -> str:
    """``3.2 h``, in the largest unit of which there is one."""
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return "under 1 s"


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
