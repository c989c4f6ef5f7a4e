"""The program, called without starting a process."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from unittest import mock

from devbench.cli import main


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


def devbench(*arguments: object) -> Answer:
    """What ``devbench ARGUMENTS`` prints and exits with. An exception that would be a traceback is
    raised."""
    out, err = io.StringIO(), io.StringIO()
    argv = mock.patch.object(sys, "argv", ["devbench", *map(str, arguments)])
    code: object = 0
    with redirect_stdout(out), redirect_stderr(err), argv:
        try:
            main()
        except SystemExit as exit_:
            code = exit_.code or 0
    assert isinstance(code, int)
    return Answer(code, out.getvalue(), err.getvalue())
