"""The size of the host's last-level caches, which decides what a cold start and a stream are."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

#: Where the system does not tell: larger than the last-level cache of most desktop processors.
DEFAULT_BYTES: Final = 64 << 20


def last_level_cache(
    threads: int | None = None, root: Path = Path("/"), cpus: Iterable[int] | None = None
) -> int:
    """Bytes of the last-level caches together that so many threads can have work in (Linux sysfs), or
    `DEFAULT_BYTES`. A processor of several dies has one a die, a machine of several sockets one a socket
    at least.

    cpus: those that this process may run on. threads: as many caches at most, the largest; None: all.
    """
    if cpus is None:
        cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    found = {
        one for cpu in cpus for one in _caches(root / f"sys/devices/system/cpu/cpu{cpu}/cache")
    }
    last = max((level for level, _, _ in found), default=0)
    sizes = sorted((size for level, _, size in found if level == last), reverse=True)
    return sum(sizes[:threads]) or DEFAULT_BYTES


def _caches(folder: Path) -> Iterator[tuple[int, str, int]]:
    """Level, the CPUs that share it, and bytes of each cache of a CPU."""
    for index in folder.glob("index*"):
        try:
            level, shared, size = (
                (index / name).read_text().strip() for name in ("level", "shared_cpu_list", "size")
            )
        except OSError:
            continue  # a hypervisor may leave some of it out
        if match := re.fullmatch(r"(\d+)([KM])", size):
            yield int(level), shared, int(match[1]) << {"K": 10, "M": 20}[match[2]]
