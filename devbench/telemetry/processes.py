"""CPU time and kinship of processes, from /proc under a root.

``/proc/PID/stat``: https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from devbench.detection.files import read_text

#: The kernel shows CPU times in ticks of USER_HZ, which is 100 on every architecture but Alpha.
TICK_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class Process:
    """pid and parent, and CPU seconds (user and system) of all its threads, and of the children that
    it has waited for."""

    pid: int
    parent: int
    seconds: float


def read_process(root: Path, pid: int | str) -> Process | None:
    """The process, ``self`` for this one; None where it is gone or is hidden."""
    text = read_text(root, f"proc/{pid}/stat")
    if text is None:
        return None
    own, _, _ = text.partition(" ")
    words = text.rpartition(")")[2].split()  # its name, in brackets, may hold anything
    times = [int(words[position]) for position in range(11, 15)]  # utime stime cutime cstime
    return Process(int(own), int(words[1]), sum(times) * TICK_S)


def family_seconds(root: Path, pid: int) -> float | None:
    """CPU seconds of a process and of all that descend from it, dead or alive; None when it is gone.

    A child that ends moves from its own figure to its parent's, so the sum never runs backwards.
    """
    process = read_process(root, pid)
    if process is None:
        return None
    below = (family_seconds(root, child) for child in _children(root, pid))
    return process.seconds + sum(seconds for seconds in below if seconds is not None)


def _children(root: Path, pid: int) -> Iterator[int]:
    """Living children, of any thread; none on a kernel without CONFIG_PROC_CHILDREN."""
    try:
        threads = [thread.name for thread in (root / f"proc/{pid}/task").iterdir()]
    except OSError:
        return
    for thread in threads:
        yield from map(int, (read_text(root, f"proc/{pid}/task/{thread}/children") or "").split())


def descends(root: Path, pid: int, ancestors: frozenset[int]) -> bool | None:
    """Whether the process is one of these or descends from one; None where it cannot be seen."""
    while pid not in ancestors:
        process = read_process(root, pid)
        if process is None:
            return None
        if process.parent == 0:
            return False
        pid = process.parent
    return True
