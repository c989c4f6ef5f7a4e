"""``devbench ab``: is head slower than base? Pairs of fresh processes until it is known, case by case."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

import devbench
from devbench import environment, registry
from devbench.detection import Machine, machine_to_json, usable_threads
from devbench.errors import BudgetExhausted, NothingMeasured, UsageError
from devbench.model import Case, Device, Json, RunInfo
from devbench.plan import choose, expand, find_targets, make_cases, parse_overrides
from devbench.process import log_path
from devbench.registry import Catalog, Source
from devbench.regress.compare import check_margin, compare_pairs
from devbench.regress.comparison import Comparison, Row
from devbench.regress.devices import machines_of
from devbench.regress.interleave import Found, Interleaver, PairDone
from devbench.regress.looks import look, with_stillness
from devbench.regress.margins import margins_in_turn
from devbench.regress.one_sided import declared, with_one_sided
from devbench.regress.sides import amounts, another_work, side_of
from devbench.regress.variant import Variant, stage, variants
from devbench.runner import utc_now
from devbench.session import check_threads, device_facts, new_id
from devbench.stats.sequential import LOOKS
from devbench.stats.verdicts import MARGIN, Estimate, Judgement
from devbench.store import Store

#: Seconds of turns for each process and case in a pair.
SHARE_S: Final = 0.12


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is to be compared, as it was asked for. head None: the files as they are, or this Python.

    time_budget_s: wall time after which no further case is begun; what is open then stays open.
    calibrated: each case has the margin that `devbench calibrate` found for it, in place of `margin`.
    margins: those, by case.
    """

    base: str
    head: str | None = None
    select: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    frameworks: tuple[str, ...] = ()
    threads: tuple[int, ...] = ()
    params: tuple[str, ...] = ()
    suite_paths: tuple[Path, ...] = ()
    margin: float = MARGIN
    allow_inconclusive: bool = False
    label: str | None = None
    time_budget_s: float | None = None
    calibrated: bool = False
    margins: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Started:
    """The plan stands: the cases of both variants, where the workers' chatter goes, the margins of
    cases that have one of their own, and why cases of a device that only one side sees are left out."""

    base: Variant
    head: Variant
    cases: tuple[Case, ...]
    log: Path
    margins: Mapping[str, float] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Looked:
    """After so many pairs: what is decided, by case, and how many cases are still open."""

    pairs: int
    decided: Mapping[str, Judgement]
    open: int


Event = Started | PairDone | Looked


def interleave(
    request: Request, store: Store, tell: Callable[[Event], None] = lambda event: None
) -> Comparison:
    """Compare in turn. Both sides are stored as runs, round i of each being pair i.

    Raises UsageError for variants, cases or devices that are not there, NothingMeasured where nothing
    is left, BudgetExhausted where the time ended before anything was timed. Whatever ends it early
    leaves what was measured in the store and no worktree behind.
    """
    check_margin(request.margin)
    if request.time_budget_s is not None and not 0 < request.time_budget_s < math.inf:
        raise UsageError(f"--time-budget takes seconds above zero, not {request.time_budget_s:g}")
    deadline = None if request.time_budget_s is None else time.monotonic() + request.time_budget_s
    check_threads(request.threads)
    catalog = registry.load_catalog(request.suite_paths)
    chosen = choose(catalog, request.select)
    overrides = parse_overrides(request.params)
    for benchmark, pattern in chosen:
        for params in expand(benchmark, pattern, overrides, quick=True):
            benchmark.work(params)
    with (
        variants(request.base, request.head) as (base, head),
        workplace(base, head, catalog.sources.values()) as place,
    ):
        for source in catalog.sources.values():
            if not head.has(source):
                raise UsageError(f"{head.name} has no {Path(source.location).name}, the suite file")
            if head.has_another(source):
                raise UsageError(
                    f"{Path(source.location).name} of {head.name} is not the one in the work tree, by which "
                    f"the cases are planned: check {head.name} out and leave --head out"
                )
        machines = machines_of(base, head, request.frameworks, place.staged, place.log)
        targets = find_targets(
            all_devices(*machines), request.devices, request.frameworks, request.threads
        )
        meant = make_cases(chosen, targets, overrides, quick=True)
        apart = unshared((base, head), machines)
        lost = [row for case in meant if (row := without_device(case, apart)) is not None]
        unseen = {row.case_id for row in lost}
        cases = [case for case in meant if case.id not in unseen]
        reasons = tuple(dict.fromkeys(str(row.reason) for row in lost))
        if not cases:
            raise NothingMeasured(f"no case has a device that both sides see: {'; '.join(reasons)}")
        if request.calibrated:
            margins = margins_in_turn(store, facts_here(machines[1], cases), cases)
            request = replace(request, margins=margins, margin=max(margins.values()))
        there = declared(
            base,
            catalog.sources.values(),
            request.select,
            overrides,
            targets,
            place.staged,
            place.log,
        )
        of_base = cases if there is None else there.of_base(cases)
        found = decide(
            request,
            store,
            place,
            machines,
            catalog,
            cases,
            tell,
            deadline,
            of_base=of_base,
            left_out=reasons,
        )
        if there is not None:
            found = with_one_sided(found, there, meant)
        return replace(found, rows=(*found.rows, *lost))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a comparison happens: its variants, the engine that is staged for both, and a folder."""

    base: Variant
    head: Variant
    staged: Path
    scratch: Path
    log: Path


@contextmanager
def workplace(base: Variant, head: Variant, sources: Iterable[Source]) -> Iterator[Place]:
    """The engine staged, a folder that is gone afterwards, and a log that stays."""
    with tempfile.TemporaryDirectory(prefix="devbench-ab-") as folder:
        staged, scratch = Path(folder) / "engine", Path(folder) / "scratch"
        staged.mkdir()
        scratch.mkdir()
        stage(staged, sources, (base, head))
        yield Place(base, head, staged, scratch, log_path(new_id()))


def decide(
    request: Request,
    store: Store,
    place: Place,
    machines: tuple[Machine, Machine],
    catalog: Catalog,
    cases: Sequence[Case],
    tell: Callable[[Event], None],
    deadline: float | None = None,
    make: Callable[..., Interleaver] = Interleaver,
    of_base: Sequence[Case] | None = None,
    left_out: tuple[str, ...] = (),
) -> Comparison:
    """Time the cases in turn until each is decided, and say what is to be said.

    make: the `Interleaver`, or what stands in for it where the cases are no benchmarks. deadline: of
    the monotonic clock. of_base: the cases as the base declares them, where that may be otherwise.
    left_out: what cannot be compared, for whoever waits.
    """
    base, head = place.base, place.head
    runs = _runs(request, (base, head), machines, catalog, cases)
    work = make(
        base=base,
        head=head,
        stage=place.staged,
        catalog=catalog,
        threads=usable_threads(),
        seed=0,
        share_s=SHARE_S,
        timeout_s=300.0,
        runs={role: info.id for role, info in runs.items()},
        sink=store,
        tell=tell,
        scratch=place.scratch,
        log=place.log,
    )
    store.create_run(runs["base"], of_base or cases)
    store.create_run(runs["head"], cases)
    state: Literal["complete", "interrupted"] = "interrupted"
    try:
        tell(Started(base, head, tuple(cases), place.log, request.margins, left_out))
        judged = _until_decided(work, cases, of_base or cases, request, deadline, tell)
        state = "complete"
    finally:
        for role, info in runs.items():
            facts = with_targets(info.environment, work.ready[role])
            store.update_environment(info.id, facts | {"ab": _pairs_to_json(work.found)})
            store.finish_run(info.id, state, utc_now())
    if not work.found:
        raise BudgetExhausted(
            "the time budget ran out before any case was timed on both sides; give a larger --time-budget, "
            "or select fewer cases"
        )
    sides = [side_of(store.load(runs[role].id)) for role in ("base", "head")]
    comparison = compare_pairs(
        replace(sides[0], name=base.name),
        replace(sides[1], name=head.name),
        judged,
        margin=request.margin,
        allow_inconclusive=request.allow_inconclusive,
    )
    return with_stillness(comparison, work.found, _same_frameworks(work))


def facts_here(machine: Machine, cases: Sequence[Case]) -> dict[str, Json]:
    """What an environment says of the machine and of the targets of these cases."""
    targets = dict.fromkeys(case.target for case in cases)
    return {
        "machine": machine_to_json(machine),
        "targets": {str(target): device_facts(target, machine) for target in targets},
    }


def all_devices(base: Machine, head: Machine) -> list[Device]:
    """What either variant sees, an address once. Raises NothingMeasured where that is nothing."""
    found = {device.id: device for device in (*base.devices, *head.devices)}
    if not found:
        answers = (("base", base), ("head", head))
        reasons = [f"{side}: {one.reason}" for side, seen in answers for one in seen.frameworks]
        raise NothingMeasured(f"neither side sees a device. {'; '.join(reasons)}".strip())
    return list(found.values())


def unshared(sides: tuple[Variant, Variant], machines: tuple[Machine, Machine]) -> dict[str, str]:
    """By id, the devices that the two do not both see as the same piece of hardware, each with why."""
    seen = [{device.id: device.physical for device in machine.devices} for machine in machines]
    told = {}
    for device in all_devices(*machines):
        lacks = [place for place in (0, 1) if device.id not in seen[place]]
        if lacks:
            failed = (
                f": {one.reason}"
                for one in machines[lacks[0]].frameworks
                if one.name == device.framework and one.view is None
            )
            told[device.id] = f"{sides[lacks[0]].name} does not see {device.id}{next(failed, '')}"
        elif seen[0][device.id] != seen[1][device.id]:
            told[device.id] = f"{device.id} is another device on {sides[0].name}"
    return told


def without_device(case: Case, apart: Mapping[str, str]) -> Row | None:
    """The row of a case that needs one of the devices of `unshared`: it has nothing to be compared with."""
    ids = (f"{case.target.framework}:{address}" for address in case.target.devices)
    why = next((apart[one] for one in ids if one in apart), None)
    return None if why is None else Row.unmeasured(case, why)


def _runs(
    request: Request,
    sides: tuple[Variant, Variant],
    machines: tuple[Machine, Machine],
    catalog: Catalog,
    cases: Sequence[Case],
) -> dict[str, RunInfo]:
    """A run a side, each knowing the other."""
    ids = {"base": f"{new_id()}-base", "head": f"{new_id()}-head"}
    targets = dict.fromkeys(case.target for case in cases)
    used = {case.suite for case in cases}
    infos = {}
    for role, side, machine in zip(ids, sides, machines, strict=True):
        facts = environment.gather(machine_to_json(machine))
        facts["python"] = side.version
        facts["targets"] = {str(target): device_facts(target, machine) for target in targets}
        if side.commit is not None:
            facts["git"] = {"commit": side.commit, "dirty": False}
        infos[role] = RunInfo(
            id=ids[role],
            label=f"{request.label}-{role}" if request.label else None,
            started_at=utc_now(),
            finished_at=None,
            state="running",
            devbench_version=devbench.__version__,
            settings={
                "rounds": LOOKS[-1],
                "quick": True,
                "seed": 0,
                "share_s": SHARE_S,
                "margin": request.margin,
                "ab": {"side": role, "named": side.name, "runs": ids},
                "sources": [
                    side.source(source).to_json()
                    for name, source in catalog.sources.items()
                    if name in used
                ],
                "benchmarks": {
                    case.benchmark: {"size": catalog.benchmarks[case.benchmark].size}
                    for case in cases
                },
            },
            environment=facts,
        )
    return infos


def with_targets(facts: Mapping[str, Json], ready: Mapping[str, Json]) -> dict[str, Json]:
    """The environment with what the workers of that side said of themselves."""
    targets = {
        name: {
            **known,
            **(
                {
                    "framework_version": ready[name]["version"],
                    **{
                        key: ready[name][key]
                        for key in (
                            "file",
                            "build",
                            "settings",
                            "threads",
                            "threads_used",
                            "import_s",
                        )
                    },
                }
                if name in ready
                else {}
            ),
        }
        for name, known in facts["targets"].items()
    }
    return {**facts, "targets": targets}


def _until_decided(
    work: Interleaver,
    cases: Sequence[Case],
    of_base: Sequence[Case],
    request: Request,
    deadline: float | None,
    tell: Callable[[Event], None],
) -> dict[str, tuple[Estimate, Judgement]]:
    """Pairs, with a look after some of them, until every case is decided or the last look is over. A case
    that does more on one side than on the other cannot be: it is timed once, for whoever wants to know."""

    def in_time() -> bool:
        return deadline is None or time.monotonic() < deadline

    judged: dict[str, tuple[Estimate, Judgement]] = {}
    open_ = list(cases)
    uneven = {
        new.id
        for base, new in zip(of_base, cases, strict=True)
        if another_work(amounts(base.work), amounts(new.work))
    }
    for pair in range(LOOKS[-1]):
        work.pair(pair, open_, in_time)
        open_ = [
            case for case in open_ if case.id not in uneven and not _has_trouble(work.found, case)
        ]
        # When the time is over within a pair, what the pairs before it say is the last look.
        pairs = pair + in_time()
        if pairs >= 2 and (pairs in LOOKS or not in_time()):
            judged |= look(work.found, open_, judged, request.margin, pairs, request.margins)
            decided = {
                case.id: judged[case.id][1]
                for case in open_
                if case.id in judged and judged[case.id][1].verdict != "inconclusive"
            }
            open_ = [case for case in open_ if case.id not in decided]
            tell(Looked(pairs, decided, len(open_)))
        if not open_ or not in_time():
            break
    return judged


def _has_trouble(found: Mapping[str, Found], case: Case) -> bool:
    return case.id in found and found[case.id].trouble is not None


def _pairs_to_json(found: Mapping[str, Found]) -> Json:
    """Log ratios by case, as they were decided from."""
    return {
        case_id: asdict(one) | {"restless": sorted(one.restless)} for case_id, one in found.items()
    }


def _same_frameworks(work: Interleaver) -> set[str]:
    """Targets whose framework is the same on both sides, and so its fixed step."""
    base, head = work.ready["base"], work.ready["head"]
    return {
        target
        for target in base.keys() & head.keys()
        if base[target]["version"] == head[target]["version"]
    }
