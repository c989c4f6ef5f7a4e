"""What is known of a machine, gathered once from its recording.

A fact that could not be had raises CouldNotCheck with the reason, so a check that asks for it ends in
"could not check" by itself, and for its own GPU or framework only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from devbench.detection import (
    Hardware,
    Host,
    Machine,
    join,
    read_gpus,
    read_health,
    read_host,
)
from devbench.detection.cgroup import levels, memory_limits
from devbench.detection.files import parse_cpulist, parse_meminfo, read_text
from devbench.doctor.gpus import GpuFacts, find_gpus
from devbench.doctor.recording import FrameworkRecord, RecordedCalls, Recording
from devbench.doctor.records import CouldNotCheck
from devbench.doctor.visible import Visible, parse
from devbench.model import Device
from devbench.telemetry.throttling import parse_throttling

#: More than any machine has of GPUs, or a GPU of MIG devices.
MAX_DEVICES: Final = 128


@dataclass(frozen=True, slots=True)
class Facts:
    """The machine: what detection makes of it, and what only a diagnosis asks for."""

    recording: Recording
    machine: Machine
    gpus: tuple[GpuFacts, ...]
    throttled: tuple[int, int] | None
    memory_left: tuple[tuple[str, float, int | None], ...]
    reclaims: int

    @property
    def host(self) -> Host:
        return self.machine.host

    @property
    def frameworks(self) -> tuple[FrameworkRecord, ...]:
        return self.recording.frameworks

    @property
    def variables(self) -> Mapping[str, str]:
        return self.recording.variables

    @property
    def in_container(self) -> bool:
        # systemd counts WSL among the containers; its driver is Windows', and no engine starts it.
        return self.host.container is not None and not self.is_wsl

    @property
    def is_wsl(self) -> bool:
        return self.recording.entry("dev/dxg") is not None

    @property
    def is_windows(self) -> bool:
        return self.recording.system.platform == "win32"

    @property
    def is_linux(self) -> bool:
        return self.recording.system.platform.startswith("linux")

    @property
    def nvml_error(self) -> str | None:
        """The name of NVML's error where it answers nothing at all."""
        for call in ("nvmlInit()", "nvmlDeviceGetCount()"):
            found = self.recording.calls.get(call)
            if isinstance(found, Mapping) and "error" in found:
                return str(found["error"])
        return None if "nvmlInit()" in self.recording.calls else "NotRecorded"

    @property
    def driver_module(self) -> bool:
        """Whether the kernel module of NVIDIA is loaded, also in a container on such a host."""
        return "proc/driver/nvidia/version" in self.recording.files

    def call(self, name: str) -> Any:
        """What a call outside of NVML's own records gave. Raises CouldNotCheck where it was not made."""
        if name not in self.recording.calls:
            raise CouldNotCheck(f"{name} was not asked")
        return self.recording.calls[name]

    def error_of(self, name: str) -> str | None:
        """The error of a call; None where it succeeded."""
        found = self.call(name)
        return str(found["error"]) if isinstance(found, Mapping) and "error" in found else None

    @property
    def kernel_log(self) -> str:
        """What the kernel logged of GPUs. Raises CouldNotCheck where nobody may read it."""
        reasons = []
        for said in self.recording.commands:
            if said.command in ("dmesg", "journalctl"):
                if said.error is None:
                    return said.output
                reasons.append(f"{said.command}: {said.error}")
        raise CouldNotCheck(
            "the kernel's log may not be read" + "".join(f"; {one}" for one in reasons)
        )

    def said(self, command: str) -> str:
        for said in self.recording.commands:
            if said.command == command:
                if said.error is not None:
                    raise CouldNotCheck(f"{command}: {said.error}")
                return said.output
        raise CouldNotCheck(f"{command} was not run")

    @property
    def swap(self) -> tuple[int, int]:
        """Bytes of swap: all, and used."""
        meminfo = parse_meminfo(self.recording.files.get("proc/meminfo", ""))
        if not {"SwapTotal", "SwapFree"} <= meminfo.keys():
            raise CouldNotCheck("/proc/meminfo does not tell the swap")
        return meminfo["SwapTotal"], meminfo["SwapTotal"] - meminfo["SwapFree"]

    @property
    def allowed_cpus(self) -> tuple[int, ...]:
        status = self.recording.files.get("proc/self/status", "")
        match = re.search(r"^Cpus_allowed_list:\s*(\S+)$", status, re.MULTILINE)
        cpus = parse_cpulist(match[1]) if match else ()
        if not cpus:
            raise CouldNotCheck("/proc/self/status does not tell which CPUs may be used")
        return cpus

    @property
    def visible(self) -> Visible | None:
        """How CUDA_VISIBLE_DEVICES is read here; None where it is not set."""
        value = self.variables.get("CUDA_VISIBLE_DEVICES")
        if value is None:
            return None
        nvidia = [gpu for gpu in self.gpus if gpu.vendor == "nvidia"]
        slices = [
            mig.uuid for gpu in nvidia if gpu.nvml for mig in gpu.nvml.mig_devices if mig.uuid
        ]
        return parse(value, [gpu.nvml.uuid if gpu.nvml else None for gpu in nvidia], slices)

    def working(self, framework: FrameworkRecord, gpu: GpuFacts) -> bool:
        """Whether a kernel of this framework was launched on this GPU and gave the right result."""
        return any(trial.error is None for trial in self._trials(framework, gpu))

    def refusals(self, framework: FrameworkRecord, gpu: GpuFacts) -> tuple[str, ...]:
        """What the framework said when a kernel was to run there, or on any GPU if it lists none."""
        trials = list(self._trials(framework, gpu)) or [
            trial for trial in framework.trials if trial.address not in self._addresses(framework)
        ]
        return tuple(trial.error for trial in trials if trial.error is not None)

    def complaints(self, framework: FrameworkRecord, gpu: GpuFacts) -> tuple[str, ...]:
        """The same as evidence."""
        return tuple(f"{framework.name}: {one}" for one in self.refusals(framework, gpu)[:2])

    def sees(self, framework: FrameworkRecord, gpu: GpuFacts) -> bool:
        return bool(self._addresses_of(framework, gpu))

    def device(self, framework: str, address: str) -> Device | None:
        """What a framework addresses so, joined on the physical device."""
        return next(
            (
                one
                for one in self.machine.devices
                if (one.framework, one.address) == (framework, address)
            ),
            None,
        )

    def computes_right(self, framework: FrameworkRecord, device: Device | None) -> bool:
        """Whether it gave every known answer on this piece of hardware."""
        addresses = {
            one.address
            for one in self.machine.devices
            if device is not None
            and (one.framework, one.physical) == (framework.name, device.physical)
        }
        own = [one for one in framework.arithmetic if one.address in addresses]
        return bool(own) and all(one.verdict == "no fault found" for one in own)

    def _trials(self, framework: FrameworkRecord, gpu: GpuFacts) -> Iterator[Any]:
        addresses = self._addresses_of(framework, gpu)
        return (trial for trial in framework.trials if trial.address in addresses)

    def _addresses(self, framework: FrameworkRecord) -> set[str]:
        name = framework.name
        return {one.address for one in self.machine.devices if one.framework == name}

    def _addresses_of(self, framework: FrameworkRecord, gpu: GpuFacts) -> set[str]:
        """The framework's addresses of a GPU. Where it tells an index only, one GPU is no question."""
        name = framework.name
        own = {
            one.address
            for one in self.machine.devices
            if one.framework == name and not one.is_cpu and one.physical in gpu.names
        }
        if own or len(self.gpus) > 1:
            return own
        return {
            one.address for one in self.machine.devices if one.framework == name and not one.is_cpu
        }


def gather(recording: Recording) -> Facts:
    """Raises CouldNotCheck where the answers recorded are not what NVML gives."""
    calls = RecordedCalls(recording.calls)
    for call, count in recording.calls.items():
        # A hostile bundle could have us ask about as many devices as it likes.
        if "Count(" in call and isinstance(count, int) and count > MAX_DEVICES:
            raise CouldNotCheck(f"it answers {call} with {count}")
    with recording.root() as root:
        try:
            nvml, error = read_gpus(calls, root)
            health = tuple(read_health(calls, gpu.index) for gpu in nvml)
            names = [
                name for gpu in nvml for name in (gpu.uuid, *(one.uuid for one in gpu.mig_devices))
            ]
            if not all(isinstance(name, str | None) for name in names):
                raise TypeError("a UUID that is no text")
        except (TypeError, ValueError, KeyError, IndexError, AttributeError) as problem:
            raise CouldNotCheck(
                f"its calls are not answered as NVML does ({type(problem).__name__}: {problem})"
            ) from None
        host = (
            read_host(root)
            if recording.system.platform.startswith("linux")
            else Host(os=recording.system.platform, architecture=recording.system.machine)
        )
        machine = join(
            Hardware(host, nvml, error), [framework.answer for framework in recording.frameworks]
        )
        memory = tuple((limit.source, limit.amount, left) for limit, left in memory_limits(root))
        throttled, reclaims = _throttled(root), _reclaims(root)
    gpus = tuple(find_gpus(recording, machine, health))
    return Facts(recording, machine, gpus, throttled, memory, reclaims)


def _throttled(root: Any) -> tuple[int, int] | None:
    """Periods in which a CPU quota of this process ran out, of how many. None without a count."""
    for level in levels(root, "cpu"):
        text = read_text(level.folder, "cpu.stat") or ""
        found, periods = (
            parse_throttling(text),
            re.search(r"^nr_periods (\d+)$", text, re.MULTILINE),
        )
        if found is not None and periods is not None and int(periods[1]) > 0:
            return found[0], int(periods[1])
    return None


def _reclaims(root: Any) -> int:
    """How often a memory limit of this process was hit (version 2 counts it)."""
    found = 0
    for level in levels(root, "memory"):
        match = re.search(
            r"^max (\d{1,18})$", read_text(level.folder, "memory.events") or "", re.MULTILINE
        )
        found += int(match[1]) if match else 0
    return found
