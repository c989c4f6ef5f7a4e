"""What the verbs that measure share: the words and options that say what, on which devices."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from devbench.errors import UsageError

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SELECT",
        help="A suite, a benchmark or a case pattern such as 'matmul[n=1024]@torch:*'. Default: all.",
        show_default=False,
    ),
]
DeviceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--device",
        metavar="DEVICE",
        help="torch:cuda:0, cuda:0, cuda, gpu or cpu; repeatable. Default: all.",
    ),
]
FrameworkOption = Annotated[
    list[str] | None,
    typer.Option(
        "--framework", metavar="NAME", help="torch or tensorflow; repeatable. Default: all."
    ),
]
ThreadsOption = Annotated[
    str | None,
    typer.Option("--threads", metavar="N[,N]", help="CPU threads; several make a case each."),
]
ParamOption = Annotated[
    list[str] | None,
    typer.Option("--param", metavar="AXIS=V[,V]", help="Values of an axis instead of its sweep."),
]
SuitePathOption = Annotated[
    list[Path] | None,
    typer.Option("--suite-path", metavar="FILE", help="A suite file of your own; repeatable."),
]


def threads_of(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise UsageError(
            f"--threads takes whole numbers, e.g. --threads 1,2, not {text!r}"
        ) from None
