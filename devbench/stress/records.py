"""What was looked at, and what came out: frozen records, and how a stored run carries them.

A check is a case of the suite ``stress`` with one measurement that has no samples; a sustained load is
a case whose rounds are the windows of its time series.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, TypeAlias

from devbench.model import Case, Json, Measurement, Numerics, Run, Status, Target, Work

#: There is no word for a device that is well: a test that finds nothing says no more than that.
Verdict: TypeAlias = Literal["no fault found", "fault", "cannot tell"]

SUITE: Final = "stress"
#: The benchmark whose rounds are the windows of the load.
SUSTAINED: Final = "sustained"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one check found. says: a sentence with its figures."""

    verdict: Verdict
    says: str
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trial:
    """One check, ready to be run on the device that it was made for."""

    tier: int
    name: str
    run: Callable[[], Outcome]
    dtype: str | None = None

    @property
    def key(self) -> str:
        return self.name if self.dtype is None else f"{self.name}[{self.dtype}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check of one device. where: its id, such as ``torch:cuda:0``."""

    where: str
    tier: int
    name: str
    verdict: Verdict
    says: str
    dtype: str | None = None
    seconds: float | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    #: How its worker ended where that is the fault: ``crashed``, ``timeout`` or ``failed``.
    status: Status = "ok"
    reason: str | None = None

    @property
    def key(self) -> str:
        return self.name if self.dtype is None else f"{self.name}[{self.dtype}]"

    def to_json(self) -> Json:
        return asdict(self)

    def case(self, target: Target) -> Case:
        dtype = () if self.dtype is None else (("dtype", self.dtype),)
        return Case(SUITE, self.name, (("tier", self.tier), *dtype), target)

    def measurement(self, target: Target, started_at: str) -> Measurement:
        numerics: Mapping[Verdict, Numerics] = {"no fault found": "match", "fault": "mismatch"}
        return Measurement(
            case_id=self.case(target).id,
            round=0,
            status=self.status,
            reason=self.reason,
            detail=None if self.status == "ok" else self.says,
            started_at=started_at,
            check_s=self.seconds,
            numerics=None if self.status != "ok" else numerics.get(self.verdict, "unchecked"),
            numerics_detail=self.says,
            metrics={"verdict": self.verdict, **self.figures},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Some seconds of sustained load.

    at_s: its begin since that of the load. seconds: its length. samples: seconds of one product each,
    the mean of `block` in a row. yardstick_s: the fixed step timed beside them. differing: elements of
    one product that came out otherwise than at the beginning. telemetry: `devbench.telemetry.Summary`
    as JSON. doubts: its sentences.
    """

    at_s: float
    seconds: float
    flop: float
    samples: tuple[float, ...]
    block: int
    yardstick: str
    yardstick_s: float
    differing: int
    clock: str
    telemetry: Mapping[str, Json] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()

    @property
    def flop_per_s(self) -> float:
        return self.flop / statistics.fmean(self.samples)

    def to_json(self) -> Json:
        """Without the samples, which are in the store."""
        gpu: Mapping[str, Json] = next(iter(self.telemetry.get("gpus", ())), {})
        return {
            "at_s": self.at_s,
            "seconds": self.seconds,
            "flop_per_s": self.flop_per_s,
            "yardstick_s": self.yardstick_s,
            "differing": self.differing,
            "sm_clock_hz": gpu.get("sm_clock_hz"),
            "temperature_c": gpu.get("temperature_c"),
            "power_w": gpu.get("power_w"),
            "clock_events": gpu.get("clock_events", {}),
            "doubts": list(self.doubts),
        }

    def measurement(self, case_id: str, round_: int, started_at: str, threads: int) -> Measurement:
        return Measurement(
            case_id=case_id,
            round=round_,
            status="ok",
            started_at=started_at,
            threads=threads,
            clock=self.clock,
            samples=self.samples,
            block=self.block,
            timing_s=self.seconds,
            telemetry=self.telemetry,
            yardstick=self.yardstick,
            yardstick_s=self.yardstick_s,
            metrics={
                "at_s": self.at_s,
                "differing_elements": self.differing,
                **({"doubts": "; ".join(self.doubts)} if self.doubts else {}),
            },
        )


@dataclass(frozen=True, slots=True)
class Series:
    """The windows of one device under load: n×n products in one dtype."""

    where: str
    n: int
    dtype: str
    windows: tuple[Window, ...]


def load_case(target: Target, n: int, dtype: str) -> Case:
    params = (("tier", 3), ("n", n), ("dtype", dtype))
    return Case(SUITE, SUSTAINED, params, target, Work(flops=2 * n**3))


def is_stress(run: Run) -> bool:
    return run.info.kind == SUITE


def verdict_of(checks: Sequence[Check]) -> Verdict:
    """Of a device, or of all: a fault if there is one. What could not be told takes nothing from what
    was looked at; with nothing looked at, nothing can be told."""
    verdicts = {check.verdict for check in checks}
    if "fault" in verdicts:
        return "fault"
    return "no fault found" if "no fault found" in verdicts else "cannot tell"


def checks_of(run: Run) -> tuple[Check, ...]:
    """The checks of a stored run, in the order in which they were made."""
    cases = {case.id: case for case in run.cases}
    return tuple(
        _check(cases[one.case_id], one)
        for one in run.measurements
        if cases[one.case_id].benchmark != SUSTAINED
    )


def _check(case: Case, one: Measurement) -> Check:
    params = dict(case.params)
    figures = {name: value for name, value in one.metrics.items() if name != "verdict"}
    return Check(
        where=str(case.target),
        tier=int(params.get("tier", 0)),
        name=case.benchmark,
        verdict=one.metrics.get("verdict", "cannot tell"),
        says=one.numerics_detail or "",
        dtype=str(params["dtype"]) if "dtype" in params else None,
        seconds=one.check_s,
        figures=figures,
        status=one.status,
        reason=one.reason,
    )


def series_of(run: Run) -> tuple[Series, ...]:
    """The time series of a stored run, a device each."""
    found = []
    for case in run.cases:
        if case.benchmark != SUSTAINED:
            continue
        own = [one for one in run.measurements if one.case_id == case.id and one.samples]
        params: Mapping[str, Any] = dict(case.params)
        windows = tuple(
            _window(case, one) for one in sorted(own, key=lambda one: float(one.metrics["at_s"]))
        )
        found.append(Series(str(case.target), params["n"], params["dtype"], windows))
    return tuple(found)


def _window(case: Case, one: Measurement) -> Window:
    doubts = str(one.metrics.get("doubts", ""))
    return Window(
        at_s=float(one.metrics["at_s"]),
        seconds=one.timing_s or 0.0,
        flop=case.work.flops or 0.0,
        samples=one.samples,
        block=one.block,
        yardstick=one.yardstick or "",
        yardstick_s=one.yardstick_s or 0.0,
        differing=int(one.metrics.get("differing_elements", 0)),
        clock=one.clock or "",
        telemetry=one.telemetry,
        doubts=tuple(doubts.split("; ")) if doubts else (),
    )
