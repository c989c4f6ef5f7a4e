"""What a run says, in sentences: each claim with its figure, and none that the noise would forbid."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from devbench.doctor.attribution import Attribution, attribute
from devbench.model import Result, Run
from devbench.stats.crossover import Crossover
from devbench.stats.ratio import CHANCE, Ratio, ratio, timed
from devbench_reports import comparison, crossings, environment
from devbench_reports import format as fmt
from devbench_reports.alike import template, together
from devbench_reports.panels import Group, groups

#: Cases that a sentence names; more are counted.
_NAMED: Final = 3

#: Reasons that a sentence tells in full; of the others it tells the word.
_REASONS: Final = 5


def sentences(
    run: Run, results: Sequence[Result], crossovers: Sequence[Crossover]
) -> list[tuple[str, list[str]]]:
    """Sentences by topic: the state of the run and its devices, a topic a benchmark, then what is to
    be doubted and what was skipped or failed. A topic without sentences does not appear."""
    causes = attribute(run, results)
    topics = [
        ("the run", _state(run, results)),
        ("devices", list(environment.machine(run).notes)),
        *(
            (
                group.benchmark,
                [*_headline(group), *_over_sizes(group, crossovers), *explained(group, causes)],
            )
            for group in groups(run, results)
        ),
        ("doubts", _doubts(results)),
        ("skipped or failed", _missing(results)),
        ("rounds", _rounds(results)),
    ]
    return [(topic, text) for topic, text in topics if text]


def of_the_whole(run: Run, results: Sequence[Result]) -> list[str]:
    """The sentences that concern the run as a whole, for where the others stand beside the rows."""
    return [*_state(run, results), *environment.machine(run).notes, *_rounds(results)]


def reason_code(reason: str) -> str:
    """The word of the closed list that a reason begins with."""
    match = re.match(r"[a-z]+(?:-[a-z]+)*", reason)
    return match[0] if match else reason


def explained(group: Group, causes: Sequence[Attribution]) -> list[str]:
    """What holds the rows of this benchmark down, a sentence for those that have it in common, as far as
    it is more than the doubts of the rows say already, or leads to a way out."""
    doubted = {reason_code(reason) for row in group.rows for reason in row.quality_reasons}
    return [
        f"{one}."
        for one in causes
        if (one.suite, one.benchmark) == (group.suite, group.benchmark)
        and any(cause.id or cause.kind not in doubted for cause in one.causes)
    ]


def compare_words(item: Ratio) -> str:
    """``1.08 times as fast (95 % interval 1.02 to 1.14)``, or that nothing can be said."""
    if item.verdict == "no difference":
        by_chance = 1 / CHANCE <= item.value <= CHANCE
        why = (
            "their 95 % intervals overlap"
            if item.has_interval
            else f"with one round a factor up to {CHANCE} may be chance"
            if by_chance
            else "one round each, and what the two read in it overlaps"
            if item.base.rounds == item.subject.rounds
            else "one of them has one round, and what the two read overlaps"
        )
        return f"no difference beyond the noise (ratio {fmt.factor(item.value)}; {why})"
    basis = (
        f"95 % interval {fmt.factor(item.low)} to {fmt.factor(item.high)}"
        if item.low is not None and item.high is not None
        else "one round, so no interval"
    )
    return f"{fmt.factor(item.value)} times as fast ({basis})"


def claim(item: Ratio) -> str:
    """``torch:cpu is 1.08 times as fast (…) as tensorflow:CPU:0``, the faster one first."""
    if item.verdict == "slower":
        item = item.inverse
    subject, base = item.subject.target, item.base.target
    if item.verdict == "no difference":
        return f"{subject} and {base} show {compare_words(item)}"
    return f"{subject} is {compare_words(item)} as {base}"


def _state(run: Run, results: Sequence[Result]) -> list[str]:
    text = []
    if run.info.state != "complete":
        state = (
            "was interrupted"
            if run.info.state == "interrupted"
            else "has not ended, or was ended before it could say so"
        )
        measured = sum(row.median is not None for row in results)
        text.append(
            f"This run {state}: {measured} of {fmt.count(len(run.cases), 'case')} measured."
        )
        reached = {(row.suite, row.benchmark) for row in results}
        rest = dict.fromkeys(
            case.benchmark for case in run.cases if (case.suite, case.benchmark) not in reached
        )
        if rest:
            text.append(f"It did not come to {fmt.join(list(rest))}.")
    if not any(timed(row) for row in results):
        text.append("Nothing was measured that a figure could rest on.")
    return text


def _headline(group: Group) -> list[str]:
    """The times of all targets at the point that says most, and the frameworks against each other."""
    rows = _headline_rows(group)
    if not rows:
        return []
    where = fmt.long_params(rows[0].params)
    said = "; ".join(f"{row.target} takes {_time(row)}" for row in rows)
    text = [f"At {where}, {said}." if where else f"{said}."]
    text += [f"There, {claim(item)}." for item in comparison.between_frameworks(rows)]
    return [" ".join(text)]


def _time(row: Result) -> str:
    rate = fmt.rate(row)
    off = fmt.uncertainty(row)
    sure = f" ± {fmt.percent(off[1])}" if off and off[0] == "interval" else ""
    return f"{fmt.seconds(row.median)}{sure} a step{f' ({fmt.quantity(*rate)})' if rate else ''}"


def _headline_rows(group: Group) -> list[Result]:
    """Rows at one point of the axes: the one that most targets were timed at; of these, float32,
    then the largest size, then the most work."""
    points: dict[comparison.Params, list[Result]] = {}
    for panel in group.panels:
        for line in panel.lines:
            for row in filter(timed, line.rows):
                points.setdefault(comparison.point(row), []).append(row)

    def weight(rows: list[Result]) -> tuple[int, bool, float, float]:
        first = rows[0]
        size = float(first.params[group.size]) if group.size else 0.0
        return len(rows), first.dtype in (None, "float32"), size, max(r.median or 0 for r in rows)

    return max(points.values(), key=weight, default=[])


def _over_sizes(group: Group, crossovers: Sequence[Crossover]) -> list[str]:
    """What becomes of the comparison of devices along the size, at the headline's point."""
    rows, size = _headline_rows(group), group.size
    if not rows or size is None:
        return []
    fixed = {axis: value for axis, value in rows[0].params.items() if axis != size}
    matching = [
        row
        for row in group.rows
        if {axis: value for axis, value in row.params.items() if axis != size} == fixed
    ]
    start = _at({axis: value for axis, value in fixed.items() if axis not in group.constant})
    found = [item for item in crossings.of(group, crossovers) if dict(item.params) == fixed]
    followed = {item.subject for item in found}
    largest: dict[str, Ratio] = {}
    for speed_up in sorted(
        comparison.speed_ups(matching), key=lambda item: float(item.subject.params[size])
    ):
        if speed_up.subject.target not in followed:
            largest[speed_up.subject.target] = speed_up
    return [
        *(_sentence(f"{start}{_crossover(item, matching)}") for item in found),
        *(
            _sentence(f"{start}at {size} = {item.subject.params[size]}, {claim(item)}.")
            for item in largest.values()
        ),
    ]


def _crossover(item: Crossover, rows: Sequence[Result]) -> str:
    """One crossover with the ratio at the largest size, and what moving the data would make of it."""
    said = crossings.clause(item, item.without_transfer)
    last = {
        row.target: row for row in rows if timed(row) and row.params[item.axis] == item.sizes[-1]
    }
    ahead = item.without_transfer.ahead or item.subject
    behind = item.base if ahead == item.subject else item.subject
    factor = ratio(last[behind], last[ahead])
    end = f"{item.axis} = {fmt.plain(item.sizes[-1])}"
    if factor is not None:
        verb = "there is" if factor.verdict == "no difference" else "it is"
        said += f"; at {end} {verb} {compare_words(factor)}"
    if item.with_transfer is not None and item.moving == "measured":
        said += (
            f". With the data to be moved each time, {crossings.clause(item, item.with_transfer)}"
        )
    return f"{said}."


def _sentence(text: str) -> str:
    """With a capital where a preposition begins it; a target's name stays as it is written."""
    return text[0].upper() + text[1:] if text.startswith(("at ", "from ", "up to ")) else text


def _at(fixed: Mapping[str, object]) -> str:
    return (
        f"With {', '.join(f'{axis}={value}' for axis, value in fixed.items())}, " if fixed else ""
    )


def _doubts(results: Sequence[Result]) -> list[str]:
    doubted = [row for row in results if row.status == "ok" and row.quality_reasons]
    if not doubted:
        return []
    measured = sum(row.status == "ok" for row in results)
    verb = "is" if len(doubted) == 1 else "are"
    reasons = [reason for row in doubted for reason in row.quality_reasons]
    named = [f"{row.case_id}, {'; '.join(row.quality_reasons)}" for row in doubted]
    return [
        f"{len(doubted)} of {fmt.count(measured, 'measured row')} {verb} to be doubted: "
        f"{_listed(named, reasons)}."
    ]


def _missing(results: Sequence[Result]) -> list[str]:
    words = {
        "skipped": "skipped",
        "oom": "out of memory",
        "failed": "failed",
        "crashed": "crashed",
        "timeout": "timed out",
    }
    text = []
    for status, word in words.items():
        rows = [row for row in results if row.status == status]
        if rows:
            reasons = [row.reason or fmt.UNKNOWN for row in rows]
            named = [f"{row.case_id}, {row.reason or fmt.UNKNOWN}" for row in rows]
            text.append(f"{fmt.count(len(rows), 'case')} {word}: {_listed(named, reasons)}.")
    return text


def _listed(named: Sequence[str], reasons: Sequence[str]) -> str:
    """A few cases with their reasons in full; of many, how often each reason, those that differ in their
    figures only as one."""
    if len(named) <= _NAMED:
        return " · ".join(text.rstrip(".") for text in named)
    found: dict[str, list[str]] = {}
    for reason in reasons:
        found.setdefault(template(reason), []).append(reason)
    often = sorted(found.values(), key=len, reverse=True)
    listed = [f"{len(alike)} × {together(alike)}".rstrip(".") for alike in often[:_REASONS]]
    rest = Counter(reason_code(reason) for alike in often[_REASONS:] for reason in alike)
    return " · ".join([*listed, *(f"{number} × {code}" for code, number in rest.most_common())])


def _rounds(results: Sequence[Result]) -> list[str]:
    rows = [row for row in results if timed(row)]
    single = sum(row.rounds == 1 for row in rows)
    if not single:
        return []
    which = "Every figure comes" if single == len(rows) else f"{single} of {len(rows)} figures come"
    return [
        f"{which} from one round (one fresh process), so there is no interval: what another process "
        "would read is not known. The spread that is shown is the one inside that process."
    ]
