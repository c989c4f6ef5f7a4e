"""``devbench export`` and ``devbench import``: run files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from devbench.cli.common import StoreOption, store_location
from devbench.cli.stored import RedactOption, RunArgument, load
from devbench.errors import UsageError, unknown

_FORMATS = ("json",)


def export(
    run: RunArgument = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Standard output otherwise."),
    ] = None,
    format_: Annotated[
        str, typer.Option("--format", metavar="NAME", help="json: all that the store holds of it.")
    ] = "json",
    redact: RedactOption = False,
    store: StoreOption = None,
) -> None:
    """Write a run to a file.

    `devbench import`, `show` and `report` read it.
    """
    from devbench.store.exchange import dump_run
    from devbench.store.files import reserve

    if format_ not in _FORMATS:
        raise UsageError(unknown("export format", format_, _FORMATS))
    if output is None:
        sys.stdout.write(dump_run(load(run, store, redact)))
        return
    with reserve(output) as write:
        write(dump_run(load(run, store, redact)))


def import_(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE", help="Run files.", show_default=False)
    ],
    store: StoreOption = None,
) -> None:
    """Add runs from files to the store.

    All of them or, if one is wrong, none.

    Prints their ids.
    """
    from devbench.store import Store
    from devbench.store.exchange import read_run

    imported = [read_run(path) for path in files]
    with Store.open(store_location(store)) as opened:
        opened.import_runs(imported)
    for run in imported:
        print(run.info.id)
