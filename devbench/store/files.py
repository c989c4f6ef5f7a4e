"""Writing a file so that it is whole or not there at all."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from devbench.errors import UsageError


@contextmanager
def reserve(path: str | Path) -> Iterator[Callable[[str], None]]:
    """Make sure that `path` can be written, then give a function that puts a text in its place.

    The text replaces the file in one step: whoever looks sees the old file or the whole new one. A
    path that cannot be written raises UsageError on entry, before any work is done for it.
    """
    with _explained(path):
        final = Path(path)
        descriptor = _descriptor(final)
        # What is open, a pipe or a device is written to, never replaced; it may have no name at all.
        replaceable = descriptor is None and (final.is_file() or not final.exists())
        if replaceable:
            final = final.resolve()  # a link stays a link
            if final.is_symlink():  # from Python 3.13 on, resolve() leaves such a one as it is
                raise UsageError(f"{path} cannot be written: it is a loop of links")
        if final.is_dir():
            raise UsageError(f"{path} is a folder; name a file in it")
        if not final.parent.is_dir():
            raise UsageError(f"{path} cannot be written: there is no folder {final.parent}")
        if final.exists() and not os.access(final, os.W_OK):
            raise UsageError(f"{path} is write-protected; name another file")
        part = final.parent / f".devbench-{uuid.uuid4().hex[:12]}.part" if replaceable else final
        if replaceable:
            part.touch(exist_ok=False)

    def write(text: str) -> None:
        with _explained(path):
            # A descriptor is duplicated: to open its path would cut off what it has written so far.
            opener = None if descriptor is None else lambda *_: os.dup(descriptor)
            with open(part, "w", encoding="utf-8", newline="\n", opener=opener) as out:
                out.write(text)
                if replaceable:
                    out.flush()
                    os.fsync(out.fileno())
            if replaceable:
                if final.exists():
                    shutil.copymode(final, part)
                part.replace(final)

    try:
        yield write
    finally:
        if replaceable:
            part.unlink(missing_ok=True)


def _descriptor(path: Path) -> int | None:
    """Of ``/dev/stdout``, ``/dev/fd/3`` and the like."""
    found = re.fullmatch(r"/dev/(stdout|stderr)|/(?:dev|proc/self)/fd/(\d+)", str(path))
    if found is None:
        return None
    return int(found[2]) if found[2] else {"stdout": 1, "stderr": 2}[found[1]]


@contextmanager
def _explained(path: str | Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:  # a NUL in the name; a loop of links
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{path} cannot be written: {reason}") from error
