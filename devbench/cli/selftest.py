"""``devbench selftest``: the ruler measured against known durations."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from devbench.cli.common import JsonOption, note, print_json
from devbench.cli.table import print_table


def selftest(
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Ten times the readings, for narrow intervals.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Time steps of known duration.

    Tells how far times from this machine can be trusted.

    Exits with 1 when a check is broken; noise alone ends in "cannot tell".
    """
    from devbench import selftest as ruler

    report = ruler.run(ruler.THOROUGH if thorough else ruler.SHORT, note)
    if json:
        print_json(report.to_json())
    else:
        print_table(
            ("where", "what must hold", "reads (99 % interval)", "verdict"),
            [(one.where, one.claim, one.figure, one.verdict) for one in report.checks],
        )
        for check in report.checks:
            if check.verdict != "holds":
                print(f"\n{check.where}: {check.meaning}.")
        bar = report.error_bar
        print(
            f"\nError bar of this machine: the same work in {len(bar.medians)} fresh processes "
            f"varied by {_percent(bar.spread)} (standard deviation of the medians).\n"
            f"Two cases of one run ({bar.rounds} rounds each) can be told apart from a difference of "
            f"{_percent(bar.smallest_difference)} on."
        )
    sys.exit(1 if report.broken else 0)


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"
