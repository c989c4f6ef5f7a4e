"""What a run shows while it works: a line that fits the terminal, and no guess about the time left."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest
from rich.console import Console

from devbench.cli import progress
from devbench.cli.progress import Progress
from devbench.events import Doing, Done, Starting
from devbench.settings import Settings
from tests.cli.test_estimate import case, measured, session

CASE = case("tensorflow", 1234567890123456789012345678901234567890)


def planned() -> Any:
    found = session(30, Settings(rounds=1))
    found.info.id, found.log = "a-run", "a.log"
    return found


def tell(shown: Progress, number: int, status: Any = "ok") -> None:
    shown.tell(Doing(CASE, 0, "warm-up"))
    shown.tell(Done(CASE, measured(CASE, 0, status), number, 60))


def test_plain_lines_tell_no_time_left_until_it_is_worth_something(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "QUIET_S", 0.0)
    with Progress(planned()) as shown:
        shown.tell(Starting(CASE.target, 0))
        for number in range(1, 9):
            tell(shown, number)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("[")]
    assert [" left" in line for line in lines] == [False] * 4 + [True] * 4
    assert lines[0].endswith(": ok")
    assert ": ok, about " in lines[-1]


def test_the_live_line_fits_the_terminal_and_shows_the_phase(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True, color_system=None)
    monkeypatch.setattr(progress, "console", lambda **_: console)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Progress(planned()) as shown:
        for number in range(1, 7):
            tell(shown, number)
        shown.tell(Doing(CASE, 0, "timing"))
        rendered = console.render_lines(shown._bar.get_renderable(), pad=False)
    assert len(rendered) == 1, "one line"
    line = "".join(segment.text for segment in rendered[0])
    assert len(line) <= 80
    assert " 6/60 " in line
    assert " left timing: benchmark[n=1234" in line
