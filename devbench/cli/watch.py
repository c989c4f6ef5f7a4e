"""``devbench detect --watch``: what host and GPUs do, once a second until Ctrl-C."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from devbench.cli.common import console
from devbench.cli.table import printable

if TYPE_CHECKING:
    from rich.console import Group

    from devbench.telemetry.live import GpuNow, HostNow, Looker, Now

_PERIOD_S: Final = 1.0

#: Processes that a line names; more are counted.
_NAMED: Final = 3


def watch(as_json: bool) -> None:
    """A live view on a terminal, a line a GPU and second elsewhere; ends the program with 130."""
    from devbench.telemetry.live import Looker

    try:
        looker = Looker()
        if as_json:
            for now in _moments(looker):
                print(json.dumps(now.to_json(), allow_nan=False), flush=True)
        elif sys.stdout.isatty():
            _live(looker)
        else:
            for now in _moments(looker):
                print("\n".join(lines(now)), flush=True)
    except KeyboardInterrupt:
        sys.exit(130)


def _moments(looker: Looker) -> Iterator[Now]:
    """Once a second, and not the sooner after a moment that took long."""
    due = time.monotonic()
    while True:
        due = max(due + _PERIOD_S, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))
        yield looker.look()


def _live(looker: Looker) -> None:
    from rich.live import Live

    # The first look comes after a second: the host's shares need two moments.
    with Live("…", console=console(), auto_refresh=False, vertical_overflow="crop") as view:
        for now in _moments(looker):
            view.update(page(now), refresh=True)


def page(now: Now) -> Group:
    """The live view: a line for the host, a table of the GPUs."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    clock = time.strftime("%H:%M:%S", time.localtime(now.time))
    head = Text(f"{clock}  {_host(now.host)}")
    if now.nvml_error is not None or not now.gpus:
        return Group(head, Text(now.nvml_error or "the NVIDIA driver lists no GPU"))
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for name in ("GPU", "busy", "SM MHz", "mem MHz", "W", "°C", "GiB"):
        table.add_column(name, justify="right", no_wrap=True)
    for gpu in now.gpus:
        table.add_row(
            str(gpu.index),
            _percent(gpu.utilization),
            _of(gpu.sm_clock_hz, gpu.sm_clock_max_hz, 1e6),
            _of(gpu.memory_clock_hz, None, 1e6),
            _of(gpu.power_w, gpu.power_limit_w, 1),
            _of(gpu.temperature_c, None, 1),
            _of(gpu.memory_used_bytes, gpu.memory_bytes, 2**30),
        )
    notes = [
        Text(
            f"GPU {gpu.index}: {_held(gpu)} · {_processes(gpu)}", overflow="ellipsis", no_wrap=True
        )
        for gpu in now.gpus
        if gpu.processes != () or gpu.clock_events not in ((), ("gpu idle",))
    ]
    return Group(head, table, *notes, Text("Ctrl-C ends it", style="dim"))


def lines(now: Now) -> list[str]:
    """The same as plain text: a line for the host, one for each GPU."""
    clock = time.strftime("%H:%M:%S", time.localtime(now.time))
    found = [f"{clock} {_host(now.host)}"]
    if now.nvml_error is not None:
        found.append(f"{clock} {now.nvml_error}")
    for gpu in now.gpus:
        found.append(
            f"{clock} GPU {gpu.index} busy {_percent(gpu.utilization)} · "
            f"SM {_of(gpu.sm_clock_hz, gpu.sm_clock_max_hz, 1e6)} MHz · "
            f"memory {_of(gpu.memory_clock_hz, None, 1e6)} MHz · "
            f"{_of(gpu.power_w, gpu.power_limit_w, 1)} W · {_of(gpu.temperature_c, None, 1)} °C · "
            f"{_of(gpu.memory_used_bytes, gpu.memory_bytes, 2**30)} GiB · {_held(gpu)} · "
            f"{_processes(gpu)}"
        )
    return found


def _host(host: HostNow) -> str:
    used = None
    if host.memory_bytes is not None and host.available_memory_bytes is not None:
        used = max(0, host.memory_bytes - host.available_memory_bytes)
    cpus = "??" if host.cpus is None else str(host.cpus)
    return (
        f"{cpus} CPUs busy {_percent(host.busy)} · steal {_percent(host.steal)} · "
        f"memory {_of(used, host.memory_bytes, 2**30)} GiB"
    )


def _held(gpu: GpuNow) -> str:
    """What holds the clock."""
    if gpu.clock_events is None:
        return "held by ??"
    return f"held by {', '.join(gpu.clock_events) or 'nothing'}"


def _processes(gpu: GpuNow) -> str:
    if gpu.processes is None:
        return "processes ??"
    if not gpu.processes:
        return "no process"
    largest = sorted(gpu.processes, key=lambda one: -(one.memory_bytes or 0))
    named = [
        f"{printable(one.name or '??')} ({one.pid}) {_of(one.memory_bytes, None, 2**30)} GiB"
        for one in largest[:_NAMED]
    ]
    rest = len(largest) - _NAMED
    return ", ".join([*named, *([f"{rest} more"] if rest > 0 else [])])


def _percent(share: float | None) -> str:
    return "?? %" if share is None else f"{share * 100:.0f} %"


def _of(value: float | None, most: float | None, unit: float) -> str:
    """``230/370``; without the second where there is none to tell."""
    shown = "??" if value is None else f"{value / unit:.0f}" if unit < 2**30 else _gib(value)
    return shown if most is None else f"{shown}/{most / unit:.0f}"


def _gib(value: float) -> str:
    return f"{value / 2**30:.1f}"
