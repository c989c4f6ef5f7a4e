"""XID messages of the NVIDIA driver in the kernel's log, and what to do about each.

``NVRM: Xid (PCI:0000:3b:00): 79, pid=1234, name=python, GPU has fallen off the bus.`` The numbers and
what to do: https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from devbench.detection.join import normalize_bus_id
from devbench.doctor.records import Severity

_XID: Final = re.compile(
    r"NVRM: Xid \((?:PCI:)?([0-9a-f]{1,8}:[0-9a-f]{2}:[0-9a-f]{2})(?:\.[0-7])?\): ([0-9]{1,4})\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Xid:
    """bus_id: as NVML writes it; line: the message as it was logged, shortened."""

    bus_id: str
    number: int
    line: str


@dataclass(frozen=True, slots=True)
class Meaning:
    severity: Severity
    means: str
    do: str


_RESET = "stop what uses the GPU and reset it"
_REPLACE = "reset the GPU; if it comes again, have the board tested and replaced"
_PROGRAM = "look for the fault in the program (run it under compute-sanitizer)"
_CABLES = "power the machine off and on; check the board's seat, power and cooling"

MEANINGS: Final = {
    13: Meaning("info", "a kernel used memory or an instruction wrongly", _PROGRAM),
    31: Meaning("info", "a kernel accessed memory that is not its own", _PROGRAM),
    32: Meaning("warning", "the work that was sent to the GPU was damaged on its way", _REPLACE),
    38: Meaning("warning", "the driver's firmware failed", "update the driver, then reset the GPU"),
    43: Meaning("info", "the GPU stopped one program's work", _PROGRAM),
    45: Meaning(
        "info", "a program's work was cleaned up after it ended", "look at what came before it"
    ),
    46: Meaning("error", "the GPU stopped answering", _RESET),
    48: Meaning("error", "memory had an error that ECC could not correct", _RESET),
    61: Meaning("warning", "the GPU's microcontroller halted", _RESET),
    62: Meaning("error", "the GPU's microcontroller halted", _RESET),
    63: Meaning("warning", "a row or page of memory was set aside", _RESET),
    64: Meaning("error", "a row or page of memory could not be set aside", _REPLACE),
    68: Meaning("warning", "the video decoder failed", _RESET),
    69: Meaning("info", "a kernel's work was rejected by the graphics engine", _PROGRAM),
    74: Meaning("error", "an NVLink failed", "check the NVLink bridges, then reset the GPUs"),
    79: Meaning("error", "the GPU has fallen off the bus", _CABLES),
    92: Meaning(
        "warning", "many memory errors were corrected", "watch it; reset the GPU when it is free"
    ),
    94: Meaning(
        "warning", "an uncorrected memory error was contained: one program was ended", _RESET
    ),
    95: Meaning(
        "error", "an uncorrected memory error was not contained: results may be wrong", _RESET
    ),
    109: Meaning("warning", "switching between programs timed out", _RESET),
    119: Meaning("error", "the GPU's system processor does not answer", _RESET),
    120: Meaning("error", "the GPU's system processor failed", _RESET),
    121: Meaning("warning", "the link between CPU and GPU corrected an error", _RESET),
    122: Meaning("warning", "the board's information ROM could not be accessed", _REPLACE),
    140: Meaning("error", "memory had an error that ECC could not correct", _RESET),
    143: Meaning("error", "the GPU could not be initialised", _CABLES),
    149: Meaning("error", "an NVLink failed", "check the NVLink bridges, then reset the GPUs"),
    154: Meaning(
        "error", "the driver asks for a recovery action", "nvidia-smi -q shows which action"
    ),
}

UNKNOWN: Final = Meaning("warning", "it is not in this table", "look it up in NVIDIA's catalogue")


def parse(log: str) -> Iterator[Xid]:
    """Each XID message, in the order of the log."""
    for line in log.splitlines():
        match = _XID.search(line)
        bus_id = normalize_bus_id(f"{match[1]}.0") if match else None
        if match and bus_id:
            yield Xid(bus_id, int(match[2]), line[match.start() :].strip()[:200])
