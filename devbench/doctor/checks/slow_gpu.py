"""Why a GPU that is used is slower than it could be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from devbench.detection.files import parse_cpulist
from devbench.detection.nvml import decode_clock_events
from devbench.doctor import fixes
from devbench.doctor.checks import Found
from devbench.doctor.facts import Facts
from devbench.doctor.gpus import GpuFacts
from devbench.doctor.records import CouldNotCheck, Fix
from devbench.telemetry.doubts import THROTTLING

_APPLICATION_CLOCKS: Final = 0x002
_IDLE: Final = 0x001

#: Of the highest clock: a GPU under a light load holds more than this unless something holds it down.
LOW_CLOCK: Final = 0.75

#: Below this share of the memory free a model that fits the board may not fit what is left.
_LITTLE_FREE: Final = 0.5


def _index(gpu: GpuFacts) -> int:
    return gpu.nvml.index if gpu.nvml else 0


def pcie_share(link: tuple[int, int], most: tuple[int, int]) -> float:
    """Of the best rate, for generation and width: each generation doubles the rate of a lane."""
    return link[1] / most[1] * 2.0 ** (link[0] - most[0])


def pcie_link(facts: Facts, gpu: GpuFacts) -> Iterator[Found]:
    """S01"""
    generation, width = gpu.under_load("pcie_generation"), gpu.under_load("pcie_width")
    most_generation, most_width = gpu.read("pcie_generation_max"), gpu.read("pcie_width_max")
    if generation >= most_generation and width >= most_width:
        return
    if most_width < 1:
        raise CouldNotCheck("NVML tells a link without lanes")
    share = pcie_share((generation, width), (most_generation, most_width))
    yield Found(
        "warning",
        f"the PCIe link runs at {share:.0%} of what device and slot can: generation {generation} "
        f"×{width} instead of {most_generation} ×{most_width}",
        (
            f"NVML under load: generation {generation} ×{width}; at most {most_generation} ×{most_width}",
        ),
        (
            Fix(
                "seat the board anew, without a riser; look for the slot's width in the board's manual"
            ),
            *_kernel_says(facts, gpu),
        ),
    )


def _kernel_says(facts: Facts, gpu: GpuFacts) -> Iterator[Fix]:
    if facts.is_linux and not facts.is_wsl:  # elsewhere the kernel has no such tool
        command = f"sudo lspci -vv -s {_slot(gpu)} | grep Lnk"
        yield fixes.on_host(facts, "see what the kernel says of the link", command)


def _slot(gpu: GpuFacts) -> str:
    bus_id = gpu.pci.bus_id if gpu.pci else (gpu.nvml.pci_bus_id if gpu.nvml else None)
    return bus_id[-12:] if bus_id else "SLOT"


def slowed_down(facts: Facts, gpu: GpuFacts) -> Iterator[Found]:
    """S02"""
    mask, when = gpu.read("clock_event_mask"), "at rest"
    if gpu.loaded is not None and "clock_event_mask" in gpu.loaded:
        mask, when = mask | gpu.loaded["clock_event_mask"], "under load"
    slowing = mask & THROTTLING
    if not slowing:
        return
    reasons = " and ".join(decode_clock_events(slowing))
    temperature = (gpu.loaded or {}).get(
        "temperature_c", gpu.nvml.temperature_c if gpu.nvml else None
    )
    limit = gpu.health.slowdown_temperature_c if gpu.health else None
    heat = "" if temperature is None else f", {temperature} °C"
    heat += "" if limit is None else f" (slows down at {limit} °C)"
    brake = bool(slowing & 0x080)
    yield Found(
        "warning",
        f"the GPU slows itself down: {reasons}{heat}",
        (f"NVML {when}: clock event mask 0x{mask:x}{heat}",),
        (
            Fix("check the power supply and its cables: an outside signal brakes the board")
            if brake
            else Fix("better cooling: fans, dust, airflow, the room's temperature"),
            Fix(
                "watch it under load",
                (f"nvidia-smi -i {_index(gpu)} -q -d PERFORMANCE,TEMPERATURE",),
            ),
        ),
    )


def power_limit(facts: Facts, gpu: GpuFacts) -> Iterator[Found]:
    """S03"""
    limit, default = gpu.read("power_limit_w"), gpu.read("power_default_limit_w")
    if limit >= 0.99 * default:
        return
    yield Found(
        "warning",
        f"the power limit is {limit:.0f} of {default:.0f} W, {limit / default:.0%} of the default",
        (f"NVML: enforced {limit:.0f} W, default {default:.0f} W",),
        (
            fixes.on_host(
                facts, "set the default", f"sudo nvidia-smi -i {_index(gpu)} -pl {default:.0f}"
            ),
        ),
    )


def clocks_locked(facts: Facts, gpu: GpuFacts) -> Iterator[Found]:
    """S04"""
    most = gpu.read("sm_clock_max_hz")
    unlock = fixes.on_host(
        facts,
        "give the clocks back to the driver",
        f"sudo nvidia-smi -i {_index(gpu)} -rgc",
        f"sudo nvidia-smi -i {_index(gpu)} -rac",
    )
    health = gpu.health
    if health and health.application_clock_hz and health.application_clock_default_hz:
        asked, default = health.application_clock_hz, health.application_clock_default_hz
        if asked < default:
            yield Found(
                "warning",
                f"the clock is set to {asked / 1e6:.0f} MHz, below the default of {default / 1e6:.0f}",
                (f"NVML: application clock {asked / 1e6:.0f} MHz, highest {most / 1e6:.0f} MHz",),
                (unlock,),
            )
            return
    clock, mask = gpu.under_load("sm_clock_hz"), gpu.under_load("clock_event_mask")
    if clock >= LOW_CLOCK * most or mask & ~(_APPLICATION_CLOCKS | _IDLE):
        return  # high enough, or another reason holds it down
    yield Found(
        "warning",
        f"the clock stays at {clock / 1e6:.0f} of {most / 1e6:.0f} MHz under load, and neither heat nor "
        "power holds it there: it is locked",
        (f"NVML under load: {clock / 1e6:.0f} MHz, clock event mask 0x{mask:x}",),
        (unlock,),
        "certain" if mask & _APPLICATION_CLOCKS else "likely",
    )


def persistence_off(facts: Facts, gpu: GpuFacts) -> Iterator[Found]:
    """S05"""
    if not facts.is_linux or facts.is_wsl or gpu.read("persistence"):
        return
    yield Found(
        "info",
        "the driver forgets the GPU when no program uses it: the next one waits seconds for it",
        ("NVML: persistence mode off",),
        (
            fixes.on_host(
                facts, "keep it awake", "sudo systemctl enable --now nvidia-persistenced"
            ),
            fixes.on_host(
                facts, "or until the next restart", f"sudo nvidia-smi -i {_index(gpu)} -pm 1"
            ),
        ),
    )


def others_on_it(facts: Facts, gpu: GpuFacts) -> Iterator[Found]:
    """S06"""
    own = set(facts.recording.pids)
    others = [one for one in gpu.read("compute_processes") if one.pid not in own]
    total, free = gpu.read("memory_bytes"), gpu.read("free_memory_bytes")
    if not others and free >= _LITTLE_FREE * total:
        return
    named = tuple(
        f"pid {one.pid} ({_process_name(facts, one.pid)})"
        + (f": {one.memory_bytes / 2**30:.1f} GiB" if one.memory_bytes else "")
        for one in others
    )
    who = (
        f"{len(others)} other process{'es' * (len(others) != 1)} on it"
        if others
        else "nobody listed"
    )
    yield Found(
        "warning",
        f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB of the GPU's memory are free, {who}",
        (f"NVML: {free} of {total} bytes free", *named),
        (
            _end(facts, [one.pid for one in others[:3]])
            if others
            else Fix(
                "look for it on the host: its processes may not be shown here", ("nvidia-smi",)
            ),
        ),
        "certain" if others else "likely",
    )


def _end(facts: Facts, pids: list[int]) -> Fix:
    """In a container NVML mostly gives the host's numbers, and another process may have them here."""
    commands = tuple(f"kill {pid}" for pid in pids)
    ours = all(f"proc/{pid}/comm" in facts.recording.files for pid in pids)
    text = "end what is not needed"
    return Fix(text, commands) if ours else fixes.on_host(facts, text, *commands)


def _process_name(facts: Facts, pid: int) -> str:
    return facts.recording.files.get(f"proc/{pid}/comm", "name not shown here").strip()


def display_attached(facts: Facts, gpu: GpuFacts) -> Iterator[Found]:
    """S07"""
    if not gpu.read("display_active"):
        return
    yield Found(
        "info",
        "the GPU draws a screen too, which takes memory and interrupts kernels",
        ("NVML: display active",),
        (Fix("connect the screen to the processor's own graphics, or work without one"),),
    )


def other_numa_node(facts: Facts, gpu: GpuFacts) -> Iterator[Found]:
    """S12"""
    nodes = facts.host.numa_nodes
    if nodes is None or gpu.nvml is None:
        raise CouldNotCheck("the kernel does not tell which CPUs are near the GPU")
    if len(nodes) < 2:
        return
    if gpu.nvml.numa_node is None:
        raise CouldNotCheck("the kernel does not tell the GPU's NUMA node")
    near = next(
        (set(parse_cpulist(one.cpus)) for one in nodes if one.index == gpu.nvml.numa_node), set()
    )
    if not near or near & set(facts.allowed_cpus):
        return
    node = gpu.nvml.numa_node
    yield Found(
        "warning",
        f"this process may only run on CPUs of another NUMA node than the GPU's, {node}",
        (
            f"allowed CPUs: {_ranges(facts.allowed_cpus)}",
            f"CPUs of node {node}: {_ranges(tuple(near))}",
        ),
        (
            Fix(
                "run it near the GPU",
                (f"numactl --cpunodebind={node} --membind={node} python program.py",),
            ),
        ),
    )


def _ranges(cpus: tuple[int, ...]) -> str:
    ordered = sorted(cpus)
    return f"{ordered[0]} to {ordered[-1]}, {len(ordered)} CPUs"
