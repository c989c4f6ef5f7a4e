"""From a request to a finished run: what the command line and the Python interface share."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import platformdirs

import devbench
from devbench import environment, registry
from devbench.crossover import bisect, refuse_without_pairs
from devbench.detection import (
    Machine,
    join,
    machine_from_json,
    machine_to_json,
    read_hardware,
    start_asking,
    usable_threads,
)
from devbench.detection.peaks import find_peak
from devbench.errors import NothingMeasured, UsageError, unknown
from devbench.events import Event
from devbench.frameworks.base import Framework
from devbench.memory import free_bytes
from devbench.model import Case, Device, Json, Measurement, Run, RunInfo, Target
from devbench.plan import choose, expand, find_targets, make_cases, parse_overrides
from devbench.registry import Catalog, Source
from devbench.runner import Runner, utc_now
from devbench.settings import Settings
from devbench.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What somebody wants measured, as they said it."""

    select: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    frameworks: tuple[str, ...] = ()
    threads: tuple[int, ...] = ()
    params: tuple[str, ...] = ()
    suite_paths: tuple[Path, ...] = ()
    extra_suites: tuple[Source, ...] = ()
    label: str | None = None
    settings: Settings = field(default_factory=Settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A run that is planned, or half done, and can be carried out."""

    info: RunInfo
    catalog: Catalog
    cases: tuple[Case, ...]
    machine: Machine
    settings: Settings
    resumed: Run | None = None

    @property
    def left(self) -> tuple[Case, ...]:
        """The cases that still lack a round."""
        done = Counter(one.case_id for one in (self.resumed.measurements if self.resumed else ()))
        return tuple(case for case in self.cases if done[case.id] < self.settings.rounds)

    @property
    def log(self) -> Path:
        """Where the workers' chatter goes."""
        return platformdirs.user_log_path("devbench", ensure_exists=True) / f"{self.info.id}.log"


def prepare(request: Request) -> Session:
    """Check the request, look at the machine, and plan.

    What can be wrong is checked before the frameworks are asked, which takes seconds. Raises
    UsageError naming the culprit; NothingMeasured when no framework or no case is left.
    """
    catalog = registry.load_catalog(request.suite_paths, request.extra_suites)
    chosen = choose(catalog, request.select)
    overrides = parse_overrides(request.params)
    quick = request.settings.quick
    for benchmark, pattern in chosen:
        for params in expand(benchmark, pattern, overrides, quick):
            benchmark.work(params)
    adapters = adapters_of(request.frameworks)
    most = usable_threads()
    for count in request.threads:
        if not 1 <= count <= most:
            raise UsageError(f"--threads {count}: between 1 and {most} CPUs are usable here")
    machine = look(adapters)
    devices = [device for device in machine.devices if device.framework in adapters]
    if not devices:
        reasons = "; ".join(f"{one.name}: {one.reason}" for one in machine.frameworks)
        raise NothingMeasured(f"no framework can be used. {reasons}")
    targets = find_targets(devices, request.devices, tuple(adapters), request.threads)
    cases = make_cases(chosen, targets, overrides, quick)
    if request.settings.crossover:
        refuse_without_pairs(cases, catalog)
    facts = environment.gather(machine_to_json(machine))
    facts["targets"] = {str(target): device_facts(target, machine) for target in _targets(cases)}
    used = {case.suite for case in cases}
    info = RunInfo(
        id=new_id(),
        label=request.label,
        started_at=utc_now(),
        finished_at=None,
        state="running",
        devbench_version=devbench.__version__,
        settings={
            **request.settings.to_json(),
            "sources": [
                source.to_json() for name, source in catalog.sources.items() if name in used
            ],
            "benchmarks": {case.benchmark: {"size": _size(case, catalog)} for case in cases},
        },
        environment=facts,
    )
    return Session(
        info=info, catalog=catalog, cases=cases, machine=machine, settings=request.settings
    )


def new_id() -> str:
    """A run's id: when it began, and four digits against a second one in the same second."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def look(adapters: Mapping[str, Framework]) -> Machine:
    """The machine with what the given frameworks see of it; takes as long as the slowest import."""
    with start_asking(adapters) as asking:  # first the children: they are the slow part
        return join(read_hardware(), asking)


def adapters_of(wanted: Sequence[str]) -> dict[str, Framework]:
    """The installed frameworks among those wanted (all of them when none is named)."""
    known = registry.frameworks()
    for name in wanted:
        if name not in known:
            raise UsageError(unknown("framework", name, known))
    chosen = {name: known[name] for name in wanted or known}
    installed = {name: one for name, one in chosen.items() if registry.is_installed(one)}
    absent = [one.extra for name, one in chosen.items() if name not in installed]
    if absent and (wanted or not installed):
        extras = " or ".join(f"pip install 'devbench[{extra}]'" for extra in absent)
        names = ", ".join(name for name in chosen if name not in installed)
        raise NothingMeasured(
            f"{names}: not installed for this Python, so nothing can run; {extras}"
        )
    return installed


def _size(case: Case, catalog: Catalog) -> str | None:
    return catalog.benchmarks[case.benchmark].size


def _targets(cases: Sequence[Case]) -> list[Target]:
    return list(dict.fromkeys(case.target for case in cases))


def device_facts(target: Target, machine: Machine) -> dict[str, Json]:
    """What stands of a target before any worker has started."""
    device = _device(target, machine)
    gpu = next((gpu for gpu in machine.gpus if gpu.uuid == device.physical), None)
    return {
        "physical_device": device.physical,
        "device_name": device.name,
        "driver": gpu.driver if gpu else None,
        "peak": asdict(peak) if (peak := find_peak(device.name)) else None,
    }


def _device(target: Target, machine: Machine) -> Device:
    return next(
        device
        for device in machine.devices
        if device.framework == target.framework and device.address == target.devices[0]
    )


def resume(reference: str, store: Store, suite_paths: Sequence[Path] = ()) -> Session:
    """Pick up a run that was interrupted, with the settings it was begun with."""
    run = store.load(reference)
    if run.info.kind != "run":
        raise UsageError(
            f"{run.info.id} was not made by `devbench run` (its kind is {run.info.kind}), so it cannot be "
            "resumed; start its verb anew"
        )
    if run.info.state == "complete":
        raise UsageError(f"the run {run.info.id} is complete; there is nothing to resume")
    known = [Source.from_json(data) for data in run.info.settings.get("sources", ())]
    catalog = registry.load_catalog(suite_paths, [one for one in known if one.kind != "module"])
    for case in run.cases:
        if case.benchmark not in catalog.benchmarks:
            raise UsageError(
                f"the run {run.info.id} measures {case.benchmark!r} of the suite {case.suite!r}, which is "
                "no longer there; install it, or name its file with --suite-path"
            )
    return Session(
        info=replace(run.info, state="running"),
        catalog=catalog,
        cases=run.cases,
        machine=machine_from_json(run.info.environment["machine"]),
        settings=Settings.from_json(run.info.settings),
        resumed=run,
    )


def carry_out(
    session: Session, store: Store, tell: Callable[[Event], None] = lambda event: None
) -> Literal["complete", "interrupted"]:
    """Measure, committing as it goes. Whatever ends it early leaves the run resumable.

    Raises KeyboardInterrupt after the store was told, BudgetExhausted when nothing was measured.
    """
    info = session.info
    if session.resumed is None:
        store.create_run(info, session.cases)
    runner = runner_of(session, store, tell)
    state: Literal["complete", "interrupted"] = "interrupted"
    try:
        if runner.run() and (not session.settings.crossover or bisect(runner, info)):
            state = "complete"
    finally:
        store.finish_run(info.id, state, utc_now())
    return state


def runner_of(session: Session, store: Store, tell: Callable[[Event], None]) -> Runner:
    """What measures the session into a run that the store has."""
    return Runner(
        run_id=session.info.id,
        cases=session.cases,
        catalog=session.catalog,
        settings=session.settings,
        environment=dict(session.info.environment),
        threads=usable_threads(),
        free_memory=lambda target: free_bytes(_device(target, session.machine)),
        sink=store,
        tell=tell,
        log=session.log,
        done=_done(session.resumed),
    )


def _done(resumed: Run | None) -> dict[tuple[str, int], Measurement]:
    measured = () if resumed is None else resumed.measurements
    return {(one.case_id, one.round): one for one in measured}
