"""``devbench detect``: the hardware at once, then what each framework sees of it."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Annotated

import typer

from devbench.cli.common import JsonOption, console, print_json

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from devbench.detection import FrameworkAnswer, Gpu, Host, Machine, PhysicalDevice
    from devbench.registry import Broken


def detect(
    json: JsonOption = False,
    no_frameworks: Annotated[
        bool,
        typer.Option("--no-frameworks", help="Do not ask the frameworks, which is the slow half."),
    ] = False,
) -> None:
    """Show the CPU, the GPUs, and what each framework sees of them."""
    from devbench.detection import (
        Hardware,
        join,
        machine_to_json,
        read_gpus,
        read_host,
        start_asking,
        usable_threads,
    )
    from devbench.registry import broken_frameworks, frameworks

    out = None if json else console()
    host = read_host()
    adapters = {} if no_frameworks else frameworks()
    # The children are started before anything is drawn: they are what takes time.
    with start_asking(adapters, usable_threads(host)) as asking:
        if out is not None:
            _section(out, "Host", _host_rows(host))
        gpus, nvml_error = read_gpus()
        if out is not None:
            _section(out, "GPUs", _gpu_rows(gpus, nvml_error))
        broken = [] if no_frameworks else [_broken(row) for row in broken_frameworks()]
        names = [*adapters, *(answer.name for answer in broken)]
        if out is not None and names:
            _section(out, "Frameworks", [])
        answers = []
        for answer in chain(broken, asking):
            answers.append(answer)
            if out is not None:
                _print_rows(out, [(answer.name, _answer_text(answer))], max(map(len, names)))
    answers.sort(key=lambda answer: names.index(answer.name))  # whichever answered first
    machine = join(Hardware(host, gpus, nvml_error), answers)
    if out is None:
        print_json(machine_to_json(machine))
    elif names:
        out.print()
        out.print(_device_table(machine))


def _broken(row: Broken) -> FrameworkAnswer:
    from devbench.detection import FrameworkAnswer

    return FrameworkAnswer(
        name=row.name, status="failed", reason=f"the plugin cannot be loaded: {row.error}"
    )


def _section(out: Console, title: str, rows: list[tuple[str, str]]) -> None:
    from rich.text import Text

    if title != "Host":
        out.print()
    out.print(Text(title, style="bold"))
    _print_rows(out, rows, max((len(name) for name, _ in rows), default=0))


def _print_rows(out: Console, rows: list[tuple[str, str]], width: int) -> None:
    """Name and value; a long value goes on below its own beginning."""
    import textwrap

    from rich.text import Text

    for name, value in rows:
        room = max(20, out.width - width - 4)
        for line in textwrap.wrap(value, room, break_on_hyphens=False) or [""]:
            # Text: what a driver or a framework says is never taken for markup.
            out.print(Text(f"  {name:<{width}}  ", style="cyan") + Text(line, style="default"))
            name = ""


def _host_rows(host: Host) -> list[tuple[str, str]]:
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
        ("CPU", _dots(host.cpu_model or "??", clock, governor, turbo)),
        (
            "",
            _dots(
                _count(host.sockets, "socket"),
                _count(host.physical_cores, "core"),
                _count(host.logical_cpus, "logical CPU"),
                smt,
            ),
        ),
        ("flags", flags),
        ("usable CPUs", _dots(cpus, host.cpu_limit)),
        (
            "usable memory",
            _dots(memory, host.memory_limit, f"{_gib(host.available_memory_bytes)} available now"),
        ),
        *((("NUMA", "")[position > 0], node) for position, node in enumerate(nodes or ["??"])),
        ("system", _dots(host.os or "??", f"kernel {host.kernel or '??'}", host.architecture)),
        (
            "",
            _dots(
                f"Python {host.python or '??'}",
                host.container and f"container: {host.container}",
                host.virtual_machine and f"virtual machine: {host.virtual_machine}",
            ),
        ),
    ]


def _gpu_rows(gpus: tuple[Gpu, ...], nvml_error: str | None) -> list[tuple[str, str]]:
    if not gpus:
        return [("NVIDIA", nvml_error or "the driver lists no GPU")]
    return [row for gpu in gpus for row in _rows_of_gpu(gpu)]


def _rows_of_gpu(gpu: Gpu) -> list[tuple[str, str]]:
    events = "??" if gpu.clock_events is None else ", ".join(gpu.clock_events) or "nothing"
    return [
        (
            f"GPU {gpu.index}",
            _dots(
                gpu.name or "??",
                f"compute capability {gpu.compute_capability or '??'}",
                f"{_number(gpu.cores)} cores",
            ),
        ),
        (
            "address",
            _dots(
                gpu.uuid or "uuid ??",
                f"PCI {gpu.pci_bus_id or '??'}",
                None if gpu.numa_node is None else f"NUMA node {gpu.numa_node}",
            ),
        ),
        (
            "memory",
            _dots(
                f"{_gib(gpu.free_memory_bytes)} free of {_gib(gpu.memory_bytes)}",
                f"{_number(gpu.memory_bus_bits)}-bit bus",
            ),
        ),
        (
            "clocks",
            _dots(
                f"SM {_mhz(gpu.sm_clock_hz)} of {_mhz(gpu.sm_clock_max_hz)} MHz",
                f"memory {_mhz(gpu.memory_clock_hz)} of {_mhz(gpu.memory_clock_max_hz)} MHz",
                f"held by: {events}",
            ),
        ),
        (
            "power",
            _dots(
                f"{_number(gpu.power_w)} of {_number(gpu.power_limit_w)} W",
                f"default limit {_number(gpu.power_default_limit_w)} W",
                f"{_number(gpu.temperature_c)} °C",
            ),
        ),
        (
            "PCIe",
            f"generation {_number(gpu.pcie_generation)} ×{_number(gpu.pcie_width)}, at most "
            f"{_number(gpu.pcie_generation_max)} ×{_number(gpu.pcie_width_max)}",
        ),
        (
            "load",
            _dots(
                f"busy {_percent(gpu.utilization)}",
                f"memory busy {_percent(gpu.memory_utilization)}",
                _count(gpu.processes, "process", "processes"),
            ),
        ),
        (
            "modes",
            _dots(
                f"ECC {_on_off(gpu.ecc)}",
                f"MIG {_on_off(gpu.mig)}",
                f"persistence {_on_off(gpu.persistence)}",
                f"compute mode {gpu.compute_mode or '??'}",
            ),
        ),
        ("driver", _dots(gpu.driver or "??", f"CUDA {gpu.cuda_driver or '??'}")),
        *(("MIG slice", _dots(mig.name or "??", mig.uuid or "??")) for mig in gpu.mig_devices),
    ]


def _dots(*parts: str | None) -> str:
    """What is there of the parts, with a dot between."""
    return " · ".join(part for part in parts if part)


def _answer_text(answer: FrameworkAnswer) -> str:
    view = answer.view
    if view is None:
        return answer.reason or answer.status
    took = "" if view.import_s is None else f"imported in {view.import_s:.1f} s"
    return _dots(view.version, ", ".join(device.address for device in view.devices), took)


def _device_table(machine: Machine) -> RenderableType:
    """One line a physical device, with each framework's address for it or why it has none."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from devbench.detection import physical_devices

    table = Table(box=box.SIMPLE_HEAD, title=Text("Devices", style="bold"), title_justify="left")
    table.add_column("physical device", no_wrap=True, style="cyan")  # a UUID stays in one piece
    for answer in machine.frameworks:
        table.add_column(Text(answer.name), overflow="fold")
    for physical in physical_devices(machine):
        name = physical.name or "??"
        label = name if physical.physical == "cpu" else f"{name}\n{physical.physical}"
        cells = (_cell(answer, physical) for answer in machine.frameworks)
        table.add_row(Text(label), *map(Text, cells))
    return table


def _cell(answer: FrameworkAnswer, physical: PhysicalDevice) -> str:
    from devbench.detection import why_unseen

    own = [device.address for device in physical.devices if device.framework == answer.name]
    if own:
        return ", ".join(own)
    if answer.status == "missing":
        return "not installed"
    return "failed" if answer.view is None else why_unseen(answer)


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
