"""The clocks that the CPUs really run at, sampled through descriptors that stay open.

Only what the hardware counts is a reading. Without such counters the kernel tells what was last asked
for, which leaves out boost and throttling, or, on a virtual machine, the constant rate of the time-stamp
counter: https://docs.kernel.org/admin-guide/pm/cpufreq.html, arch/x86/kernel/cpu/aperfmperf.c.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from devbench.detection.files import read_text

#: CPUs that are read: enough for a median, few enough to cost nothing on a large machine.
SAMPLED: Final = 8

#: Of /proc/cpuinfo no more is asked than one read returns: the kernel writes the text while it is
#: read, so this costs a few CPUs' worth and not 200.
_READ: Final = 16384

#: Counts at the clock and at a constant rate: with it the kernel's figures are measured (x86).
_COUNTERS: Final = "aperfmperf"


class CpuClocks:
    """cpufreq's files of some of the CPUs, evenly spread, else /proc/cpuinfo; nothing where these do
    not tell what was measured. `unread` then says why."""

    def __init__(self, root: Path, cpus: Sequence[int]) -> None:
        self._descriptors: dict[int | None, int] = {}
        self.unread: str | None = None
        counted = _has_counters(root)
        apart = -(-len(cpus) // SAMPLED) or 1
        for cpu in cpus[::apart]:
            folder = root / f"sys/devices/system/cpu/cpu{cpu}/cpufreq"
            # The first is always counted by the hardware, and there on newer kernels only.
            if not self._open(cpu, folder / "cpuinfo_avg_freq") and counted:
                self._open(cpu, folder / "scaling_cur_freq")
        if not self._descriptors and counted:
            self._open(None, root / "proc/cpuinfo")
        if not self._descriptors:
            self.unread = "the kernel counts no CPU's clock here, as on most virtual machines"

    def _open(self, cpu: int | None, path: Path) -> bool:
        with suppress(OSError):  # not there: an older kernel, or no cpufreq
            self._descriptors[cpu] = os.open(path, os.O_RDONLY)
        return cpu in self._descriptors

    def close(self) -> None:
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])

    def read(self) -> dict[int, float]:
        """CPU → Hz at this moment; of a CPU that rests it may be anything."""
        clocks: dict[int, float] = {}
        for cpu, descriptor in self._descriptors.items():
            with suppress(OSError):  # a CPU that went offline, or rests (cpuinfo_avg_freq)
                text = os.pread(descriptor, _READ, 0).decode(errors="replace")
                clocks |= parse_cpuinfo(text) if cpu is None else parse_cpufreq(cpu, text)
        return clocks


def _has_counters(root: Path) -> bool:
    text = (read_text(root, "proc/cpuinfo") or "").partition("\n\n")[0]
    flags = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    return flags is not None and _COUNTERS in flags[1].split()


def parse_cpufreq(cpu: int, text: str) -> Mapping[int, float]:
    """One number, kHz."""
    return {cpu: int(text) * 1e3} if re.fullmatch(r"\d+\n?", text) else {}


def parse_cpuinfo(text: str) -> Mapping[int, float]:
    """A block a CPU, MHz; the last block may be cut off."""
    found = re.findall(
        r"^processor\s*: (\d+)$(?:\n.+)*?\ncpu MHz\s*: ([\d.]+)$", text, re.MULTILINE
    )
    return {int(cpu): float(mhz) * 1e6 for cpu, mhz in found}
