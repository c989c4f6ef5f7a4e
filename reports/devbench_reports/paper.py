"""Text of a fixed width, for a terminal or a file: what the reporters of plain text share."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Callable
from typing import Final

from rich.console import Console

_NARROWEST: Final = 80
_NO_TERMINAL: Final = 100


def written(write: Callable[[Console], None], width: int | None, color: bool) -> str:
    """What `write` prints, without spaces at the ends of lines.

    width: columns, at least 80; by default those of the terminal, or 100 where the output is none.
    """
    if width is None:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _NO_TERMINAL
    console = Console(
        file=io.StringIO(),
        width=max(width, _NARROWEST),
        force_terminal=color,
        color_system="standard" if color else None,
        highlight=False,
        emoji=False,
        markup=False,
        legacy_windows=False,
    )
    with console.capture() as capture:
        write(console)
    lines = (line.rstrip() for line in capture.get().splitlines())
    return "\n".join(lines).strip("\n") + "\n"
