"""``devbench report``: one run as an HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from devbench.cli.common import StoreOption
from devbench.cli.stored import RedactOption, RunArgument, load, render


def report(
    run: RunArgument = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where the page goes.")
    ] = Path("devbench-report.html"),
    redact: RedactOption = False,
    store: StoreOption = None,
) -> None:
    """Write the HTML report of a run.

    One file that needs nothing else. Prints its path.
    """
    from devbench.store.files import reserve

    with reserve(output) as write:
        write(render(load(run, store, redact), "html"))
    print(output)
