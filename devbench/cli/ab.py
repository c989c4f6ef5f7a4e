"""``devbench ab``: two interpreters or two git refs, timed in turn until it is known which is slower."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from devbench.cli.common import JsonOption, StoreOption, note, store_location
from devbench.cli.judging import (
    AllowOption,
    FormatOption,
    MarginOption,
    parse_share,
    reporter_of,
)
from devbench.cli.selecting import (
    DeviceOption,
    FrameworkOption,
    ParamOption,
    SuitePathOption,
    ThreadsOption,
    Words,
    threads_of,
)

if TYPE_CHECKING:
    from devbench.regress.ab import Event
    from devbench.regress.interleave import PairDone


def ab(
    base: Annotated[
        str,
        typer.Option(
            "--base", metavar="X", help="A git ref, or a Python interpreter or virtual environment."
        ),
    ],
    select: Words = None,
    head: Annotated[
        str | None,
        typer.Option(
            "--head",
            metavar="Y",
            help="The same. Default: the files as they are now, or this Python.",
            show_default=False,
        ),
    ] = None,
    device: DeviceOption = None,
    framework: FrameworkOption = None,
    threads: ThreadsOption = None,
    param: ParamOption = None,
    suite_path: SuitePathOption = None,
    margin: MarginOption = "3%",
    time_budget: Annotated[
        float | None,
        typer.Option(
            "--time-budget", metavar="SECONDS", help="What is open when it ends stays open."
        ),
    ] = None,
    label: Annotated[
        str | None, typer.Option("--label", metavar="NAME", help="Stored as NAME-base, NAME-head.")
    ] = None,
    allow_inconclusive: AllowOption = False,
    format_: FormatOption = None,
    json: JsonOption = False,
    store: StoreOption = None,
) -> None:
    """Tell whether HEAD is slower than BASE, by pairs of fresh processes that are timed in turn.

    Looks after 8, 16, 32 and 64 pairs; a case stops as soon as it is decided. The sweeps are the short
    ones of `devbench run --quick`.

    Exits with 1 where something regressed or broke, 3 where nothing could be compared, 4 where a
    question is left open.
    """
    from devbench.regress.ab import Request, interleave
    from devbench.store import Store

    report = reporter_of(format_, json)
    calibrated = margin.strip() == "calibrated"
    request = Request(
        base=base,
        head=head,
        select=tuple(select or ()),
        devices=tuple(device or ()),
        frameworks=tuple(framework or ()),
        threads=threads_of(threads),
        params=tuple(param or ()),
        suite_paths=tuple(path.resolve() for path in suite_path or ()),
        margin=parse_share("3%" if calibrated else margin),
        calibrated=calibrated,
        allow_inconclusive=allow_inconclusive,
        label=label,
        time_budget_s=time_budget,
    )
    with Store.open(store_location(store)) as opened, Live() as live:
        try:
            comparison = interleave(request, opened, live.tell)
        except KeyboardInterrupt:
            stored = "; what was measured is stored, and `devbench runs` lists it"
            note(f"interrupted{stored if live.has_started else ', before anything was measured'}")
            raise typer.Exit(130) from None
    sys.stdout.write(report(comparison))
    raise typer.Exit(comparison.exit_code)


class Live:
    """What is known so far: a table that is redrawn on a terminal, a line a look elsewhere."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._verdicts: dict[str, str] = {}

    @property
    def has_started(self) -> bool:
        """Whether there are runs in the store."""
        return bool(self._verdicts)

    def __enter__(self) -> Live:
        if self._live:
            from rich.live import Live as Display

            from devbench.cli.common import console

            self._display = Display(
                console=console(stderr=True), refresh_per_second=1, transient=True
            )
            self._display.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            self._display.stop()

    def tell(self, event: Event) -> None:
        from devbench.regress.ab import Looked, Started
        from devbench.regress.interleave import PairDone

        match event:
            case Started():
                self._verdicts = {case.id: "" for case in event.cases}
                note(
                    f"devbench ab: {event.base.name} against {event.head.name}, "
                    f"{_count(len(event.cases), 'case')}, log {event.log}"
                )
                for sentence in event.left_out:
                    note(sentence)
                for case_id, margin in event.margins.items():
                    note(f"{case_id}: up to {margin:.1%} is taken for none, as calibrated")
            case PairDone():
                if self._verdicts[event.case.id].startswith(("regressed", "improved", "equiv")):
                    return
                self._verdicts[event.case.id] = so_far(event)
                self._redraw()
            case Looked():
                for case_id, judgement in event.decided.items():
                    change = 100 * (judgement.ratio - 1)
                    self._verdicts[case_id] = f"{judgement.verdict}, {change:+.1f} %"
                    if not self._live:
                        note(f"{case_id}: {self._verdicts[case_id]} after {event.pairs} pairs")
                if not self._live:
                    note(f"{event.pairs} pairs: {_count(event.open, 'case')} open")
                self._redraw()

    def _redraw(self) -> None:
        if not self._live:
            return
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("case", overflow="fold")
        table.add_column("so far", no_wrap=True)
        for case_id, told in self._verdicts.items():
            table.add_row(Text(case_id), Text(told))
        self._display.update(table)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def so_far(event: PairDone) -> str:
    """``+2.1 % after 5 pairs``: no verdict, and not to be taken for one."""
    if event.found.trouble is not None:
        return event.found.trouble
    import statistics

    change = 100 * math.expm1(statistics.fmean(event.found.pairs))
    return f"{change:+.1f} % after {event.pair + 1} pairs"
