"""The answer of a comparison: a verdict a case, what differs around them, and how the program ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from devbench.model import Case, ParamValue
from devbench.regress.environment_diff import Difference
from devbench.stats.verdicts import ALPHA, FAMILY, Verdict

#: How a row looks at the code: it broke what worked, it leaves the question open, or it is fine.
Gate = Literal["broken", "open", "fine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One case of a comparison.

    verdict, reason: what is said, and why where it is no more than the interval.
    gate: what it means for whoever has to let the code pass.
    base_s, new_s: seconds of a step, the median of the rounds' medians; None where there are none.
    ratio, low, high: new over base and the interval that the verdict was read off, each end of which is
    wrong with a chance of `level`. They are of the times in units of `yardstick` where that is not None.
    margin: a change up to this was taken for none; None where nothing was judged.
    calibrated: a side is one process, so how far processes lie apart is what a calibration found.
    certain: the direction of a change that is beyond doubt, be it within the margin or not.
    more: further rounds a side (or pairs) that would decide it if nothing else changes.
    shift, p: the ratio after Hodges and Lehmann, and the p of no change at all by a randomisation test.
    doubts: what speaks against the figures of either side.
    """

    case_id: str
    benchmark: str
    params: Mapping[str, ParamValue]
    target: str
    verdict: Verdict
    gate: Gate
    reason: str | None = None
    base_s: float | None = None
    new_s: float | None = None
    base_rounds: int = 0
    new_rounds: int = 0
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    level: float | None = None
    margin: float | None = None
    calibrated: bool = False
    certain: Literal["slower", "faster"] | None = None
    more: int | None = None
    yardstick: str | None = None
    shift: float | None = None
    p: float | None = None
    doubts: tuple[str, ...] = ()

    @classmethod
    def unmeasured(cls, case: Case, reason: str) -> Row:
        """A case that was not timed on both sides: an open question."""
        return cls(
            case_id=case.id,
            benchmark=case.benchmark,
            params=dict(case.params),
            target=str(case.target),
            verdict="not-measured",
            gate="open",
            reason=reason,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SideInfo:
    """What a comparison says of one side."""

    name: str
    kind: str
    id: str
    label: str | None
    started_at: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The answer of `compare`. alpha, family: one-sided errors of a case and of all (`verdicts`).

    margin: of all cases, or the widest where each has its own.
    allow_inconclusive: open questions do not keep the code from passing.
    """

    base: SideInfo
    new: SideInfo
    margin: float
    alpha: float = ALPHA
    family: float = FAMILY
    allow_inconclusive: bool = False
    differences: tuple[Difference, ...]
    rows: tuple[Row, ...]

    @property
    def counts(self) -> dict[Verdict, int]:
        """Rows by verdict, those that occur."""
        found = Counter(row.verdict for row in self.rows)
        order: tuple[Verdict, ...] = (
            "regressed",
            "improved",
            "equivalent",
            "inconclusive",
            "not-measured",
        )
        return {verdict: found[verdict] for verdict in order if found[verdict]}

    @property
    def exit_code(self) -> int:
        """0 fine; 1 something regressed or broke; 3 nothing could be compared; 4 something is open."""
        if any(row.gate == "broken" for row in self.rows):
            return 1
        if all(row.verdict == "not-measured" for row in self.rows):
            return 3
        open_ = any(row.gate == "open" for row in self.rows)
        return 4 if open_ and not self.allow_inconclusive else 0
