"""How long a run will still take, told once that is worth something."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Literal

from devbench.events import Doing, Done, Event, Probing, Starting

if TYPE_CHECKING:
    from devbench.session import Session

#: Cases that must have been timed before anything is told.
_ENOUGH: Final = 5

#: Build, first call and check take about as long as a third of warm-up and timing.
_BESIDE: Final = 4 / 3

#: Probes of a device's ceilings, about.
_PROBES: Final = 25


class Estimate:
    """Learns from the events of a run what its parts take: importing a framework, the ceilings of a
    device, a visit to a case. Before they were seen, their budgets and the imports that the look at the
    machine took stand for them."""

    def __init__(self, session: Session, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = session.settings
        self._clock = clock
        self._began = self._since = clock()
        self._in: Literal["start", "ceilings", "visit"] = "start"
        self._framework = ""
        left = session.left
        self._to_start = {
            (round_, str(case.target)): case.target.framework for case, round_ in left
        }
        known = session.info.environment.get("targets", {})
        self._to_probe = {
            target for _, target in self._to_start if "ceilings" not in known.get(target, {})
        }
        self._starts: dict[str, list[float]] = {
            answer.name: [answer.view.import_s]
            for answer in session.machine.frameworks
            if answer.view is not None and answer.view.import_s is not None
        }
        self._ceilings: list[float] = []
        self._visits: list[float] = []
        self._timed = 0
        self._visits_left = len(left)

    def learn(self, event: Event) -> None:
        """Take in an event as it happens."""
        match event:
            case Starting():
                self._to_start.pop((event.round, str(event.target)), None)
                self._framework = event.target.framework
                self._enter("start")
            case Probing():
                self._to_probe.discard(str(event.target))
                self._close()
                self._enter("ceilings")
            case Doing():
                if self._in != "visit":
                    self._close()
                    self._enter("visit")
            case Done():
                self._close()
                self._enter("visit")
                self._timed += event.measurement.status == "ok"
                self._visits_left = event.total - event.done

    @property
    def left_s(self) -> float | None:
        """Seconds until the end; None while too little was seen."""
        if self._timed < _ENOUGH:
            return None
        settings = self._settings
        budget = _BESIDE * (settings.warmup_s + settings.share_s)
        # What a visit may take counts like one that was seen: the first few may be the short ones.
        visit = statistics.fmean([budget, *self._visits])
        ceilings = (
            statistics.fmean(self._ceilings) if self._ceilings else _PROBES * settings.ceiling_s
        )
        every = [seconds for starts in self._starts.values() for seconds in starts]
        starts = sum(
            statistics.fmean(self._starts.get(framework) or every or [0.0])
            for framework in self._to_start.values()
        )
        left = visit * self._visits_left + ceilings * len(self._to_probe) + starts
        if settings.time_budget_s is None:
            return left
        return min(left, max(0.0, settings.time_budget_s - (self._clock() - self._began)))

    def __str__(self) -> str:
        """``about 4 min left``, no more digits than it deserves; empty while too little was seen, and
        at the end."""
        left = self.left_s
        if left is None or not self._visits_left:
            return ""
        if left < 55:
            return f"about {max(10, 10 * round(left / 10))} s left"
        if left < 90 * 60:
            return f"about {round(left / 60)} min left"
        return f"about {left / 3600:.1f} h left"

    def _enter(self, phase: Literal["start", "ceilings", "visit"]) -> None:
        self._in, self._since = phase, self._clock()

    def _close(self) -> None:
        """The phase that ends now took as long as it did."""
        took = self._clock() - self._since
        if self._in == "start":
            self._starts.setdefault(self._framework, []).append(took)
        elif self._in == "ceilings":
            self._ceilings.append(took)
        else:
            self._visits.append(took)
