"""``devbench compare``: two sides, a verdict a case."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from devbench.cli.common import JsonOption, StoreOption, store_location
from devbench.cli.judging import (
    AllowOption,
    FormatOption,
    MarginOption,
    parse_margin,
    reporter_of,
)

_SIDE = "A run id or its beginning, a label, a run file, or JSON of pytest-benchmark"


def compare(
    base: Annotated[
        str, typer.Argument(metavar="BASE", help=f"{_SIDE} (a folder of such: a round each).")
    ],
    new: Annotated[
        str | None,
        typer.Argument(
            metavar="NEW", help="The same; the latest `devbench run` otherwise.", show_default=False
        ),
    ] = None,
    margin: MarginOption = "3%",
    allow_inconclusive: AllowOption = False,
    format_: FormatOption = None,
    as_json: JsonOption = False,
    store: StoreOption = None,
) -> None:
    """Tell what got slower from one run to another.

    A verdict a case: regressed, improved, equivalent, inconclusive or not-measured.

    Exits with 1 where something regressed or broke, 3 where nothing could be compared, 4 where a
    question is left open.
    """
    from devbench.regress import margins
    from devbench.regress.compare import compare as compare_sides
    from devbench.regress.sides import read_side
    from devbench.store import Store

    report = reporter_of(format_, as_json)
    share = parse_margin(margin)
    first, second = (read_side(reference, store_location(store)) for reference in (base, new))
    known = {}
    if share is None or second.kind == "pytest-benchmark":  # a file is a single process
        with Store.open(store_location(store), create=False) as opened:
            known = margins.stored(opened, margins.environment_of(second))
    comparison = compare_sides(
        first, second, margin=share, calibrated=known, allow_inconclusive=allow_inconclusive
    )
    sys.stdout.write(report(comparison))
    raise typer.Exit(comparison.exit_code)
