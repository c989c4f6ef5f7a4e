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
                out.print(_grid([(answer.name, _answer_text(answer))], max(map(len, names))))
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
    if rows:
        out.print(_grid(rows, max(len(name) for name, _ in rows)))


def _grid(rows: list[tuple[str, str]], width: int) -> RenderableType:
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(width=width, no_wrap=True, style="cyan")
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(Text(name), Text(value))  # Text: a device's name is never taken for markup
    return Padding(grid, (0, 0, 0, 2))


def _host_rows(host: Host) -> list[tuple[str, str]]:
    cores = [_count(host.sockets, "socket"), _count(host.physical_cores, "core")]
    cores.append(_count(host.logical_cpus, "logical CPU"))
    smt = "SMT ??" if host.smt is None else "SMT" if host.smt else "no SMT"
    usable = f"{_number(host.usable_cpus)} of {_count(host.logical_cpus, 'CPU')}"
    memory = f"{_gib(host.usable_memory_bytes)} of {_gib(host.memory_bytes)}"
    rows = [
        ("CPU", host.cpu_model or "??"),
        ("", " · ".join((*cores, smt))),
        (
            "flags",
            "??" if host.cpu_flags is None else " ".join(host.cpu_flags) or "none that matter",
        ),
        ("usable CPUs", usable + (f" ({host.cpu_limit})" if host.cpu_limit else "")),
        (
            "usable memory",
            memory
            + (f" ({host.memory_limit})" if host.memory_limit else "")
            + f", {_gib(host.available_memory_bytes)} available now",
        ),
    ]
    nodes = host.numa_nodes
    if nodes is None:
        rows.append(("NUMA", "??"))
    for node in nodes or ():
        text = f"node {node.index}: CPUs {node.cpus or 'none'}, {_gib(node.memory_bytes)}"
        rows.append(("NUMA" if node is (nodes or ())[0] else "", text))
    clock = [
        f"up to {host.cpu_max_clock_hz / 1e9:.2f} GHz" if host.cpu_max_clock_hz else "",
        f"governor {host.governor}" if host.governor else "",
        "" if host.turbo is None else f"turbo {_onoff(host.turbo)}",
    ]
    if any(clock):
        rows.append(("clock", " · ".join(filter(None, clock))))
    python = f"Python {host.python or '??'}"
    rows.append(
        (
            "system",
            " · ".join(
                (host.os or "??", f"kernel {host.kernel or '??'}", host.architecture or "??")
            ),
        )
    )
    inside = [f"container: {host.container}"] if host.container else []
    inside += [f"virtual machine: {host.virtual_machine}"] if host.virtual_machine else []
    rows.append(("", " · ".join((python, *inside))))
    return rows


def _gpu_rows(gpus: tuple[Gpu, ...], nvml_error: str | None) -> list[tuple[str, str]]:
    if not gpus:
        return [("NVIDIA", nvml_error or "the driver lists no GPU")]
    rows = []
    for gpu in gpus:
        what = f"{gpu.name or '??'} · compute capability {gpu.compute_capability or '??'} · "
        what += f"{_number(gpu.cores)} cores · {_number(gpu.memory_bus_bits)}-bit memory"
        node = "" if gpu.numa_node is None else f" · NUMA node {gpu.numa_node}"
        now, limit = (
            _pcie(gpu.pcie_generation, gpu.pcie_width),
            _pcie(gpu.pcie_generation_max, gpu.pcie_width_max),
        )
        where = f"{gpu.uuid or '??'} · PCI {gpu.pci_bus_id or '??'}{node} · PCIe {now} of {limit}"
        memory = f"{_gib(gpu.free_memory_bytes)} free of {_gib(gpu.memory_bytes)}"
        clocks = f"SM {_mhz(gpu.sm_clock_hz)} of {_mhz(gpu.sm_clock_max_hz)} MHz · "
        clocks += f"memory {_mhz(gpu.memory_clock_hz)} of {_mhz(gpu.memory_clock_max_hz)} MHz"
        power = f"{_number(gpu.power_w)} of {_number(gpu.power_limit_w)} W "
        power += (
            f"(default {_number(gpu.power_default_limit_w)} W) · {_number(gpu.temperature_c)} °C"
        )
        busy = f"busy {_percent(gpu.utilization)} · memory busy {_percent(gpu.memory_utilization)}"
        busy += f" · {_count(gpu.processes, 'process', 'processes')}"
        modes = (
            f"ECC {_onoff(gpu.ecc)} · MIG {_onoff(gpu.mig)} · persistence {_onoff(gpu.persistence)}"
        )
        modes += f" · compute mode {gpu.compute_mode or '??'}"
        events = "??" if gpu.clock_events is None else ", ".join(gpu.clock_events) or "none"
        driver = f"driver {gpu.driver or '??'} (CUDA {gpu.cuda_driver or '??'})"
        texts = [what, where, f"{memory} · {power}", clocks, busy, modes]
        texts.append(f"clocks held by: {events} · {driver}")
        texts += [f"slice {mig.name or '??'} · {mig.uuid or '??'}" for mig in gpu.mig_devices]
        rows += [(f"GPU {gpu.index}" if text is what else "", text) for text in texts]
    return rows


def _answer_text(answer: FrameworkAnswer) -> str:
    view = answer.view
    if view is None:
        return answer.reason or answer.status
    took = "" if view.import_s is None else f" · imported in {view.import_s:.1f} s"
    return f"{view.version} · {', '.join(device.address for device in view.devices)}{took}"


def _device_table(machine: Machine) -> RenderableType:
    """One line a physical device, with each framework's address for it or why it has none."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from devbench.detection import physical_devices

    table = Table(box=box.SIMPLE_HEAD, title=Text("Devices", style="bold"), title_justify="left")
    table.add_column("physical device", overflow="fold", style="cyan")
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


def _onoff(value: bool | None) -> str:
    return "??" if value is None else "on" if value else "off"


def _pcie(generation: int | None, width: int | None) -> str:
    return f"{_number(generation)}.0 ×{_number(width)}"
