"""What the verbs that judge two sides share: their options, and how an answer is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from devbench.errors import UsageError

if TYPE_CHECKING:
    from devbench.regress.compare import Comparison

MarginOption = Annotated[
    str,
    typer.Option("--margin", metavar="SHARE", help="A change up to this is taken for none."),
]
AllowOption = Annotated[
    bool,
    typer.Option("--allow-inconclusive", help="Exit with 0 where a question is left open."),
]
FormatOption = Annotated[
    str | None,
    typer.Option("--format", metavar="NAME", help="text (default), markdown, json or junit."),
]


def reporter_of(format_: str | None, as_json: bool) -> Callable[[Comparison], Any]:
    """The reporter that --format or --json names. Raises UsageError."""
    from devbench import registry

    if as_json and format_ not in (None, "json"):
        raise UsageError(f"--json and --format {format_} ask for two different things; give one")
    name = "json" if as_json else format_ or "text"
    return registry.reporter(name, "devbench.comparison_reporters")


def parse_share(text: str) -> float:
    """``3%`` or ``0.03`` as a share. Raises UsageError."""
    number = text.strip().removesuffix("%")
    try:
        value = float(number)
    except ValueError:
        raise UsageError(f"--margin {text!r} is no share; it reads like 3% or 0.03") from None
    if not text.strip().endswith("%"):
        if value >= 1:
            raise UsageError(f"--margin {text} would be {100 * value:g} %; do you mean {text}%?")
        return value
    return value / 100
