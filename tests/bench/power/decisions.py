"""What would have been decided: by devbench's rule from pairs, by the others' rules from their runs.

The rules are given figures without a name: which of two processes did extra work is looked up after
they have decided.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from typing import Final

import numpy as np
from scipy.stats import ttest_ind

from devbench.model import Json
from devbench.stats.power import Decisions, clopper_pearson, decide, in_a_row, resampled
from devbench.stats.sequential import LOOKS
from devbench.stats.verdicts import paired_t, reach
from tests.bench.power.pool import SAME, SLOWED, roles
from tests.bench.power.raw import CONDITIONS, OURS, TOOLS, Condition, Raw

RESAMPLED: Final = 5000
#: False alarms that the others' threshold is set for, afterwards and on the same runs.
ALLOWED: Final = 0.01

#: Shares of comparisons that call it slower, by devbench's rules.
_OURS: Final[Mapping[str, Callable[[Decisions], float]]] = {
    "beyond 3 %": lambda one: one.share("regressed"),
    "certain": lambda one: float(one.slower.mean()),
}

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
        if len(runs.get(SAME, ())) >= 2 and all(role in runs for role in SLOWED):
            yield from _others(condition, tool, runs)


def _ours(raw: Raw, condition: Condition) -> Iterator[Outcome]:
    pairs = {role: len(raw.pairs(condition, role)) for role in (SAME, *SLOWED)}
    # Drawn from fewer, the means of all comparisons would err together, by what the few err by.
    if min(pairs.values()) < LOOKS[-1]:
        return
    rng = np.random.default_rng(0)
    same = [_resampled(raw, condition, role, RESAMPLED, rng) for role in _same(condition)]
    slowed = {role: _resampled(raw, condition, role, RESAMPLED, rng) for role in SLOWED}
    usual = [same[0], *slowed.values()]
    row = _row(raw, condition)
    of_slowed = min(pairs[role] for role in SLOWED)
    only = f" ({of_slowed} with slowdowns)" if of_slowed < pairs[SAME] else ""
    for rule, share in _OURS.items():
        yield Outcome(
            condition,
            OURS,
            rule,
            f"{pairs[SAME]} pairs{only}, {np.mean([one.pairs.mean() for one in usual]):.0f} a decision",
            sum(len(one.verdict) for one in row),
            float(np.mean([share(one) for one in same])),
            clopper_pearson(
                sum(share(one) * len(one.verdict) for one in row),
                sum(len(one.verdict) for one in row),
            )[1],
            {role: share(one) for role, one in slowed.items()},
            float(np.mean([one.share("inconclusive") for one in usual])),
        )


def _same(condition: Condition) -> list[str]:
    """Roles of unchanged code, one a size."""
    return [role.name for role in roles(condition.kind) if role.name not in SLOWED]


def _resampled(
    raw: Raw, condition: Condition, role: str, times: int, rng: np.random.Generator
) -> Decisions:
    return decide(resampled(raw.pairs(condition, role), times, rng))


def _row(raw: Raw, condition: Condition) -> list[Decisions]:
    """Comparisons of unchanged code one after the other, a row a size; no pair is used twice."""
    found = (in_a_row(raw.pairs(condition, role)) for role in _same(condition))
    return [one for one in found if len(one.verdict)]


def _others(
    condition: Condition, tool: str, runs: Mapping[str, Sequence[Json]]
) -> Iterator[Outcome]:
    """Each run of the base against each other one, and against each of the slowed."""
    base = runs[SAME]
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
            f"{sum(map(len, runs.values()))} runs of {np.mean([r['given_s'] for r in base]):.0f} s",
            trials,
            alarms,
            clopper_pearson(alarms * trials, trials)[1],
            {
                role: float(np.mean([rule(*pair) for pair in product(base, runs[role])]))
                for role in SLOWED
            },
        )


def readings(raw: Raw, condition: Condition) -> dict[str, tuple[float, float]]:
    """By role what the pairs read on average, as a share, and half of the 95 % interval of that; then the
    standard deviation of one pair of the same code over all sizes (`"pair"`). Empty below three pairs."""
    found = {}
    for role in (SAME, *SLOWED):
        logs = np.array(raw.pairs(condition, role))
        if len(logs) < 3:
            return {}
        center, error, freedom = (float(value) for value in paired_t(logs))
        found[role] = math.expm1(center), float(reach(error, freedom, 0.025))
    same = [np.array(raw.pairs(condition, role)) for role in _same(condition)]
    found["pair"] = math.sqrt(float(np.mean([logs.var(ddof=1) for logs in same]))), 0.0
    return found


def pairs_a_decision(raw: Raw, condition: Condition) -> float:
    """Pairs that a comparison takes here on average; the second look before there is a pool."""
    if len(raw.pairs(condition, SAME)) < LOOKS[0]:
        return float(LOOKS[1])
    rng = np.random.default_rng(0)
    taken = [_resampled(raw, condition, role, 200, rng).pairs.mean() for role in (SAME, *SLOWED)]
    return float(np.mean(taken))


def real_comparisons(raw: Raw) -> tuple[int, int]:
    """Comparisons of the same code in a row, no pair used twice, under all conditions; and how many of
    them called it slower beyond the margin."""
    rows = [one for condition in CONDITIONS for one in _row(raw, condition)]
    return (
        sum(len(one.verdict) for one in rows),
        sum(int((one.verdict == "regressed").sum()) for one in rows),
    )
