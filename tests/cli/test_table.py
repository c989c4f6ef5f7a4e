"""Tables of the verbs that list things: what identifies a row is never broken."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from devbench.cli import table

COLUMNS = ("run", "label", "cases", "host", "frameworks")
ROWS = [
    (
        "20261122-044601-3116",
        "nightly",
        "36 ok, 2 skipped",
        "vm",
        "torch 2.13.0, tensorflow 2.21.0",
    ),
    ("20261122-044525-b612-head", "–", "8 ok", "vm", "torch 2.13.0"),
]


def printed(monkeypatch: pytest.MonkeyPatch, width: int, *, terminal: bool = True) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=terminal, color_system=None)
    monkeypatch.setattr(table, "console", lambda: console)
    table.print_table(COLUMNS, ROWS, below=("cases", "host", "frameworks"))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_on_a_narrow_terminal_the_rest_stands_below_its_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = printed(monkeypatch, 60)
    assert max(map(len, lines)) <= 60
    assert lines[0].split() == ["run", "label"]
    assert lines[1].split() == ["20261122-044601-3116", "nightly"]
    assert lines[2].startswith("  cases 36 ok, 2 skipped · host vm")
    assert "20261122-044525-b612-head  –" in lines


@pytest.mark.parametrize(("width", "terminal"), [(120, True), (40, False)])
def test_where_there_is_room_and_in_a_pipe_a_row_is_a_line(
    monkeypatch: pytest.MonkeyPatch, width: int, terminal: bool
) -> None:
    lines = printed(monkeypatch, width, terminal=terminal)
    assert len(lines) == 1 + len(ROWS)
    assert lines[0].split() == list(COLUMNS)
    assert lines[1].endswith("torch 2.13.0, tensorflow 2.21.0")
