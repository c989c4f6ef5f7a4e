"""``devbench detect``: the hardware at once, then what each framework sees of it."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from itertools import chain
from typing import TYPE_CHECKING, Annotated

import typer

from devbench.cli.common import JsonOption, console, echo, print_json

if TYPE_CHECKING:
    from rich.console import RenderableType

    from devbench.detection import (
        FrameworkAnswer,
        Gpu,
        GpuHealth,
        Host,
        Machine,
        PhysicalDevice,
    )
    from devbench.registry import Broken

#: A driver that initialises eight cold GPUs takes ten seconds or more.
NVML_S = 30.0


def detect(
    json: JsonOption = False,
    no_frameworks: Annotated[
        bool,
        typer.Option("--no-frameworks", help="Do not ask the frameworks, which is the slow half."),
    ] = False,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Show what host and GPUs do, every second until Ctrl-C."),
    ] = False,
) -> None:
    """Show the CPU, the GPUs, and what each framework sees of them."""
    if watch:
        from devbench.cli.watch import watch as watch_

        watch_(json)
        return
    from devbench.cli.hardware import gpu_rows, host_rows
    from devbench.detection import (
        Hardware,
        join,
        machine_to_json,
        read_amd_gpus,
        read_host,
    )

    host = read_host()
    # The children are started before anything is drawn: they are what takes time.
    asking, names, broken = (nullcontext(()), [], []) if no_frameworks else _ask(host)
    with asking as coming:
        if not json:
            _section("Host", host_rows(host))
        gpus, nvml_error, health = _ask_nvml()
        amd = read_amd_gpus()
        if not json:
            _section("GPUs", gpu_rows(gpus, health, nvml_error, amd))
        if not json and names:
            _section("Frameworks", [])
        answers = []
        for answer in chain(broken, coming):
            answers.append(answer)
            if not json:
                _print_rows([(answer.name, _answer_text(answer))], max(map(len, names)))
    answers.sort(key=lambda answer: names.index(answer.name))  # whichever answered first
    machine = join(Hardware(host, gpus, nvml_error, amd), answers)
    if json:
        data = machine_to_json(machine)
        for gpu, found in zip(data["gpus"], health, strict=True):
            gpu["health"] = asdict(found)
        print_json(data)
    elif names:
        out = console()
        out.print()
        out.print(_device_table(machine))
        from devbench.cli.hardware import framework_rows

        _section("Frameworks and their devices", framework_rows(machine))


def _ask_nvml() -> tuple[tuple[Gpu, ...], str | None, list[GpuHealth]]:
    """The GPUs, or why there are none, and the health of each. A call of a sick driver may never come
    back, and nothing ends it: it is left behind in its thread."""
    from devbench.detection import read_gpus, read_health
    from devbench.detection.nvml import Pynvml

    found: list[tuple[tuple[Gpu, ...], str | None, list[GpuHealth]] | BaseException] = []

    def ask() -> None:
        try:
            gpus, error = read_gpus()
            found.append((gpus, error, [read_health(Pynvml(), gpu.index) for gpu in gpus]))
        except BaseException as error:  # noqa: BLE001  # raised again below
            found.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(NVML_S)
    if not found:
        return (), f"NVML did not come back within {NVML_S:g} s: a call of the driver hangs", []
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0]


def _ask(
    host: Host,
) -> tuple[AbstractContextManager[Iterable[FrameworkAnswer]], list[str], list[FrameworkAnswer]]:
    """The frameworks at work, the names of all, and the answers for those whose plugin is broken."""
    from devbench.detection import start_asking, usable_threads
    from devbench.registry import broken_frameworks, frameworks

    adapters = frameworks()
    broken = [_broken(row) for row in broken_frameworks()]
    names = [*adapters, *(answer.name for answer in broken)]
    return start_asking(adapters, usable_threads(host)), names, broken


def _broken(row: Broken) -> FrameworkAnswer:
    from devbench.detection import FrameworkAnswer

    return FrameworkAnswer(
        name=row.name, status="failed", reason=f"the plugin cannot be loaded: {row.error}"
    )


def _section(title: str, rows: list[tuple[str, str]]) -> None:
    if title != "Host":
        echo("")
    echo(typer.style(title, bold=True))
    _print_rows(rows, max((len(name) for name, _ in rows), default=0))


def _print_rows(rows: list[tuple[str, str]], width: int) -> None:
    """Name and value; a long value goes on below its own beginning."""
    import shutil
    import textwrap

    from devbench.cli.table import printable

    room = max(20, shutil.get_terminal_size().columns - width - 4)
    for name, value in rows:
        for line in textwrap.wrap(printable(value), room, break_on_hyphens=False) or [""]:
            echo(typer.style(f"  {name:<{width}}  ", fg="cyan") + line)
            name = ""


def _answer_text(answer: FrameworkAnswer) -> str:
    from devbench.cli.hardware import dots

    view = answer.view
    if view is None:
        return answer.reason or answer.status
    took = "" if view.import_s is None else f"imported in {view.import_s:.1f} s"
    return dots(view.version, ", ".join(device.address for device in view.devices), took)


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
