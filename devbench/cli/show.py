"""``devbench show``: one run as a table."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from devbench.cli.common import JsonOption, StoreOption
from devbench.cli.stored import RedactOption, RunArgument, load, render
from devbench.errors import UsageError


def show(
    run: RunArgument = None,
    format_: Annotated[
        str | None,
        typer.Option("--format", metavar="NAME", help="text (default), csv, json or markdown."),
    ] = None,
    as_json: JsonOption = False,
    redact: RedactOption = False,
    store: StoreOption = None,
) -> None:
    """Show the result table of a run."""
    if as_json and format_ not in (None, "json"):
        raise UsageError(f"--json and --format {format_} ask for two different things; give one")
    loaded = load(run, store, redact)
    sys.stdout.write(render(loaded, "json" if as_json else format_ or "text"))
