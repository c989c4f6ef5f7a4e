"""Writing a file so that it is whole or not there at all."""

from __future__ import annotations

import os
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
        # /dev/stdout or a pipe is written to, never replaced; what it leads to may have no name at all.
        replaceable = final.is_file() or not final.exists()
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
            with part.open("w", encoding="utf-8", newline="\n") as out:
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


@contextmanager
def _explained(path: str | Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:  # a NUL in the name; a loop of links
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{path} cannot be written: {reason}") from error
