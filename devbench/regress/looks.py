"""What pairs say: the verdict of each case at a look, and the controls without which it says nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from devbench.model import Case
from devbench.regress.comparison import Comparison
from devbench.regress.interleave import Found
from devbench.stats.sequential import level_at
from devbench.stats.verdicts import ALPHA, Estimate, Judgement, judge, paired, reach

#: What is the same on both sides may differ by this share of the margin before nothing is believed.
STILL: Final = 1 / 3


def look(
    found: Mapping[str, Found],
    open_: Sequence[Case],
    judged: Mapping[str, tuple[Estimate, Judgement]],
    margin: float,
    pairs: int,
    margins: Mapping[str, float] | None = None,
) -> dict[str, tuple[Estimate, Judgement]]:
    """What the first so many pairs say of the open cases that have them. margins: of cases that have
    one of their own."""
    whole = [case for case in open_ if case.id in found and len(found[case.id].pairs) >= pairs]
    estimates = [paired(found[case.id].pairs[:pairs]) for case in whole]
    equivalent = sum(judgement.verdict == "equivalent" for _, judgement in judged.values())
    judgements = judge(
        estimates,
        margin=[(margins or {}).get(case.id, margin) for case in whole],
        others=equivalent,
        level=lambda alpha: level_at(pairs, alpha),
    )
    return {
        case.id: pair
        for case, pair in zip(whole, zip(estimates, judgements, strict=True), strict=True)
    }


def with_stillness(
    comparison: Comparison,
    found: Mapping[str, Found],
    same: set[str],
) -> Comparison:
    """The comparison, open where something moved that should not have: a second process of the head's
    code against the first, or the fixed step where both sides have the same framework (`same`). What kept
    an open case from its further pairs is its reason, and who never rested among its doubts."""
    rows = []
    for row in comparison.rows:
        one = found.get(row.case_id)
        if one is not None and one.restless:
            row = replace(row, doubts=(*row.doubts, *map(_never_rests, sorted(one.restless))))
        if one is not None and one.trouble is not None and row.verdict == "inconclusive":
            row = replace(row, reason=one.trouble)
        said = row.verdict != "inconclusive" or row.certain is not None
        if one is not None and row.margin is not None and said:
            limit = STILL * math.log1p(row.margin)
            controls = {"head against itself": one.null}
            if row.target in same:
                controls["the fixed step"] = one.yardstick
            moved = [
                f"{name} moved by {math.expm1(center):+.1%}"
                for name, logs in controls.items()
                if (center := drift(logs, limit)) is not None
            ]
            if moved:
                reason = f"{'; '.join(moved)}: this machine favours one side, so nothing is said"
                row = replace(
                    row, verdict="inconclusive", gate="open", reason=reason, certain=None, more=None
                )
        rows.append(row)
    return replace(comparison, rows=tuple(rows))


def _never_rests(role: str) -> str:
    name = {"base": "base", "head": "new"}.get(role, "the control")
    return f"{name}, restless: its process went on using the CPU when it was the others' turn"


def drift(logs: Sequence[float], limit: float) -> float | None:
    """The mean log ratio where its interval, wrong with a chance of `ALPHA` at each end, lies beyond
    ±`limit`; None where it does not."""
    if len(logs) < 2:
        return None
    one = paired(logs)
    if not math.isfinite(one.error):
        return None
    half = float(reach(one.error, one.freedom, ALPHA))
    return one.center if abs(one.center) - half > limit else None
