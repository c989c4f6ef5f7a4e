"""``devbench stress``: whether each device computes right and keeps its speed."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from devbench.cli.common import (
    JsonOption,
    StoreOption,
    console,
    note,
    print_json,
    store_location,
)
from devbench.cli.selecting import DeviceOption, FrameworkOption
from devbench.errors import NothingMeasured

if TYPE_CHECKING:
    from rich.table import Table

    from devbench.stress.examine import Loaded
    from devbench.stress.records import Check
    from devbench.stress.session import Event, Report, Session

STYLES = {"fault": "bold red", "cannot tell": "yellow", "no fault found": "green"}
EXIT_CODES = {"fault": 1, "cannot tell": NothingMeasured.exit_code, "no fault found": 0}
#: Without a terminal a window of the load is told at most this often.
QUIET_S = 10.0
#: Rates of the last windows, as a line of bars.
BARS = "▁▂▃▄▅▆▇█"
BARS_SHOWN = 40


def stress(
    tier: Annotated[
        int,
        typer.Option(
            "--tier",
            metavar="1|2|3",
            help="1: known answers, seconds. 2: repetition, memory, bandwidths, a minute. 3: sustained load.",
        ),
    ] = 1,
    minutes: Annotated[
        float, typer.Option("--minutes", metavar="N", help="Of load on each device in tier 3.")
    ] = 5.0,
    device: DeviceOption = None,
    framework: FrameworkOption = None,
    label: Annotated[
        str | None, typer.Option("--label", metavar="NAME", help="A name to find the run by.")
    ] = None,
    json: JsonOption = False,
    store: StoreOption = None,
) -> None:
    """Look for faults of each device: does it compute right, and does it keep its speed?

    A tier includes those before it. What finds nothing says "no fault found"; no test shows that a
    device is well.

    Exits with 1 when a fault is found, with 3 when nothing could be told.
    """
    from devbench.store import Store
    from devbench.stress.effort import Effort
    from devbench.stress.session import prepare

    effort = Effort(tier=tier, minutes=minutes)
    with Store.open(store_location(store)) as opened:
        session = prepare(opened, effort, device or (), framework or (), label)
        with Live(session) as live:
            report = session.run(live.tell)
    if json:
        print_json(report.to_json())
    else:
        _print(report)
    if report.state == "interrupted":
        note(f"devbench: interrupted; what was found is kept in run {report.info.id}")
        sys.exit(130)
    sys.exit(EXIT_CODES[report.verdict])


class Live:
    """What is known so far: a table that is redrawn on a terminal, a line a check elsewhere."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._live = sys.stderr.isatty()
        self._checks: list[Check] = []
        self._rates: list[float] = []
        self._where = self._doing = self._load = ""
        self._last_line = 0.0

    def __enter__(self) -> Live:
        note(
            f"devbench stress {self._session.info.id}: {len(self._session.targets)} device(s), tier "
            f"{self._session.effort.tier}, log {self._session.log}"
        )
        if self._live:
            from rich.live import Live as Display

            self._display = Display(
                console=console(stderr=True), refresh_per_second=1, transient=True
            )
            self._display.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            self._display.stop()

    def tell(self, event: Event) -> None:
        """Show one event."""
        from devbench.stress.examine import Doing, Loaded
        from devbench.stress.records import Check
        from devbench.stress.session import Started

        match event:
            case Started():
                self._where, self._checks, self._rates = str(event.target), [], []
                self._doing, self._load = "starting", ""
                if not self._live:
                    note(f"{self._where}: starting")
            case Doing():
                self._doing = event.key
            case Loaded():
                self._loaded(event)
            case Check():
                self._checks.append(event)
                if not self._live:
                    note(f"{event.where} {event.key}: {event.verdict}: {event.says}")
        if self._live:
            self._display.update(self._table())

    def _loaded(self, event: Loaded) -> None:
        self._rates.append(event.window.flop_per_s)
        self._load = load_line(event, self._rates)
        now = time.monotonic()
        if not self._live and now - self._last_line >= QUIET_S:
            self._last_line = now
            note(f"{self._where} {self._load}")

    def _table(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, show_header=False, title=self._where)
        for check in self._checks:
            verdict = Text(check.verdict, style=STYLES[check.verdict])
            table.add_row(Text(check.key), verdict, Text(check.says, overflow="ellipsis"))
        table.add_row(Text(self._doing, style="dim"), Text("…"), Text(self._load))
        return table


def load_line(event: Loaded, rates: list[float]) -> str:
    """``at 65 s: 743 TFLOP/s, 1755 MHz, 68 °C ▇▇█``: the newest window, and the rates up to it."""
    window = event.window
    told = window.to_json()
    parts = [f"{window.flop_per_s / 1e12:.3g} TFLOP/s"]
    if told["sm_clock_hz"]:
        parts.append(f"{told['sm_clock_hz'] / 1e6:.0f} MHz")
    if told["temperature_c"]:
        parts.append(f"{told['temperature_c']:.0f} °C")
    if told["power_w"]:
        parts.append(f"{told['power_w']:.0f} W")
    if window.differing:
        parts.append(f"{window.differing} elements wrong")
    words = [doubt.split(":")[0] for doubt in window.doubts]
    last = rates[-BARS_SHOWN:]
    top = max(last)
    bars = "".join(BARS[min(len(BARS) - 1, int(len(BARS) * rate / top))] for rate in last)
    return f"at {window.at_s + window.seconds:.0f} s: {', '.join([*parts, *words])} {bars}"


def _print(report: Report) -> None:
    from devbench.cli.table import print_table
    from devbench.stress.records import verdict_of

    untold: list[str] = []
    for where in dict.fromkeys(check.where for check in report.checks):
        own = [check for check in report.checks if check.where == where]
        verdict = verdict_of(own)
        untold += [where] if verdict == "cannot tell" else []
        print(f"{where}: {verdict}")
        rows = [(f"  {check.key}", check.verdict, check.says) for check in own]
        print_table(("  check", "verdict", "what was seen"), rows)
        print()
    faults = sum(check.verdict == "fault" for check in report.checks)
    unsure = sum(check.verdict == "cannot tell" for check in report.checks)
    said = {
        "fault": f"{faults} fault{'s' * (faults != 1)}",
        "no fault found": "No fault found",
        "cannot tell": "Could not tell whether there is a fault",
    }[report.verdict]
    print(
        f"{said} in {len(report.checks)} checks"
        + (f"; {unsure} could not tell" if unsure else "")
        + (f"; nothing could be told of {', '.join(untold)}" if untold else "")
        + f". Run {report.info.id}."
    )
