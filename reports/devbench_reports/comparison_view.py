"""A comparison in words and figures, as its text and its Markdown say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from devbench.model import ParamValue
from devbench.regress.comparison import Comparison, Row, SideInfo
from devbench.regress.environment_diff import Difference
from devbench_reports import format as fmt

#: Rows that say that nothing happened are counted, not listed, where there are more rows than this.
MANY: Final = 40

#: An interval that is wider tells nothing, and its ends less.
_KNOWN: Final = 1000

#: What decides over the code comes first.
_ORDER: Final = ("regressed", "not-measured", "inconclusive", "improved", "equivalent")


@dataclass(frozen=True, slots=True)
class Group:
    """The rows of a benchmark, and what they share: parameters and, if it is one, the target."""

    benchmark: str
    constant: Mapping[str, ParamValue]
    target: str | None
    rows: Sequence[Row]

    @property
    def heading(self) -> str:
        return "  ".join(
            part
            for part in (
                self.benchmark,
                ", ".join(filter(None, (fmt.long_params(self.constant), self.target))),
            )
            if part
        )

    def case(self, row: Row) -> str:
        """What tells the row from the others."""
        if row.params:
            return fmt.params(row.params, tuple(self.constant))
        rest = row.case_id.removeprefix(self.benchmark).removesuffix(f"@{row.target}")
        return rest.strip("[]") or fmt.NONE


@dataclass(frozen=True, slots=True)
class Listing:
    """Rows to show, in order, and how many equivalent ones are left out."""

    rows: Sequence[Row]
    left_out: int


def listing(comparison: Comparison) -> Listing:
    """Rows by verdict, the gravest first, else as they were measured."""
    rows = sorted(comparison.rows, key=lambda row: _ORDER.index(row.verdict))
    if len(rows) <= MANY:
        return Listing(rows, 0)
    shown = [row for row in rows if row.verdict != "equivalent" or row.certain]
    return Listing(shown, len(rows) - len(shown))


def groups(rows: Sequence[Row]) -> list[Group]:
    """Rows by benchmark, in the order in which benchmarks first occur."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.benchmark, []).append(row)
    return [_group(benchmark, members) for benchmark, members in found.items()]


def _group(benchmark: str, rows: Sequence[Row]) -> Group:
    shared = [
        item
        for item in rows[0].params.items()
        if len(rows) > 1 and all(item in row.params.items() for row in rows)
    ]
    targets = {row.target for row in rows}
    return Group(benchmark, dict(shared), targets.pop() if len(targets) == 1 else None, rows)


def side(info: SideInfo) -> str:
    """``base (20260131-120000-ab12, 2026-01-31 12:00 UTC)``."""
    facts = [info.id] if info.id != info.name else []
    if info.started_at:
        facts.append(f"{info.started_at[:16].replace('T', ' ')} UTC")
    if info.state != "complete":
        facts.append(info.state)
    return f"{info.name} ({', '.join(facts)})" if facts else info.name


def difference(item: Difference, sides: tuple[str, str] = ("on the base", "now")) -> str:
    """``torch:cpu: framework version 2.12.0 on the base, 2.13.0 now``."""
    scope = f"{item.scope}: " if item.scope else ""
    base, new = item.base or "not known", item.new or "not known"
    if item.what == "git commit":
        base, new = (word if word == "not known" else word[:12] for word in (base, new))
    return f"{scope}{item.what} {base} {sides[0]}, {new} {sides[1]}"


def headline(comparison: Comparison) -> str:
    """``2 regressed, 5 equivalent``."""
    return ", ".join(f"{count} {verdict}" for verdict, count in comparison.counts.items())


def change(ratio: float | None) -> str:
    """1.052 → ``+5.2 %``; a factor where it is large."""
    if ratio is None:
        return fmt.NONE
    if not 0.5 <= ratio <= 2:
        return f"×{fmt.factor(ratio)}"
    percent = 100 * (ratio - 1)
    digits = 2 if abs(percent) < 1 else 1
    return f"{percent:+.{digits}f} %".replace("-", "−")


def interval(row: Row) -> str:
    """``+4.1 … +6.3 %``."""
    if row.low is None or row.high is None:
        return fmt.NONE
    if row.high > _KNOWN * row.low:
        return f"wider than ×{_KNOWN}"
    low, high = change(row.low), change(row.high)
    return f"{low.removesuffix(' %') if high.endswith(' %') else low} … {high}"


def own_margins(comparison: Comparison) -> bool:
    """Whether cases have margins of their own, so that each is to be shown."""
    return any(row.margin not in (None, comparison.margin) for row in comparison.rows)


def margin(row: Row) -> str:
    """``±4.1 %``: up to this a change was taken for none."""
    return fmt.NONE if row.margin is None else f"±{_percent(row.margin)}"


def verdict(row: Row) -> str:
    """The verdict, with a change that is certain though it decides nothing."""
    if row.certain and row.verdict in ("equivalent", "inconclusive"):
        return f"{row.verdict}, {row.certain}"
    return row.verdict


def doubts(row: Row) -> list[str]:
    """``steal (both)``: the words of what is in doubt, with the sides that they are of."""
    words: dict[str, list[str]] = {}
    for doubt in row.doubts:
        at, _, sentence = doubt.partition(", ")
        words.setdefault(sentence.partition(":")[0], []).append(at)
    return [f"{word} ({'both' if len(sides) > 1 else sides[0]})" for word, sides in words.items()]


def remarks(row: Row) -> list[str]:
    """What is to be known of a row besides its figures: the reason of its verdict, and its doubts."""
    found = doubts(row)
    return [
        *([row.reason] if row.reason else []),
        *([f"in doubt: {', '.join(found)}"] if found else []),
    ]


def method(comparison: Comparison) -> list[str]:
    """What the figures are and what the verdicts rest on."""
    measured = [row for row in comparison.rows if row.level is not None]
    if not measured:
        return []
    margin = "its margin" if own_margins(comparison) else _percent(comparison.margin)
    said = [
        f"Change: new over base, by the medians of rounds; up to {margin} is taken for none. “slower” "
        "and “faster” beside a verdict: certain, however small.",
        f"A case that did not change is called slower in at most {_percent(comparison.alpha)} of "
        f"comparisons, any case of one in at most {_percent(comparison.family)}; likewise faster.",
    ]
    if alone := sum(row.calibrated for row in measured):
        which = "All" if alone == len(measured) else f"{alone} of {len(measured)}"
        said.append(
            f"{which} intervals are of single processes, and as wide as a calibration of this machine says."
        )
    corrected = sum(row.yardstick is not None for row in measured)
    if corrected:
        which = "All" if corrected == len(measured) else f"{corrected} of {len(measured)}"
        said.append(
            f"{which} changes are of the times in units of a fixed step that was timed beside them, so "
            "the drift of the machine is not in them."
        )
    return said


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
