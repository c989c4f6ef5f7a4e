"""The clock of the CPUs, sampled through descriptors that stay open."""

from __future__ import annotations

import os
import re
import statistics
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

#: CPUs that are read: enough for a median, few enough to cost nothing on a large machine.
SAMPLED: Final = 8

#: Of /proc/cpuinfo no more is asked than one read returns: the kernel writes the text while it is
#: read, so this costs a few CPUs' worth and not 200.
_READ: Final = 16384


class CpuClocks:
    """cpufreq's files of some of the CPUs, evenly spread, else /proc/cpuinfo; nothing elsewhere."""

    def __init__(self, root: Path, cpus: Sequence[int]) -> None:
        self._descriptors: list[int] = []
        apart = -(-len(cpus) // SAMPLED) or 1
        for cpu in cpus[::apart]:
            self._open(root / f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq")
        if not self._descriptors:
            self._open(root / "proc/cpuinfo")

    def _open(self, path: Path) -> None:
        with suppress(OSError):  # not there: a virtual machine, or no Linux
            self._descriptors.append(os.open(path, os.O_RDONLY))

    def close(self) -> None:
        while self._descriptors:
            os.close(self._descriptors.pop())

    def read(self) -> float | None:
        """The median in Hz at this moment; None where nothing tells it."""
        clocks: list[float] = []
        for descriptor in self._descriptors:
            with suppress(OSError):  # a CPU that went offline
                clocks += parse_clocks(os.pread(descriptor, _READ, 0).decode(errors="replace"))
        return statistics.median(clocks) if clocks else None


def parse_clocks(text: str) -> list[float]:
    """Hz from ``scaling_cur_freq`` (one number, kHz) or /proc/cpuinfo (a line a CPU, MHz)."""
    if re.fullmatch(r"\d+\n?", text):
        return [int(text) * 1e3]
    return [float(mhz) * 1e6 for mhz in re.findall(r"^cpu MHz\s*: ([\d.]+)$", text, re.MULTILINE)]
