"""``devbench history``: how long each case took from run to run, and where that changed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from devbench.cli.common import JsonOption, StoreOption, store_location
from devbench.errors import UsageError


def history(
    case: Annotated[
        str | None,
        typer.Argument(
            metavar="CASE",
            help="A suite, a benchmark, or a case such as 'matmul[n=1024]@torch:*'; all otherwise.",
            show_default=False,
        ),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE", help="Write the HTML page there, print its path."),
    ] = None,
    as_json: JsonOption = False,
    store: StoreOption = None,
) -> None:
    """Show where cases got slower or faster over the stored runs.

    Names the run and the commit from which on a case took another time.
    """
    from devbench.regress.history import history as read_history
    from devbench.store import Store
    from devbench.store.files import reserve

    if as_json and page is not None:
        raise UsageError("--json and --report ask for two different things; give one")

    def report(format_: str) -> str:
        from devbench import registry

        write = registry.reporter(format_, "devbench.history_reporters")
        with Store.open(store_location(store), create=False) as opened:
            return str(write(read_history(opened, case)))

    if page is None:
        sys.stdout.write(report("json" if as_json else "text"))
        return
    with reserve(page) as write:
        write(report("html"))
    print(page)
