"""Files and what lies beneath them: the page cache, and the disk."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import psutil

#: Filesystems that live in memory.
_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})


def shortage(folder: Path, needed: int) -> str | None:
    """The sentence that says why `needed` bytes cannot be written; None when they can."""
    free = shutil.disk_usage(folder).free
    if needed <= free:
        return None
    return (
        f"does not fit on the disk: the file takes {needed / 1e9:.3g} GB and the folder for temporary "
        f"files has {free / 1e9:.3g} GB free; set TMPDIR to a larger one"
    )


def no_disk(folder: Path) -> str | None:
    """The sentence that says why nothing in the folder gets to a disk and back; None when it does."""
    if not hasattr(os, "posix_fadvise"):
        return "this system cannot be told to drop a file from its page cache"
    mounts = [(m.mountpoint, m.fstype) for m in psutil.disk_partitions(all=True)]
    kind = filesystem(folder, mounts)
    if kind not in _IN_MEMORY:
        return None
    return (
        f"the folder for temporary files is in memory ({kind}) and never gets to a disk; "
        "set TMPDIR to one that does"
    )


def filesystem(folder: Path, mounts: Sequence[tuple[str, str]]) -> str | None:
    """The type of the filesystem that holds the folder. mounts: (folder, type), as mounted in turn."""
    path = folder.resolve()
    above = [(len(Path(at).parts), kind) for at, kind in mounts if path.is_relative_to(at)]
    nearest = max((depth for depth, _ in above), default=0)
    # Of several on one folder the last one hides the others.
    return next((kind for depth, kind in reversed(above) if depth == nearest), None)


def flush(file: Path) -> None:
    """Return when what was written to the file has reached the disk."""
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())


def forget(file: Path) -> None:
    """Ask the kernel to drop the file from the page cache. What is not on the disk yet stays.

    https://man7.org/linux/man-pages/man2/posix_fadvise.2.html
    """
    with file.open("rb") as opened:
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_from_disk() -> int | None:
    """Bytes that this process has had fetched from storage so far, which a cached file is not.

    None where the system does not tell. ``read_bytes`` of
    https://man7.org/linux/man-pages/man5/proc_pid_io.5.html
    """
    if sys.platform != "linux":
        return None
    try:
        return int(psutil.Process().io_counters().read_bytes)
    except psutil.AccessDenied:
        return None
