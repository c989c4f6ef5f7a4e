"""``devbench calibrate``: what this machine can and cannot tell, case by case."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from devbench.cli.common import JsonOption, StoreOption, note, print_json, store_location
from devbench.cli.selecting import (
    DeviceOption,
    FrameworkOption,
    ParamOption,
    SuitePathOption,
    ThreadsOption,
    Words,
    threads_of,
)
from devbench.cli.table import print_table
from devbench.errors import NothingMeasured, UsageError

if TYPE_CHECKING:
    from devbench.regress.calibrate import Calibration, Figures
    from devbench.regress.interleave import PairDone

#: Without being told; the spread is then known to about ±35 %.
PAIRS: Final = 16


def calibrate(
    select: Words = None,
    pairs: Annotated[
        int, typer.Option("--pairs", metavar="N", help="Pairs of fresh processes a case.")
    ] = PAIRS,
    device: DeviceOption = None,
    framework: FrameworkOption = None,
    threads: ThreadsOption = None,
    param: ParamOption = None,
    suite_path: SuitePathOption = None,
    time_budget: Annotated[
        float | None,
        typer.Option("--time-budget", metavar="SECONDS", help="No further case is begun after it."),
    ] = None,
    label: Annotated[
        str | None, typer.Option("--label", metavar="NAME", help="A name to find it by.")
    ] = None,
    json: JsonOption = False,
    store: StoreOption = None,
) -> None:
    """Tell how small a slowdown this machine can show, and how often it cries wolf.

    Times the same code against itself and against known extra work, in pairs of fresh processes as
    `devbench ab` does; before each pair alone, in a round of `devbench run --quick`. What it finds is
    stored; `--margin calibrated` of `ab` and `compare` uses it.

    Exits with 1 where a case could not be timed, 3 where none could, 124 where the time budget ended
    before anything was.
    """
    from devbench.events import Done
    from devbench.regress.calibrate import calibrate as take
    from devbench.regress.margins import FEWEST
    from devbench.session import Request
    from devbench.settings import Settings
    from devbench.store import Store

    if pairs < FEWEST:
        raise UsageError(f"--pairs {pairs}: fewer than {FEWEST} tell nothing of the spread")
    request = Request(
        select=tuple(select or ()),
        devices=tuple(device or ()),
        frameworks=tuple(framework or ()),
        threads=threads_of(threads),
        params=tuple(param or ()),
        suite_paths=tuple(path.resolve() for path in suite_path or ()),
        label=label,
        settings=Settings.for_quick(rounds=pairs, time_budget_s=time_budget),
    )

    def tell(event: Done | PairDone) -> None:
        if isinstance(event, Done):
            one = event.measurement
            what, number = "round", one.round
            trouble = None if one.status == "ok" else f"{one.status}, {one.detail or one.reason}"
        else:
            what, number, trouble = "pair", event.pair, event.found.trouble
        told = "" if trouble is None else f": {trouble}"
        note(f"{what} {number + 1} of {pairs}, {event.case.id}{told}")

    with Store.open(store_location(store)) as opened:
        found = take(request, opened, tell)
    if json:
        print_json(found.to_json())
    else:
        _show(found)
    if not any(one.pair_spread is not None for one in found.cases):
        raise NothingMeasured("no case has the pairs that would tell anything")
    raise typer.Exit(1 if any(one.pair_spread is None for one in found.cases) else 0)


def _show(found: Calibration) -> None:
    from devbench.regress.calibrate import REPEAT, ROUNDS

    extra = f"{100 / REPEAT:+.0f} %"
    print_table(
        (
            "case",
            "spread\npairs",
            "\nrounds",
            "alarms\nseen",
            "\nat most",
            "catches\npairs",
            "\nrounds",
            f"{extra}\nreads",
            "\ncaught",
        ),
        [_row(one) for one in found.cases],
    )
    print(_MEANING.format(rounds=ROUNDS, extra=extra))
    for one in found.cases:
        if one.reason is not None:
            print(f"{one.case_id}: {one.reason}.")


_MEANING: Final = """
Spread: standard deviation of pairs of fresh processes, and of rounds as devbench
run takes them, in units of the fixed step beside them (of seconds without one).
Alarms: the same code called slower by more than 3 %, of the comparisons that
these pairs make up; and the chance of it that so few cannot exclude. 300
without an alarm would show that it is under 1 %.
Catches: the smallest slowdown that is called one with a chance of 99 %, told
from the spread: with up to 64 pairs (devbench ab), with {rounds} rounds a side
(devbench compare).
{extra}: what so much real extra work reads, and how often up to 64 pairs, drawn
from these, call it a slowdown."""


def _row(one: Figures) -> tuple[str, ...]:
    alarms, slowdown = one.alarms, one.slowdown
    return (
        one.case_id,
        _percent(one.pair_spread),
        _percent(one.round_spread if one.yardstick_spread is None else one.yardstick_spread),
        "–" if alarms is None else f"{alarms.seen} of {alarms.comparisons}",
        _percent(None if alarms is None else alarms.at_most),
        _percent(one.catches_in_turn),
        _percent(one.catches_by_rounds),
        "–" if slowdown is None else f"{100 * slowdown.reads:+.1f} %",
        _percent(None if slowdown is None else slowdown.caught),
    )


def _percent(share: float | None) -> str:
    if share is None:
        return "–"
    return (
        f"{100 * share:.1f} %" if share < 0.1 else f"{100 * share:.0f} %" if share < 10 else "> ×10"
    )
