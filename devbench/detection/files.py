"""Small readers for /proc, /sys and control groups, under a root so that recorded trees can stand in."""

from __future__ import annotations

import re
from pathlib import Path


def read_text(folder: Path, name: str) -> str | None:
    """The file's text; None where it is missing or may not be read.

    Files of the kernel may also refuse while being read (ENODEV, EINVAL), which is an OSError too.
    """
    try:
        return (folder / name).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def read_line(folder: Path, name: str) -> str | None:
    """The file's text without the blank or null character at its end; None also when it is empty."""
    return (read_text(folder, name) or "").strip(" \n\t\0") or None


def read_integer(folder: Path, name: str) -> int | None:
    """The number that the file holds; None where it is missing or holds something else."""
    found = read_line(folder, name)
    return int(found) if found is not None and re.fullmatch(r"-?[0-9]{1,20}", found) else None


def parse_cpulist(listed: str) -> tuple[int, ...]:
    """``0-3,8`` → (0, 1, 2, 3, 8), sorted, each once; nothing for what is no such list.

    https://docs.kernel.org/admin-guide/cputopology.html. Ranges above 65536 CPUs are no CPU list.
    """
    found: set[int] = set()
    for part in listed.strip().split(","):
        match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", part)
        if match is None:
            return ()
        found.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return tuple(sorted(found))


def parse_meminfo(listed: str) -> dict[str, int]:
    """/proc/meminfo in bytes: ``MemTotal:  24684096 kB`` → {"MemTotal": 25276514304}."""
    return {
        match[1]: int(match[2]) * 1024
        for match in re.finditer(r"^([^\s:]+):\s+([0-9]{1,18}) kB$", listed, re.MULTILINE)
    }
