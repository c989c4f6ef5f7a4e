"""What Linux control groups grant to this process, version 1 and 2, from the files under a root.

A limit anywhere on the way from the process's group up to the mounted top holds, so each level is
read. The formats: https://docs.kernel.org/admin-guide/cgroup-v2.html (cpu.max, memory.max,
cpuset.cpus.effective) and https://docs.kernel.org/admin-guide/cgroup-v1/ (cpu.cfs_quota_us,
memory.limit_in_bytes).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from devbench.detection.files import parse_cpulist, read_integer, read_text


@dataclass(frozen=True, slots=True)
class Limit:
    """So many CPUs or bytes, and which file of which group says so."""

    amount: float
    source: str


@dataclass(frozen=True, slots=True)
class Level:
    """One group: where its files are, and how it is called from the top that is mounted here."""

    version: Literal[1, 2]
    folder: Path
    name: str


def parse_cpu_max(line: str) -> float | None:
    """CPUs granted by a ``cpu.max`` line such as ``150000 100000``; None for ``max`` or nonsense."""
    match = re.fullmatch(r"(\d+) (\d+)", line.strip())
    if match is None or int(match[1]) == 0 or int(match[2]) == 0:
        return None
    return int(match[1]) / int(match[2])


def levels(root: Path, controller: str) -> Iterator[Level]:
    """The groups of this process for one controller (``cpu``, ``memory``, ``cpuset``), own first.

    A line that no kernel writes, as a recorded machine from elsewhere may hold, is passed over; above
    all one that leads out of `root`.
    """
    own: dict[str, str] = {}  # controller → path; the key of version 2 is empty
    for line in (read_text(root, "proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        own |= dict.fromkeys(controllers.split(","), path)
    for line in (read_text(root, "proc/self/mountinfo") or "").splitlines():
        before, _, after = line.partition(" - ")
        if not after.startswith(("cgroup ", "cgroup2 ")) or before.count(" ") < 4:
            continue
        kind, _, options = after.partition(" ")
        key = "" if kind == "cgroup2" else controller
        if key not in own or (key and key not in options.split(" ")[-1].split(",")):
            continue
        mounted, mount_point = map(_unescape, before.split(" ")[3:5])
        if ".." in mount_point.split("/") or not mount_point.isprintable():
            continue
        top = root / mount_point.lstrip("/")
        for name in _upwards(own[key], mounted):
            yield Level(2 if kind == "cgroup2" else 1, top / name.lstrip("/"), name)


def _upwards(path: str, mounted: str) -> list[str]:
    """The path below the mounted group, and each group above it: ``/a/b`` gives /a/b, /a, /.

    A container may see its own group as the top while /proc/self/cgroup still tells the path on the
    host; and a process moved in from outside has a path with ``..``: there only the top can be read.
    """
    group = PurePosixPath(path)
    if not group.is_relative_to(mounted) or ".." in group.parts:
        return ["/"]
    below = PurePosixPath("/") / group.relative_to(mounted)
    return [str(level) for level in (below, *below.parents)]


def _unescape(field: str) -> str:
    """mountinfo writes blanks, tabs, newlines and backslashes as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def cpu_limit(root: Path) -> Limit | None:
    """The smallest CPU quota on the way up, in CPUs (a fraction, often); None without one."""
    found = []
    for level in levels(root, "cpu"):
        if level.version == 2:
            file, cpus = "cpu.max", parse_cpu_max(read_text(level.folder, "cpu.max") or "")
        else:
            file = "cpu.cfs_quota_us"
            quota = read_integer(level.folder, file)  # -1: no quota
            period = read_integer(level.folder, "cpu.cfs_period_us")
            cpus = quota / period if quota and period and quota > 0 and period > 0 else None
        if cpus is not None:
            found.append(Limit(cpus, f"{file} of cgroup {level.name}"))
    return min(found, key=lambda limit: limit.amount, default=None)


def cpuset(root: Path) -> tuple[frozenset[int], str] | None:
    """The CPUs that the own group may run on, and the file that says so; None where nothing is set."""
    for level in levels(root, "cpuset"):
        for file in ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus"):
            cpus = parse_cpulist(read_text(level.folder, file) or "")
            if cpus:
                return frozenset(cpus), f"{file} of cgroup {level.name}"
    return None


def memory_limits(root: Path) -> Iterator[tuple[Limit, int | None]]:
    """Each memory limit on the way up, and what is left below it in bytes (None: usage unreadable).

    Left is the limit less the working set: usage without the page cache that the kernel would drop
    first (``inactive_file``), as Kubernetes counts it. Version 1 has no word for "no limit" but a
    huge number; the caller takes the least of these and the machine's memory.
    """
    for level in levels(root, "memory"):
        if level.version == 2:
            file, used, stat = "memory.max", "memory.current", "inactive_file"
        else:
            file, used, stat = (
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_inactive_file",
            )
        limit = read_integer(level.folder, file)  # "max" is no integer: no limit
        if limit is None:
            continue
        usage = read_integer(level.folder, used)
        cache = re.search(
            rf"^{stat} (\d+)$", read_text(level.folder, "memory.stat") or "", re.MULTILINE
        )
        left = None if usage is None else max(0, limit - usage + (int(cache[1]) if cache else 0))
        yield Limit(limit, f"{file} of cgroup {level.name}"), left
