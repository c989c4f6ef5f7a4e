"""What the verbs on stored runs share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from devbench.cli.common import store_location
from devbench.errors import UsageError

if TYPE_CHECKING:
    from devbench.model import Run

RunArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="RUN",
        help="A run id or its beginning, a label, or a run file; the latest `devbench run` otherwise.",
        show_default=False,
    ),
]

RedactOption = Annotated[
    bool,
    typer.Option(
        "--redact", help="Take out names, UUIDs, serial numbers, addresses and home folders."
    ),
]


def load(reference: str | None, store: str | None, redact: bool = False) -> Run:
    from devbench.store import resolve

    run = resolve(reference, store_location(store))
    if not redact:
        return run
    from devbench.redaction import names_here
    from devbench.store.redacted import redacted

    return redacted(run, names_here())


def render(run: Run, format_: str) -> str:
    """The run as the reporter of that name writes it, ending in a line end."""
    from devbench import registry
    from devbench.stats.results import summarize

    text = registry.reporter(format_)(run, summarize(run))
    if not isinstance(text, str):
        raise UsageError(f"the reporter {format_!r} gives no text; use text, csv, json or markdown")
    return text if text.endswith("\n") else f"{text}\n"
