"""A machine as data: what was asked of it and what it answered, a return value or an error a call.

A diagnosis is made of a recording and of nothing else. `devbench.doctor.capture` makes one of the live
machine, `devbench.doctor.bundle` writes and reads it as a file, tests compose them by hand: so what is
judged on a recorded machine is judged on a live one by the same code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from devbench.detection import FrameworkAnswer, NvmlError
from devbench.model import Json
from devbench.stress.records import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """The interpreter and its surroundings.

    platform: ``sys.platform``; machine: the architecture; libc: name and version (None: not told).
    environment, installer: how Python packages come here. user_id, groups: of this process.
    shm_bytes: size of /dev/shm. translated: runs under Rosetta on an Apple chip.
    """

    platform: str
    machine: str
    python: str
    free_threaded: bool = False
    libc: str | None = None
    environment: Literal["venv", "conda", "system"] = "system"
    installer: Literal["pip", "uv", "conda"] = "pip"
    user_id: int | None = None
    groups: tuple[str, ...] = ()
    shm_bytes: int | None = None
    translated: bool | None = None


@dataclass(frozen=True, slots=True)
class Package:
    """An installed distribution; location: the folder that it lies in."""

    name: str
    version: str
    location: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A device node or a file whose existence says something. accessible: to read and to write."""

    path: str
    mode: str
    group: str | None = None
    accessible: bool = True


@dataclass(frozen=True, slots=True)
class PciDevice:
    """A display or compute device on the PCI bus. driver: the kernel's that has taken it (None: none).

    vendor, device and device_class are hexadecimal as the kernel writes them: ``0x10de``.
    """

    bus_id: str
    vendor: str
    device: str
    device_class: str
    driver: str | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """What a command wrote; error: why there is nothing."""

    command: str
    output: str = ""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """A kernel launched on an address of a framework; error: what came instead of its result."""

    address: str
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """A known answer that a framework was asked for on one of its devices: tier 1 of `devbench stress`."""

    address: str
    check: str
    verdict: Verdict
    says: str


@dataclass(frozen=True, slots=True)
class Load:
    """What the driver answered while a framework kept a device busy (calls as in `Recording`)."""

    address: str
    calls: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Library:
    """A shared library that a framework needs: where it was looked for, and why it does not load."""

    name: str
    path: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameworkRecord:
    """One framework asked in a process of its own, with the settings that it comes with.

    trials: in the order of the addresses. arithmetic: of each device that kernels run on. rates: FLOP/s
    of a small matrix product on the CPU by number format, and of numpy's in float32 before (``numpy``)
    and after (``numpy again``). libraries: looked into where it sees no GPU.
    """

    answer: FrameworkAnswer
    settings: Mapping[str, Json] = field(default_factory=dict)
    trials: tuple[Trial, ...] = ()
    arithmetic: tuple[Arithmetic, ...] = ()
    loads: tuple[Load, ...] = ()
    rates: Mapping[str, float] = field(default_factory=dict)
    libraries: tuple[Library, ...] = ()

    @property
    def name(self) -> str:
        return self.answer.name

    @property
    def label(self) -> str:
        """``torch 2.13.0+cu130``."""
        return f"{self.name} {self.answer.view.version if self.answer.view else '??'}"

    @property
    def build(self) -> Mapping[str, Json]:
        return self.answer.view.build if self.answer.view else {}

    @property
    def cuda(self) -> str | None:
        """The CUDA that the build was made for, ``13.0``; None for a build without."""
        found = str(self.build.get("cuda") or self.build.get("cuda_version"))
        return found if re.match(r"[0-9]{1,4}(\.|$)", found) else None

    @property
    def is_rocm(self) -> bool:
        return bool(self.build.get("hip") or self.build.get("is_rocm_build"))


@dataclass(frozen=True, slots=True, kw_only=True)
class CallingProcess:
    """The Python process that asked for the diagnosis, as far as it matters which came first.

    started_with, now: variables that choose devices. initialized: frameworks that have opened CUDA
    here → how many devices they see.
    """

    started_with: Mapping[str, str]
    now: Mapping[str, str]
    initialized: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """files: path below the root → text. calls: a call of NVML or CUDA, ``nvmlDeviceGetName(gpu0)``, →
    its answer, or ``{"error": "NotSupported"}``. pids: processes of the diagnosis itself."""

    system: System
    files: Mapping[str, str] = field(default_factory=dict)
    entries: tuple[Entry, ...] = ()
    pci: tuple[PciDevice, ...] = ()
    calls: Mapping[str, Json] = field(default_factory=dict)
    frameworks: tuple[FrameworkRecord, ...] = ()
    packages: tuple[Package, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    commands: tuple[Said, ...] = ()
    process: CallingProcess | None = None
    pids: tuple[int, ...] = ()

    def entry(self, path: str) -> Entry | None:
        return next((entry for entry in self.entries if entry.path == path), None)

    def package(self, name: str) -> Package | None:
        return next((package for package in self.packages if package.name == name), None)

    @contextmanager
    def root(self) -> Iterator[Path]:
        """Its files as a tree, for the readers of /proc and /sys."""
        with TemporaryDirectory(prefix="devbench-") as folder:
            for path, text in self.files.items():
                file = Path(folder) / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8", errors="replace")
            yield Path(folder)


@dataclass(frozen=True, slots=True)
class RecordedCalls:
    """Answers calls of NVML and CUDA from a recording. What was not asked then has no answer now."""

    calls: Mapping[str, Json]

    def query(self, function: str, *arguments: Any) -> Json:
        answer = self.calls.get(call_name(function, arguments), {"error": "NotRecorded"})
        if isinstance(answer, Mapping) and "error" in answer:
            raise NvmlError(str(answer["error"]))
        return answer


def call_name(function: str, arguments: tuple[Any, ...]) -> str:
    """``nvmlDeviceGetClockInfo(gpu0, 1)``."""
    return f"{function}({', '.join(map(str, arguments))})"
