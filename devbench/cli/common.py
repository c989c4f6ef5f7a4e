"""What every verb shares: where text goes, and how an answer becomes an exit code."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="PATH|URL",
        help="Results store. Default: $DEVBENCH_STORE, else one for each user.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]


def console(*, stderr: bool = False) -> Console:
    """Rich's console: colours off for a pipe, NO_COLOR and FORCE_COLOR honoured by rich itself."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=not sys.stdout.isatty())


def echo(text: str) -> None:
    """A line on standard output, for a verb that is done before rich would be imported. Its colours are
    left out where rich leaves them out."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") in ("dumb", "unknown")
    typer.echo(text, color=False if plain else True if os.environ.get("FORCE_COLOR") else None)


def note(text: str) -> None:
    """A remark for the person, on standard error, never mixed into data."""
    print(text, file=sys.stderr)


def print_json(answer: Any) -> None:
    """One object on standard output; NaN and infinity never appear in it."""
    json.dump(answer, sys.stdout, indent=2, allow_nan=False)
    sys.stdout.write("\n")


def store_location(option: str | None) -> str | None:
    return option or os.environ.get("DEVBENCH_STORE") or None
