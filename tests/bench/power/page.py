"""The figures as Markdown, put between two marks of the page; what is around them is left alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from devbench.stats.power import clopper_pearson
from devbench.stats.sequential import LOOKS
from tests.bench.power.decisions import RESAMPLED, outcomes, readings, real_comparisons
from tests.bench.power.pool import SAME, SLOWED
from tests.bench.power.raw import CONDITIONS, Raw
from tests.bench.power.simulation import CASES, RUNS, SERIES, Simulated, family, simulate

BEGIN: Final = "<!-- figures: begin -->"
END: Final = "<!-- figures: end -->"
_ABOUT: Final = {"cpu": "CPU", "memory": "memory", "dispatch": "dispatch"}


def write(page: Path, raw: Raw) -> None:
    """Raises ValueError where the page lacks the marks."""
    head, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page.name} lacks the marks {BEGIN} and {END}")
    text = "\n\n".join(("", *measured(raw), *simulated(list(simulate()), family()), ""))
    page.write_text(f"{head}{BEGIN}{text}{END}{tail}", encoding="utf-8")


def measured(raw: Raw) -> Iterable[str]:
    if not raw.sessions:
        yield "Nothing has been measured yet."
        return
    first, last = raw.sessions[0], raw.sessions[-1]
    dates = first if first == last else f"{first} to {last}"
    machine = raw.machine
    hours = sum(one["seconds"] for one in raw.records) / 3600
    yield (
        f"Measured {dates}, {hours:.1f} hours, on: {machine['cpu']}, {machine['usable_cpus']:g} CPUs, "
        f"{machine['memory_gib']} GiB{', a virtual machine' if machine['virtual'] else ''}; "
        f"{machine['system']}, Python {machine['python']}, torch {machine['torch']}, pytest-benchmark "
        f"{machine['pytest-benchmark']}, pyperf {machine['pyperf']}."
    )
    yield (
        "What pairs of devbench read, with the 95 % interval of their mean, and by how much one pair of the "
        "same code spreads (standard deviation, over all sizes):"
    )
    yield _table(
        ("work", "neighbour", "pairs", "spread of a pair", SAME, *SLOWED),
        (
            (
                _ABOUT[condition.kind],
                "yes" if condition.noisy else "no",
                str(len(raw.pairs(condition, SAME))),
                _percent(read["pair"][0]),
                *(
                    f"{100 * read[role][0]:+.1f} ± {100 * read[role][1]:.1f} %"
                    for role in (SAME, *SLOWED)
                ),
            )
            for condition in CONDITIONS
            if (read := readings(raw, condition))
        ),
    )
    rows = [outcome for condition in CONDITIONS for outcome in outcomes(raw, condition)]
    if not rows:
        yield (
            f"What would have been decided is told from {LOOKS[-1]} pairs a condition on; of fewer, all "
            "comparisons that are drawn from them err together."
        )
        return
    yield _table(
        ("work", "neighbour", "harness", "rule", "measured", SAME, "at most", *SLOWED, "open"),
        (
            (
                _ABOUT[one.condition.kind],
                "yes" if one.condition.noisy else "no",
                one.tool,
                one.rule,
                one.measured,
                _percent(one.alarms),
                f"{_percent(one.at_most)} ({one.trials})",
                *(_percent(one.caught[role]) for role in SLOWED),
                "" if one.open is None else _percent(one.open),
            )
            for one in rows
        ),
    )
    comparisons, alarms = real_comparisons(raw)
    yield (
        f"Real comparisons of devbench of the same code, no pair in two of them: {alarms} of "
        f"{comparisons} called it slower beyond 3 %, so the chance of that is at most "
        f"{_percent(clopper_pearson(alarms, comparisons)[1])} (95 %). The shares of devbench are of "
        f"{RESAMPLED} comparisons drawn from its pairs."
    )


def simulated(laws: Sequence[Simulated], comparison: tuple[float, float, float]) -> Iterable[str]:
    yield (
        f"Simulated, {SERIES} series a row, nominal error 0.1 % (in brackets its bounds, each wrong with a "
        "chance of 5 %):"
    )
    yield _table(
        ("pairs", "unchanged code called certainly slower", "3 % called slower than 3 %"),
        ((one.law, _bounds(one.certain), _bounds(one.beyond)) for one in laws),
    )
    yield (
        f"Of {RUNS} comparisons of {CASES} cases, each slower by exactly 3 %, {_bounds(comparison)} had at "
        "least one case called slower than that; nominal 1 %."
    )


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = (heading, ["---"] * len(heading), *rows)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _bounds(found: tuple[float, float, float]) -> str:
    share, low, high = (100 * value for value in found)
    return f"{share:.3f} % ({low:.3f}–{high:.3f})"
