"""How often a CPU quota stopped a worker: ``cpu.stat`` of its control groups, version 1 and 2.

https://docs.kernel.org/scheduler/sched-bwc.html, https://docs.kernel.org/admin-guide/cgroup-v2.html
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from devbench.detection.cgroup import levels
from devbench.detection.files import read_text


def worker_groups(root: Path, worker_pid: int | None) -> list[Path]:
    """Folders of the groups whose quota holds for the worker, from its own up to the mounted top.

    A worker is started in the groups of this process, which `levels` finds. One that was moved since
    is followed by its own path, as far as that can be seen below the mounted top.
    """
    here = list(levels(root, "cpu"))
    own = _paths(root, "self")
    moved = own if worker_pid is None else _paths(root, worker_pid) or own
    if moved == own:
        return [level.folder for level in here]
    return [
        folder
        for top in here
        if top.name == "/" and top.version in moved
        for folder in _downwards(top.folder, moved[top.version])
    ]


def _paths(root: Path, pid: int | str) -> dict[int, str]:
    """Version of the hierarchy that controls the CPU → path of the process in it."""
    found: dict[int, str] = {}
    for line in (read_text(root, f"proc/{pid}/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers or "cpu" in controllers.split(","):
            found[1 if controllers else 2] = path
    return found


def _downwards(top: Path, path: str) -> list[Path]:
    parts = [part for part in path.split("/") if part]
    if ".." in parts:
        return [top]
    folders = (top.joinpath(*parts[:depth]) for depth in range(len(parts) + 1))
    return [folder for folder in folders if folder.is_dir()]


def read_throttling(groups: Sequence[Path]) -> tuple[int, float] | None:
    """Periods and seconds, summed over the groups: a stop of any of them stops the worker.

    None where no group counts it: none of them has the CPU controller.
    """
    found = [parse_throttling(read_text(folder, "cpu.stat") or "") for folder in groups]
    known = [pair for pair in found if pair is not None]
    if not known:
        return None
    return sum(periods for periods, _ in known), sum(seconds for _, seconds in known)


def parse_throttling(text: str) -> tuple[int, float] | None:
    """Periods in which the quota ran out, and the seconds without CPU summed over the CPUs.

    Version 1 counts nanoseconds, version 2 microseconds. None for a group without the controller.
    """
    found = dict(re.findall(r"^(\w+) (\d+)$", text, re.MULTILINE))
    for name, unit in (("throttled_time", 1e-9), ("throttled_usec", 1e-6)):
        if "nr_throttled" in found and name in found:
            return int(found["nr_throttled"]), int(found[name]) * unit
    return None
