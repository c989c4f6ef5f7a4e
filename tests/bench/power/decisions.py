"""What would have been decided: by devbench's rule from pairs, by the others' rules from their runs.

The rules are given figures without a name: which of two processes did extra work is looked up after
they have decided.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from typing import Final

import numpy as np
from scipy.stats import ttest_ind

from devbench.model import Json
from devbench.stats.power import clopper_pearson, decide, in_a_row, resampled
from devbench.stats.sequential import LOOKS
from tests.bench.power.pool import ROLES
from tests.bench.power.raw import OURS, TOOLS, Condition, Raw

#: The same code first, then the slowdowns.
SAME, *SLOWED = list(ROLES)[1:]
RESAMPLED: Final = 5000
#: False alarms that the others' threshold is set for, afterwards and on the same runs.
ALLOWED: Final = 0.01

#: Whether new is called slower than base.
Rule = Callable[[Json, Json], bool]


def _by(figure: str, share: float) -> Rule:
    return lambda base, new: bool(new[figure] > (1 + share) * base[figure])


def _t_test(base: Json, new: Json) -> bool:
    """pyperf's own: Student's test of two samples, two-sided at 5 %."""
    slower = float(np.mean(new["values"])) > float(np.mean(base["values"]))
    return slower and bool(ttest_ind(base["values"], new["values"]).pvalue < 0.05)


#: The rules that the harnesses come with, or that are usual with them.
RULES: Final[Mapping[str, Mapping[str, Rule]]] = {
    "pytest-benchmark": {"mean:5%": _by("mean", 0.05), "min:5%": _by("min", 0.05)},
    "pyperf": {"its t-test": _t_test},
    "torch Timer": {"median +5 %": _by("median", 0.05)},
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One rule under one condition.

    alarms: the share of comparisons of the same code that were called slower; at_most: its upper bound
    from as many comparisons as share no process (`trials`). caught: by slowdown. open: the share of all
    comparisons left inconclusive; None for rules that never say so.
    """

    condition: Condition
    tool: str
    rule: str
    measured: str
    trials: int
    alarms: float
    at_most: float
    caught: Mapping[str, float]
    open: float | None = None


def outcomes(raw: Raw, condition: Condition) -> Iterator[Outcome]:
    """Those of each harness that has been measured often enough to say anything."""
    yield from _ours(raw, condition)
    for tool in TOOLS[1:]:
        runs: dict[str, list[Json]] = {}
        for one in raw.of(condition, tool):
            runs.setdefault(one["role"], []).append(one)
        if len(runs.get("base", ())) >= 2 and all(role in runs for role in SLOWED):
            yield from _others(condition, tool, runs)


def _ours(raw: Raw, condition: Condition) -> Iterator[Outcome]:
    if len(raw.pairs(condition, SAME)) < LOOKS[0]:
        return
    rng = np.random.default_rng(0)
    found = {
        role: decide(resampled(raw.pairs(condition, role), RESAMPLED, rng))
        for role in (SAME, *SLOWED)
    }
    open_ = float(np.mean([one.share("inconclusive") for one in found.values()]))
    row = in_a_row(raw.pairs(condition, SAME))
    pairs = len(raw.pairs(condition, SAME))
    mean = float(np.mean([one.pairs.mean() for one in found.values()]))
    beyond = {role: one.share("regressed") for role, one in found.items()}
    certain = {role: float(one.slower.mean()) for role, one in found.items()}
    seen = {"beyond 3 %": int((row.verdict == "regressed").sum()), "certain": int(row.slower.sum())}
    for rule, share in (("beyond 3 %", beyond), ("certain", certain)):
        yield Outcome(
            condition,
            OURS,
            rule,
            f"{pairs} pairs, {mean:.0f} a decision",
            len(row.verdict),
            share[SAME],
            clopper_pearson(seen[rule], len(row.verdict))[1],
            {role: share[role] for role in SLOWED},
            open_,
        )


def _others(
    condition: Condition, tool: str, runs: Mapping[str, Sequence[Json]]
) -> Iterator[Outcome]:
    """Each run of the base against each other one, and against each of the slowed."""
    base = runs["base"]
    ratios = [new["median"] / old["median"] for old, new in permutations(base, 2)]
    threshold = float(np.quantile(ratios, 1 - ALLOWED)) - 1
    tuned = {f"median {threshold:+.0%}, set for {ALLOWED:.0%} alarms": _by("median", threshold)}
    for name, rule in {**RULES[tool], **tuned}.items():
        alarms = float(np.mean([rule(*pair) for pair in permutations(base, 2)]))
        trials = len(base) // 2
        yield Outcome(
            condition,
            tool,
            name,
            f"{sum(map(len, runs.values()))} runs of {np.mean([r['wall_s'] for r in base]):.0f} s",
            trials,
            alarms,
            clopper_pearson(alarms * trials, trials)[1],
            {
                role: float(np.mean([rule(*pair) for pair in product(base, runs[role])]))
                for role in SLOWED
            },
        )


def pairs_a_decision(raw: Raw, condition: Condition) -> float:
    """Pairs that a comparison takes here on average; the second look before there is a pool."""
    if len(raw.pairs(condition, SAME)) < LOOKS[0]:
        return float(LOOKS[1])
    rng = np.random.default_rng(0)
    taken = [
        decide(resampled(raw.pairs(condition, role), 200, rng)).pairs.mean()
        for role in (SAME, *SLOWED)
    ]
    return float(np.mean(taken))


def real_comparisons(raw: Raw) -> tuple[int, int]:
    """Comparisons of the same code in a row, no pair used twice, under all conditions; and how many of
    them called it slower beyond the margin."""
    rows = [
        in_a_row(raw.pairs(condition, SAME))
        for condition in dict.fromkeys(Condition(one["kind"], one["noisy"]) for one in raw.records)
    ]
    return (
        sum(len(row.verdict) for row in rows),
        sum(int((row.verdict == "regressed").sum()) for row in rows),
    )
