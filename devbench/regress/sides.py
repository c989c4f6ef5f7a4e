"""What is compared: one side of a comparison, read from a run or from pytest-benchmark's JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from devbench.errors import RunFileError, UsageError
from devbench.model import SEVERITY, Case, Json, Measurement, ParamValue, Run, Status, Work
from devbench.regress.environment_diff import facts_of, target_facts_of
from devbench.regress.pytest_json import SCHEMA_KEYS, Parsed, Timed, parse
from devbench.stats.quality import judge
from devbench.stats.results import in_yardsticks, round_medians
from devbench.store import Store
from devbench.store.exchange import parse_run, read_text
from devbench.store.resolve import is_file

Kind = Literal["run", "pytest-benchmark"]

#: Figures of `Work` that say what a step does; the others say what it holds.
_OF_THE_WORK: Final = ("flops", "bytes", "items")


@dataclass(frozen=True, slots=True, kw_only=True)
class SideCase:
    """What one side knows of a case.

    status, reason: the gravest of its rounds, and why. wrong: the sentences by which its figures are
    worthless (`invalid`). doubts: those by which they are doubtful.
    medians: seconds of a step, one a round. in_yardsticks: the same in units of the step that was timed
    beside them, called `yardstick`; empty where a round has none.
    work: declared amounts by name. calibrated_as: under this name a calibration knows it; the id of a test
    of pytest-benchmark that no calibration takes, as it does not use `device_benchmark`.
    """

    id: str
    benchmark: str
    params: Mapping[str, ParamValue]
    target: str
    status: Status
    reason: str | None = None
    wrong: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    medians: tuple[float, ...] = ()
    yardstick: str | None = None
    in_yardsticks: tuple[float, ...] = ()
    work: Mapping[str, float]
    calibrated_as: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side. facts, target_facts: where and how it was measured (`environment_diff`).

    in_turn: its processes took turns with others, kept quiet for it, as those of `ab` do. unreached: the
    cases that were planned and of which nothing was measured.
    """

    name: str
    kind: Kind
    id: str
    label: str | None
    started_at: str
    state: str
    facts: Mapping[str, Json]
    target_facts: Mapping[str, Mapping[str, Json]]
    cases: Mapping[str, SideCase]
    in_turn: bool = False
    unreached: tuple[Case, ...] = ()


def read_side(reference: str | None, store_location: str | None) -> Side:
    """The side that a reference of the command line stands for: a run file, pytest-benchmark's JSON, a
    folder of such (a round each), or what `Store.load` makes of it.

    Raises UsageError, RunFileError and StoreError naming the culprit.
    """
    if reference is not None:
        path = Path(reference)
        if files := _files_of_a_folder(path):
            return _of_pytest([_pytest_file(file) for file in files], reference)
        if is_file(reference):
            text = read_text(path)
            data = _json(text)
            if isinstance(data, Mapping) and data.keys() >= SCHEMA_KEYS:
                return _of_pytest([parse(data, reference)], reference)
            return side_of(parse_run(text, reference))
    with Store.open(store_location, create=False) as store:
        return side_of(store.load(reference))


def _files_of_a_folder(path: Path) -> list[Path]:
    """The JSON files in it; none where it is no folder. One without any may share a label's name."""
    try:
        return sorted(path.glob("*.json")) if path.is_dir() else []
    except (OSError, ValueError):  # longer than a name can be; a NUL in it
        return []


def _json(text: str) -> Json:
    """The JSON of a text; None where it is none, which `parse_run` puts into words."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def side_of(run: Run) -> Side:
    """A run as a side. Raises UsageError for a stress test."""
    info = run.info
    if info.kind == "stress":  # its rounds are windows of one process: no interval rests on them
        raise UsageError(
            f"{info.id} is a stress test, whose checks are no timings to compare; look at it with "
            f"`devbench show {info.id}`"
        )
    visits: dict[str, list[Measurement]] = {case.id: [] for case in run.cases}
    for visit in run.measurements:
        visits[visit.case_id].append(visit)
    targets = target_facts_of(info)
    on_cpu = {name for name, facts in targets.items() if facts.get("physical_device") == "cpu"}
    return Side(
        name=info.label or info.id,
        kind="run",
        id=info.id,
        label=info.label,
        started_at=info.started_at,
        state=info.state,
        facts=facts_of(info),
        target_facts=_with_modes(targets, run),
        cases={
            case.id: _case(case, visits[case.id], str(case.target) in on_cpu)
            for case in run.cases
            if visits[case.id]
        },
        in_turn=info.kind == "ab",
        unreached=tuple(case for case in run.cases if not visits[case.id]),
    )


def _with_modes(targets: dict[str, dict[str, Json]], run: Run) -> dict[str, dict[str, Json]]:
    """The facts of each target with the modes that its cases ran in."""
    of = {case.id: str(case.target) for case in run.cases}
    modes: dict[str, set[str]] = {}
    for visit in run.measurements:
        if visit.mode is not None:
            modes.setdefault(of[visit.case_id], set()).add(visit.mode)
    for target, found in modes.items():
        targets.setdefault(target, {})["mode"] = sorted(found)
    return targets


def _case(case: Case, visits: Iterable[Measurement], on_cpu: bool) -> SideCase:
    rounds = sorted(visits, key=lambda visit: visit.round)
    worst = min(rounds, key=lambda visit: SEVERITY.index(visit.status))
    timed = [visit for visit in rounds if visit.status == "ok" and visit.samples]
    quality, reasons = judge(timed, on_cpu=on_cpu) if timed else (None, ())
    names = {visit.yardstick for visit in timed}
    return SideCase(
        id=case.id,
        benchmark=case.benchmark,
        params=dict(case.params),
        target=str(case.target),
        status=worst.status,
        reason=": ".join(part for part in (worst.reason, worst.detail) if part) or None,
        wrong=reasons if quality == "invalid" else (),
        doubts=reasons if quality == "suspect" else (),
        medians=tuple(round_medians(timed)),
        yardstick=names.pop() if len(names) == 1 else None,
        in_yardsticks=tuple(in_yardsticks(timed)),
        work=amounts(case.work),
        calibrated_as=case.id,
    )


def amounts(work: Work) -> dict[str, float]:
    """What a step does, as far as it is declared, by name."""
    declared = {name: getattr(work, name) for name in _OF_THE_WORK}
    return {name: amount for name, amount in declared.items() if amount is not None}


def another_work(base: Mapping[str, float], new: Mapping[str, float]) -> str | None:
    """What two steps do of which one does more than the other, in words."""
    for name in sorted(base.keys() & new.keys()):
        if base[name] != new[name]:
            return f"{base[name]:g} {name} a step on the base, {new[name]:g} now"
    return None


def _pytest_file(path: Path) -> Parsed:
    data = _json(read_text(path))
    if not isinstance(data, Mapping) or not data.keys() >= SCHEMA_KEYS:
        raise RunFileError(
            f"{path} is no JSON file of pytest-benchmark; a folder that is compared holds nothing else"
        )
    return parse(data, str(path))


def _of_pytest(files: Sequence[Parsed], name: str) -> Side:
    """Files of pytest-benchmark as one side: each comes from a process of its own, so it is a round."""
    first = files[0]
    for other in files[1:]:
        for what, value in first.facts.items():
            if what not in ("git commit", "uncommitted changes") and other.facts[what] != value:
                raise UsageError(
                    f"{first.origin} and {other.origin} differ in {what} ({value} and "
                    f"{other.facts[what]}); the files of one folder are the rounds of one side"
                )
    timed: dict[str, list[Timed]] = {}
    for file in files:
        for test, one in file.benchmarks.items():
            timed.setdefault(test, []).append(one)
    return Side(
        name=name,
        kind="pytest-benchmark",
        id=name,
        label=None,
        started_at=min(file.started_at for file in files),
        state="complete",
        facts=first.facts,
        target_facts={t: facts for file in reversed(files) for t, facts in file.targets.items()},
        cases={test: _of_files(test, rounds) for test, rounds in timed.items()},
    )


def _of_files(name: str, rounds: Sequence[Timed]) -> SideCase:
    """A test with the round that each file holds of it."""
    sticks = {one.yardstick for one in rounds}
    yardstick = sticks.pop() if len(sticks) == 1 else None
    return SideCase(
        id=name,
        benchmark=name.partition("[")[0],
        params={},
        target=rounds[0].target,
        status="ok",
        medians=tuple(one.median for one in rounds),
        yardstick=yardstick,
        in_yardsticks=tuple(one.median / one.yardstick_s for one in rounds if one.yardstick_s)
        if yardstick
        else (),
        work={},
        calibrated_as=rounds[0].case_id,
    )
