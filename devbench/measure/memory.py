"""Peak resident memory of this process, reset for each case where the system allows it."""

from __future__ import annotations

import re
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def reset_peak() -> int | None:
    """Forget the peak so far and return the resident bytes now; None where it cannot be reset.

    Writing 5 resets VmHWM (Linux, proc(5)); elsewhere the peak only ever grows and would be that of
    an earlier case.
    """
    try:
        _CLEAR.write_text("5")
    except OSError:
        return None
    return _field("VmRSS")


def peak() -> int | None:
    """The most resident bytes since the last reset; None where the system does not tell."""
    return _field("VmHWM")


def _field(name: str) -> int | None:
    try:
        match = re.search(rf"^{name}:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(match[1]) * 1024 if match else None
