"""The host: its CPU and memory, and what of them this process may really use.

A library such as psutil shows the host's figures; inside a container they are not what a thread pool
or an allocation gets. So Linux is read here, from /proc and /sys under a root (a recorded tree in the
tests). Elsewhere psutil fills in what it can and the rest stays None.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from devbench.detection.cgroup import cpu_limit, cpuset, memory_limits
from devbench.detection.files import (
    parse_cpulist,
    parse_meminfo,
    read_integer,
    read_line,
    read_text,
)
from devbench.detection.records import Host, NumaNode

#: What decides the speed of the math libraries; the first group of x86, the second of Arm.
FLAGS: Final = (
    *(
        "sse4_2",
        "avx",
        "f16c",
        "fma",
        "avx2",
        "avx_vnni",
        "avx512f",
        "avx512bw",
        "avx512dq",
        "avx512vl",
    ),
    *("avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16", "amx_fp16"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "svebf16", "svei8mm", "sme"),
)

#: Arm cores name themselves by numbers: (implementer, part), from util-linux' lscpu-arm.c.
ARM_CORES: Final = {
    ("0x41", "0xd03"): "Arm Cortex-A53",
    ("0x41", "0xd08"): "Arm Cortex-A72",
    ("0x41", "0xd0b"): "Arm Cortex-A76",
    ("0x41", "0xd0c"): "Arm Neoverse-N1",
    ("0x41", "0xd40"): "Arm Neoverse-V1",
    ("0x41", "0xd49"): "Arm Neoverse-N2",
    ("0x41", "0xd4f"): "Arm Neoverse-V2",
}

CPU: Final = "sys/devices/system/cpu"


@dataclass(frozen=True, slots=True)
class Topology:
    """Where each logical CPU sits; missing where the kernel does not tell."""

    online: tuple[int, ...]
    package: dict[int, int]
    siblings: dict[int, tuple[int, ...]]

    def cores(self, cpus: frozenset[int]) -> int | None:
        """Physical cores that these CPUs lie on."""
        if not cpus or not cpus <= self.siblings.keys():
            return None
        return len({self.siblings[cpu] for cpu in cpus})


def read_host(root: Path = Path("/")) -> Host:
    """The host that /proc and /sys under `root` describe. Reads files only: a few milliseconds."""
    if not (root / "proc").is_dir():
        return _read_elsewhere()
    cpuinfo = _first_cpu(root)
    topology = _read_topology(root)
    everything = frozenset(topology.online)
    allowed, limit = _allowed_cpus(root, everything)
    usable: float | None = len(allowed) or None
    quota = cpu_limit(root)
    if quota is not None and (usable is None or quota.amount < usable):
        usable, limit = quota.amount, quota.source

    memory = parse_meminfo(read_text(root, "proc/meminfo") or "")
    total, available = memory.get("MemTotal"), memory.get("MemAvailable")
    usable_memory, memory_limit = total, None
    for granted, left in memory_limits(root):
        if usable_memory is None or granted.amount < usable_memory:
            usable_memory, memory_limit = int(granted.amount), granted.source
        if left is not None and (available is None or left < available):
            available = left

    flags = (cpuinfo.get("flags") or cpuinfo.get("Features") or "").split()
    cores = topology.cores(everything)
    clock_khz = read_integer(root, f"{CPU}/cpu0/cpufreq/cpuinfo_max_freq")
    return Host(
        hostname=read_line(root, "proc/sys/kernel/hostname"),
        os=_os_name(root),
        kernel=read_line(root, "proc/sys/kernel/osrelease"),
        architecture=platform.machine() or None,
        python=platform.python_version(),
        container=_container(root),
        virtual_machine=_virtual_machine(root, flags),
        cpu_model=_cpu_model(cpuinfo),
        cpu_flags=tuple(flag for flag in FLAGS if flag in flags) if flags else None,
        cpu_max_clock_hz=None if clock_khz is None else clock_khz * 1e3,
        governor=read_line(root, f"{CPU}/cpu0/cpufreq/scaling_governor"),
        turbo=_turbo(root),
        sockets=len(set(topology.package.values())) or None,
        physical_cores=cores,
        logical_cpus=len(everything) or None,
        smt=None if cores is None else cores < len(everything),
        usable_cpus=usable,
        usable_cores=topology.cores(allowed),
        cpu_limit=limit,
        memory_bytes=total,
        usable_memory_bytes=usable_memory,
        available_memory_bytes=available,
        memory_limit=memory_limit,
        numa_nodes=_numa_nodes(root),
    )


def usable_threads(host: Host | None = None) -> int:
    """Threads for a worker: one for each usable physical core, and no more than the quota grants.

    A second thread on a core shares its floating-point units, so it adds switching and no FLOP/s
    (torch counts the same by default, TensorFlow does not). A fraction of a CPU is rounded down: a
    pool larger than its quota is stopped for the rest of each period. At least 1; the usable logical
    CPUs where the cores are unknown.
    """
    host = host or read_host()
    limits = [limit for limit in (host.usable_cpus, host.usable_cores) if limit is not None]
    return max(1, int(min(limits, default=1)))


def _first_cpu(root: Path) -> dict[str, str]:
    """The first block of /proc/cpuinfo; the kernel makes it up while it is read, so stop there."""
    found: dict[str, str] = {}
    with (
        suppress(OSError),
        (root / "proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines,
    ):
        for entry in lines:
            name, colon, value = entry.partition(":")
            if not colon:
                break
            found[name.strip()] = value.strip()
    return found


def _cpu_model(cpuinfo: dict[str, str]) -> str | None:
    if model := cpuinfo.get("model name") or cpuinfo.get("cpu model") or cpuinfo.get("cpu"):
        return " ".join(model.split())
    implementer, part = cpuinfo.get("CPU implementer"), cpuinfo.get("CPU part")
    if implementer is None or part is None:
        return None
    return ARM_CORES.get((implementer, part), f"Arm implementer {implementer} part {part}")


def _read_topology(root: Path) -> Topology:
    online = parse_cpulist(read_text(root, f"{CPU}/online") or "")
    package: dict[int, int] = {}
    siblings: dict[int, tuple[int, ...]] = {}
    for cpu in online:
        folder = root / CPU / f"cpu{cpu}" / "topology"
        socket = read_integer(folder, "physical_package_id")
        if socket is not None and socket >= 0:  # -1: the firmware does not tell
            package[cpu] = socket
        if threads := parse_cpulist(read_text(folder, "thread_siblings_list") or ""):
            siblings[cpu] = threads
    return Topology(online, package, siblings)


def _allowed_cpus(root: Path, online: frozenset[int]) -> tuple[frozenset[int], str | None]:
    """The CPUs that this process may run on, and what narrows them (None: nothing does)."""
    status = read_text(root, "proc/self/status") or ""
    listed = re.search(r"^Cpus_allowed_list:\s*(\S+)$", status, re.MULTILINE)
    affinity = frozenset(parse_cpulist(listed[1])) if listed else online
    allowed = affinity & online if online else affinity
    limit = "CPU affinity" if allowed < online else None
    group = cpuset(root)
    if group is not None:
        cpus, source = group
        # The kernel keeps the affinity inside the cpuset: equal means that the cpuset set it.
        if allowed & cpus and (allowed & cpus < allowed or (limit and allowed == cpus & online)):
            allowed, limit = allowed & cpus, source
    return allowed, limit


def _numa_nodes(root: Path) -> tuple[NumaNode, ...] | None:
    nodes = []
    for index in parse_cpulist(read_text(root, "sys/devices/system/node/online") or ""):
        folder = root / "sys/devices/system/node" / f"node{index}"
        # Its lines read `Node 0 MemTotal:  24684096 kB`.
        meminfo = (read_text(folder, "meminfo") or "").replace(f"Node {index} ", "")
        memory = parse_meminfo(meminfo).get("MemTotal")
        nodes.append(NumaNode(index, read_line(folder, "cpulist") or "", memory))
    return tuple(nodes) or None


def _turbo(root: Path) -> bool | None:
    no_turbo = read_integer(root, f"{CPU}/intel_pstate/no_turbo")
    if no_turbo is not None:
        return no_turbo == 0
    boost = read_integer(root, f"{CPU}/cpufreq/boost")
    return None if boost is None else boost == 1


def _os_name(root: Path) -> str | None:
    release = read_text(root, "etc/os-release") or read_text(root, "usr/lib/os-release") or ""
    named = re.search(r"^PRETTY_NAME=(.*)$", release, re.MULTILINE)
    try:
        return " ".join(shlex.split(named[1])) or None if named else None
    except ValueError:  # an unbalanced quote
        return None


def _container(root: Path) -> str | None:
    """A hint only: each engine leaves another trace, and none has to."""
    groups = read_text(root, "proc/self/cgroup") or ""
    if "kubepods" in groups or (root / "run/secrets/kubernetes.io").exists():
        return "Kubernetes"
    if (root / "run/.containerenv").exists() or "libpod" in groups:
        return "Podman"
    if (root / ".dockerenv").exists() or "/docker" in groups:
        return "Docker"
    if "/lxc" in groups:
        return "LXC"
    return read_line(root, "run/systemd/container")


def _virtual_machine(root: Path, flags: list[str]) -> str | None:
    """A hint only: Windows' subsystem, the maker's name, or that some hypervisor is there."""
    if "microsoft" in (read_text(root, "proc/sys/kernel/osrelease") or "").lower():
        return "WSL"
    if "hypervisor" not in flags and not (root / "sys/hypervisor/type").exists():
        return None
    dmi = root / "sys/class/dmi/id"
    named = [read_line(dmi, "sys_vendor"), read_line(dmi, "product_name")]
    return (
        " ".join(filter(None, named))
        or read_line(root, "sys/hypervisor/type")
        or "unnamed hypervisor"
    )


def _read_elsewhere() -> Host:
    """macOS and Windows: no cgroups, and no file that tells flags, sockets or NUMA nodes."""
    import psutil

    memory = psutil.virtual_memory()
    logical, cores = psutil.cpu_count(), psutil.cpu_count(logical=False)
    count = getattr(os, "process_cpu_count", os.cpu_count)()
    return Host(
        hostname=platform.node() or None,
        os=platform.platform(terse=True)
        if sys.platform != "darwin"
        else f"macOS {platform.mac_ver()[0]}",
        kernel=platform.release() or None,
        architecture=platform.machine() or None,
        python=platform.python_version(),
        cpu_model=platform.processor() or None,
        physical_cores=cores,
        logical_cpus=logical,
        smt=None if cores is None or logical is None else cores < logical,
        usable_cpus=count,
        memory_bytes=memory.total,
        usable_memory_bytes=memory.total,
        available_memory_bytes=memory.available,
    )
