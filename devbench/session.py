"""From a request to a finished run: what the command line and the Python interface share."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import devbench
from devbench import environment, registry
from devbench.crossover import bisect, refuse_without_pairs
from devbench.detection import (
    Hardware,
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
from devbench.process import log_path
from devbench.redaction import HOST
from devbench.registry import Catalog, Source
from devbench.runner import Runner, utc_now, visits_left
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
    def done(self) -> dict[tuple[str, int], Measurement]:
        """What was measured before, by case and round."""
        measured = () if self.resumed is None else self.resumed.measurements
        return {(one.case_id, one.round): one for one in measured}

    @property
    def left(self) -> list[tuple[Case, int]]:
        """Each case with a round in which it is still to be visited."""
        return visits_left(self.cases, self.settings.rounds, self.done)

    @property
    def log(self) -> Path:
        return log_path(self.info.id)


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
    check_threads(request.threads)
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


def check_threads(counts: Sequence[int]) -> None:
    """Raises UsageError for more CPU threads than there are CPUs, or none."""
    most = usable_threads()
    for count in counts:
        if not 1 <= count <= most:
            raise UsageError(f"--threads {count}: between 1 and {most} CPUs are usable here")


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
    """What stands of a target before any worker has started; of several devices all different values,
    joined with a plus: with another second device it is another target. The peak is that of one device,
    and there is none where they differ."""
    devices = _devices(target, machine)
    drivers = {gpu.uuid: gpu.driver for gpu in machine.gpus}
    name = _joined(device.name for device in devices)
    return {
        "physical_device": _joined(device.physical for device in devices),
        "physical_devices": [device.physical for device in devices],
        "device_name": name,
        "driver": _joined(drivers.get(device.physical) for device in devices),
        "peak": asdict(peak) if name and (peak := find_peak(name)) else None,
    }


def _joined(values: Iterable[str | None]) -> str | None:
    return " + ".join(dict.fromkeys(value for value in values if value is not None)) or None


def _devices(target: Target, machine: Machine) -> list[Device]:
    """Those of the target, in its order."""
    known = {(device.framework, device.address): device for device in machine.devices}
    return [known[target.framework, address] for address in target.devices]


def _least_free(devices: Sequence[Device]) -> int | None:
    """Bytes that are free on each of them, as far as they tell."""
    told = [free_bytes(device) for device in devices]
    return min((one for one in told if one is not None), default=None)


def resume(reference: str, store: Store, suite_paths: Sequence[Path] = ()) -> Session:
    """Pick up a run that was interrupted, on the machine and with the settings it was begun with."""
    run = store.load(reference)
    if run.info.kind != "run":
        raise UsageError(
            f"{run.info.id} was not made by `devbench run` (its kind is {run.info.kind}), so it cannot be "
            "resumed; start its verb anew"
        )
    if run.info.state == "complete":
        raise UsageError(f"the run {run.info.id} is complete; there is nothing to resume")
    machine = _machine_of(run)  # first: to load the suites of a run is to execute what it holds
    given = {path.stem for path in suite_paths}
    known = [Source.from_json(data) for data in run.info.settings.get("sources", ())]
    catalog = registry.load_catalog(
        suite_paths, [one for one in known if one.kind != "module" and one.suite not in given]
    )
    for case in run.cases:
        if case.benchmark not in catalog.benchmarks:
            raise UsageError(
                f"the run {run.info.id} measures {case.benchmark!r} of the suite {case.suite!r}, which is "
                "no longer there; install it, or name its file with --suite-path"
            )
    return Session(
        info=replace(run.info, state="running", finished_at=None),
        catalog=catalog,
        cases=run.cases,
        machine=machine,
        settings=Settings.from_json(run.info.settings),
        resumed=run,
    )


#: What decides which GPU the address of a framework means.
_CHOOSING: Final = (
    *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"),
    *("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"),
)


def _machine_of(run: Run) -> Machine:
    """The machine that the run was begun on. Raises UsageError where that is another than this one: what
    is missing would be measured here, and stand in one row with what was measured there.

    Two machines of one kind are told apart by their names, so these count too; but not the domain, which
    a laptop takes from its network, and not between containers, which are named anew at each start.
    """
    told = run.info.environment
    try:
        machine, _, variables = (told[name] for name in ("machine", "targets", "variables"))
        then = machine_from_json(machine)
        known = {(one.framework, one.address): one.physical for one in then.devices}
        targets = _targets(run.cases)
        physical = {known[one.framework, name] for one in targets for name in one.devices}
    except (AttributeError, KeyError, TypeError):  # a run file need not say it, or not in full
        raise UsageError(
            f"the run {run.info.id} does not say on which machine and devices it was begun, so it cannot be "
            "resumed; start a new run"
        ) from None
    now = read_hardware()
    there, here = then.host, now.host
    pairs: dict[str, tuple[Json, Json]] = {
        "CPU": (there.cpu_model, here.cpu_model),
        "usable cores": (there.usable_cores, here.usable_cores),
        "usable CPUs": (there.usable_cpus, here.usable_cpus),
    }
    if there.container is None or here.container is None or there.hostname == HOST:
        pairs["host"] = (_short(there.hostname), _short(here.hostname))
    if physical != {"cpu"}:
        pairs |= {name: (variables.get(name), os.environ.get(name)) for name in _CHOOSING}
    differing = [f"{what} {new}, not {old}" for what, (old, new) in pairs.items() if old != new]
    gone = physical & (_gpu_names(then) - _gpu_names(now))
    differing += [f"no GPU {name}" for name in sorted(gone)]
    if differing:
        raise UsageError(
            f"the run {run.info.id} was begun on another machine than this one ({'; '.join(differing)}); "
            "resume it there, or start a new run here"
        )
    return then


def _short(hostname: str | None) -> str:
    return (hostname or "").partition(".")[0]


def _gpu_names(found: Machine | Hardware) -> set[str | None]:
    """What the GPUs and their slices may be called as physical devices."""
    nvidia = {gpu.uuid for gpu in found.gpus} | {gpu.pci_bus_id for gpu in found.gpus}
    slices = {mig.uuid for gpu in found.gpus for mig in gpu.mig_devices}
    amd = {gpu.uuid for gpu in found.amd_gpus} | {gpu.pci_bus_id for gpu in found.amd_gpus}
    return nvidia | slices | amd


def carry_out(
    session: Session, store: Store, tell: Callable[[Event], None] = lambda event: None
) -> Literal["complete", "interrupted"]:
    """Measure, committing as it goes. Whatever ends it early leaves the run resumable.

    Raises KeyboardInterrupt after the store was told, BudgetExhausted when nothing was measured.
    """
    info = session.info
    if session.resumed is None:
        store.create_run(info, session.cases)
    else:
        store.reopen_run(info.id)
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
        free_memory=lambda target: _least_free(_devices(target, session.machine)),
        sink=store,
        tell=tell,
        log=session.log,
        done=session.done,
    )
