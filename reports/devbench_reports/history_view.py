"""A history in words: the runs at which something changed, and what a series comes to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from devbench.regress.history import Change, History, RunPoint, Series
from devbench_reports import comparison_view
from devbench_reports import format as fmt


@dataclass(frozen=True, slots=True)
class Event:
    """A run from which on cases took another time. changes: with their series, the largest first."""

    run: RunPoint
    changes: Sequence[tuple[Series, Change]]

    @property
    def differences(self) -> list[str]:
        """What else is known to have changed with it, once each; the commit stands with the run."""
        found = [
            comparison_view.difference(item, ("before", "from then on"))
            for _, change in self.changes
            for item in change.differences
            if item.what not in ("git commit", "uncommitted changes")
        ]
        return list(dict.fromkeys(found))


def events(history: History) -> list[Event]:
    """The runs at which something changed, the newest first."""
    found: dict[str, list[tuple[Series, Change]]] = {}
    for series in history.series:
        for change in series.changes:
            found.setdefault(change.run.id, []).append((series, change))
    for changes in found.values():
        changes.sort(key=lambda item: abs(1 - item[1].ratio), reverse=True)
    order = {run.id: place for place, run in enumerate(history.runs)}
    newest = sorted(found, key=order.__getitem__, reverse=True)
    return [Event(found[run][0][1].run, found[run]) for run in newest]


def run(point: RunPoint) -> str:
    """``nightly (20260131-120000-ab12)``."""
    return f"{point.label} ({point.id})" if point.label else point.id


def day(point: RunPoint) -> str:
    return point.started_at[:16].replace("T", " ")


def commit(point: RunPoint) -> str:
    """The commit, short; ``+`` where there were changes that were not committed."""
    if point.commit is None:
        return fmt.UNKNOWN
    return f"{point.commit[:12]}{'+' if point.dirty else ''}"


def code(event: Event) -> str:
    """``commit 1234abc after 0987def``, the versions of devbench where they differ."""
    before = event.changes[0][1].before
    if event.run.commit is None and before.commit is None:
        return "no commit is known"
    if (event.run.commit, event.run.dirty) == (before.commit, before.dirty):
        return f"the same commit as before, {commit(event.run)}"
    return f"commit {commit(event.run)} after {commit(before)}"


def name(series: Series, history: History) -> str:
    """The case, with its device where it was measured on several."""
    alike = [other for other in history.series if other.case_id == series.case_id]
    return series.case_id if len(alike) == 1 else f"{series.case_id} on {series.device or '??'}"


def method(history: History) -> list[str]:
    """What the figures are, and what is called a change."""
    said = [
        f"A change is a new level that lasts at least {history.fewest // 2} runs; series of fewer than "
        f"{history.fewest} runs are not searched. Where it begins may be off by a run or two."
    ]
    corrected = sum(series.corrected == "all" for series in history.series)
    if corrected:
        which = (
            "All" if corrected == len(history.series) else f"{corrected} of {len(history.series)}"
        )
        said.append(
            f"{which} series are by a fixed step that was timed beside them, so the drift of the machine "
            "is not in them."
        )
    return said


def short(history: History) -> int:
    """Series that are too short to be searched."""
    return sum(len(series.runs) < history.fewest for series in history.series)
