"""What a run shows while it works: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from devbench.cli.common import console, note
from devbench.cli.estimate import Estimate
from devbench.events import Bisecting, Doing, Done, Event, Probing, Starting

if TYPE_CHECKING:
    from devbench.session import Session

#: Plain lines at most this often, so that a CI log stays readable.
QUIET_S = 5.0


class Progress:
    """Turns events into text on standard error. Redraws only when something happened or a second
    has passed: a progress bar that redraws all the time would cost what it watches."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._estimate = Estimate(session)
        self._live = sys.stderr.isatty()
        self._last_line = 0.0

    def __enter__(self) -> Self:
        session = self._session
        note(
            f"devbench run {session.info.id}: {len(session.cases)} cases, "
            f"{session.settings.rounds} round(s), log {session.log}"
        )
        if self._live:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
            from rich.table import Column

            self._bar = Progress(
                BarColumn(bar_width=16),
                MofNCompleteColumn(),
                TextColumn("{task.fields[left]}"),
                # On one line: a case's id is longer than a narrow terminal has room for.
                TextColumn(
                    "{task.description}",
                    markup=False,
                    table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
                ),
                console=console(stderr=True),
                expand=True,  # so that it is the description that gives way
                refresh_per_second=1,
                transient=True,
            )
            done, left = len(session.done), len(session.left)
            self._task = self._bar.add_task("", completed=done, total=done + left, left="")
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._bar.stop()

    def tell(self, event: Event) -> None:
        """Show one event of the run."""
        self._estimate.learn(event)
        match event:
            case Bisecting():
                sizes = dict.fromkeys(case.id.rpartition("@")[0] for case in event.cases)
                note(f"crossover: measuring {', '.join(sizes)}")
            case Starting():
                self._show(f"round {event.round + 1}: starting {event.target}")
            case Probing():
                self._show(f"ceilings of {event.target}")
            case Doing():
                self._show(f"{event.phase}: {event.case.id}")
            case Done():
                self._done(event)

    def _show(self, text: str) -> None:
        if self._live:
            self._bar.update(self._task, description=text)
        elif text.startswith("round"):
            note(text)

    def _done(self, event: Done) -> None:
        measurement = event.measurement
        left = str(self._estimate)
        if self._live:
            self._bar.update(self._task, completed=event.done, total=event.total, left=left)
        bad = measurement.status not in ("ok", "skipped")
        now = time.monotonic()
        if bad or (
            not self._live and (now - self._last_line >= QUIET_S or event.done == event.total)
        ):
            self._last_line = now
            outcome = (
                measurement.status if not bad else f"{measurement.status} ({measurement.reason})"
            )
            said = f"[{event.done}/{event.total}] {event.case.id}: {outcome}"
            note(f"{said}, {left}" if left else said)
