"""The host's counters at one moment, and what two such moments say of the window between them.

Counters need no sampling: they are read at both ends of a window, however short it is. Formats:
https://docs.kernel.org/filesystems/proc.html (/proc/stat, /proc/vmstat) and
https://docs.kernel.org/accounting/psi.html.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from devbench.detection import read_host
from devbench.detection.files import parse_cpulist, read_text
from devbench.telemetry.processes import TICK_S, family_seconds, read_process
from devbench.telemetry.rapl import joules_between, read_packages
from devbench.telemetry.records import HostSummary
from devbench.telemetry.throttling import read_throttling, worker_groups

#: A CPU that worked for so much of a window shows the clock of that work.
MOSTLY: Final = 0.8


@dataclass(frozen=True, slots=True)
class Counters:
    """What the kernel has counted up to one moment; None where it does not say.

    passed_s, busy_s, steal_s: CPU seconds of the usable CPUs: all, working for somebody here, stolen.
    busy_each: CPU → the seconds that it worked for somebody here.
    worker_s, own_s: CPU seconds of the worker's family (0 without a worker), and of this process.
    packages: RAPL package → (microjoules, the value at which it wraps).
    """

    passed_s: float | None = None
    busy_s: float | None = None
    steal_s: float | None = None
    busy_each: Mapping[int, float] = field(default_factory=dict)
    worker_s: float | None = None
    own_s: float | None = None
    throttled_periods: int | None = None
    throttled_s: float | None = None
    swapped_in: int | None = None
    swapped_out: int | None = None
    waited_for_memory_s: float | None = None
    packages: Mapping[str, tuple[int, int]] = field(default_factory=dict)


class HostReader:
    """Reads the counters below `root`. `unread` says why one is missing, each once."""

    def __init__(self, root: Path, worker_pid: int | None) -> None:
        self.root = root
        self.worker = worker_pid
        self.unread: dict[str, str] = {}
        status = read_text(root, "proc/self/status") or ""
        allowed = re.search(r"^Cpus_allowed_list:\s*(\S+)$", status, re.MULTILINE)
        self.cpus = parse_cpulist(allowed[1]) if allowed else ()
        self.cores = read_host(root).usable_cores
        self.groups = worker_groups(root, worker_pid)

    def _missing(self, name: str, reason: str) -> None:
        self.unread.setdefault(name, reason)

    def counters(self) -> Counters:
        passed, steal, busy = self._cpu_seconds()
        worker, own = self._process_seconds()
        throttling = read_throttling(self.groups)
        if throttling is None:
            self._missing("throttled_periods", "no control group of the worker counts it")
        periods, throttled = throttling or (None, None)
        swapped_in, swapped_out = self._swapping()
        packages, reason = read_packages(self.root)
        if reason is not None:
            self._missing("energy_j", reason)
        return Counters(
            passed_s=passed,
            busy_s=sum(busy.values()) if busy else None,
            steal_s=steal,
            busy_each=busy,
            worker_s=worker,
            own_s=own,
            throttled_periods=periods,
            throttled_s=throttled,
            swapped_in=swapped_in,
            swapped_out=swapped_out,
            waited_for_memory_s=self._memory_pressure(),
            packages=packages,
        )

    def _cpu_seconds(self) -> tuple[float | None, float | None, dict[int, float]]:
        """Of all usable CPUs together: passed and stolen; and busy of each."""
        text = read_text(self.root, "proc/stat") or ""
        lines = {
            int(cpu): [int(ticks) for ticks in columns.split()]
            for cpu, columns in re.findall(r"^cpu(\d+) ([\d ]+)$", text, re.MULTILINE)
        }
        mine = {cpu: lines[cpu][:8] for cpu in self.cpus or lines if len(lines.get(cpu, ())) >= 8}
        if not mine:
            self._missing("steal", "/proc/stat does not tell it")
            self._missing("others_busy", "/proc/stat does not tell it")
            return None, None, {}
        # user nice system idle iowait irq softirq steal; what follows (guests) is in user already
        passed = sum(map(sum, mine.values()))
        steal = sum(ticks[7] for ticks in mine.values())
        busy = {
            cpu: (sum(ticks) - ticks[3] - ticks[4] - ticks[7]) * TICK_S
            for cpu, ticks in mine.items()
        }
        return passed * TICK_S, steal * TICK_S, busy

    def _process_seconds(self) -> tuple[float | None, float | None]:
        """CPU seconds of the worker and of this process; they may be one and the same."""
        own = read_process(self.root, "self")
        if own is None:
            self._missing("others_busy", "/proc does not tell the CPU time of this process")
            return None, None
        if self.worker is None:
            return 0.0, own.seconds
        worker = family_seconds(self.root, self.worker)
        if worker is None:
            self._missing("worker_busy", f"process {self.worker} is gone")
            self._missing("others_busy", f"process {self.worker} is gone")
        return worker, 0.0 if self.worker == own.pid else own.seconds

    def _swapping(self) -> tuple[int, int] | tuple[None, None]:
        text = read_text(self.root, "proc/vmstat") or ""
        found = dict(re.findall(r"^(pswpin|pswpout) (\d+)$", text, re.MULTILINE))
        if len(found) < 2:
            self._missing("swapped_in", "/proc/vmstat does not tell it")
            return None, None
        return int(found["pswpin"]), int(found["pswpout"])

    def _memory_pressure(self) -> float | None:
        text = read_text(self.root, "proc/pressure/memory") or ""
        found = re.search(r"^some .*\btotal=(\d+)$", text, re.MULTILINE)
        if found is None:
            self._missing("memory_pressure", "the kernel keeps no pressure stall information")
            return None
        return int(found[1]) / 1e6

    def summary(
        self,
        start: Counters,
        end: Counters,
        seconds: float,
        clocks: Sequence[Mapping[int, float]],
    ) -> HostSummary:
        """The window between two readings `seconds` apart, with the CPUs' clocks sampled in it.

        A CPU that rests shows any clock, so only those count that worked for most of the window.
        """
        busy = {
            cpu
            for cpu, worked in end.busy_each.items()
            if worked - start.busy_each.get(cpu, worked) >= MOSTLY * seconds
        }
        held = [clock for one in clocks for cpu, clock in one.items() if cpu in busy]
        found = between(start, end, seconds)
        unread = self.unread | dict(found.unread)
        if not held:
            unread["cpu_clock_hz"] = "none of the CPUs whose clock can be read was busy"
        return replace(
            found,
            cpus=len(self.cpus) or None,
            cores=self.cores,
            cpu_clock_hz=statistics.median(held) if held else None,
            unread=unread,
        )


def between(start: Counters, end: Counters, seconds: float) -> HostSummary:
    """What the counters grew by in the window; None where one end is not known."""

    def grown(name: str) -> Any:
        before, after = getattr(start, name), getattr(end, name)
        return None if before is None or after is None else max(0, after - before)

    def a_second(name: str) -> float | None:
        difference = grown(name)
        return None if difference is None or seconds <= 0 else difference / seconds

    passed, steal = grown("passed_s"), grown("steal_s")
    busy, own, worker = a_second("busy_s"), a_second("own_s"), a_second("worker_s")
    others = None
    if busy is not None and own is not None and worker is not None:
        others = max(0.0, busy - own - worker)  # ticks are rounded: it may come out below 0
    joules, refused = joules_between(start.packages, end.packages, seconds)
    unread = {} if refused is None else {"energy_j": refused}
    if passed == 0:
        unread["steal"] = "the kernel's CPU times did not move in the window"
    return HostSummary(
        steal=steal / passed if passed and steal is not None else None,
        worker_busy=worker,
        others_busy=others,
        throttled_periods=grown("throttled_periods"),
        throttled_s=grown("throttled_s"),
        swapped_in=grown("swapped_in"),
        swapped_out=grown("swapped_out"),
        memory_pressure=a_second("waited_for_memory_s"),
        energy_j=joules,
        unread=unread,
    )
