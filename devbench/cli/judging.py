"""What the verbs that judge two sides share: their options, and how an answer is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from devbench.errors import UsageError

if TYPE_CHECKING:
    from devbench.regress.comparison import Comparison

MarginOption = Annotated[
    str,
    typer.Option(
        "--margin",
        metavar="SHARE|calibrated",
        help="A change up to this is taken for none; calibrated: what `devbench calibrate` stored.",
    ),
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
    share = parse_margin(text)
    if share is None:
        raise UsageError(f"--margin {text!r} is no share; it reads like 3% or 0.03")
    return share


def parse_margin(text: str) -> float | None:
    """The same; None for ``calibrated``."""
    from devbench.regress import margins  # with scipy

    return margins.parse_margin(text)
