"""From what was asked for to a stored run of kind ``stress``: device after device, every outcome
committed as it arrives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final, Literal, TypeAlias

import devbench
from devbench import environment, registry
from devbench.detection import Machine, machine_to_json, usable_threads
from devbench.errors import NothingMeasured
from devbench.measure.ceilings import Ceilings
from devbench.memory import free_bytes
from devbench.model import Device, Json, Measurement, RunInfo, Target
from devbench.plan import find_targets
from devbench.process import log_path
from devbench.runner import utc_now
from devbench.session import adapters_of as installed
from devbench.session import device_facts, look, new_id
from devbench.store import Store
from devbench.stress import examine, rates
from devbench.stress.effort import Effort
from devbench.stress.examine import Doing, Examination, Loaded, Ready
from devbench.stress.records import (
    SUITE,
    Check,
    Outcome,
    Series,
    Verdict,
    load_case,
    verdict_of,
)

#: Of a device's free memory. A host's is everybody's: less of it, and never more than so many bytes.
DEVICE_SHARE: Final = 0.8
HOST_SHARE: Final = 0.25
HOST_MOST: Final = 4 << 30

#: Bytes per second of one lane of PCIe by generation, after its encoding (8b/10b, from 3 on 128b/130b;
#: 6 sends in flits of 256 bytes of which 236 are data). https://pcisig.com/specifications
LANE: Final = {1: 0.25e9, 2: 0.5e9, 3: 0.985e9, 4: 1.969e9, 5: 3.938e9, 6: 7.563e9}


@dataclass(frozen=True, slots=True)
class Started:
    """A device is looked at next."""

    target: Target


Event: TypeAlias = Started | examine.Event


@dataclass(frozen=True, slots=True)
class Report:
    """What came out. series: of the devices that were under load."""

    info: RunInfo
    effort: Effort
    state: Literal["complete", "interrupted"]
    checks: tuple[Check, ...]
    series: tuple[Series, ...]

    @property
    def verdict(self) -> Verdict:
        return verdict_of(self.checks)

    def to_json(self) -> Json:
        return {
            "schema": "devbench.stress/1",
            "run": {
                "id": self.info.id,
                "label": self.info.label,
                "started_at": self.info.started_at,
                "state": self.state,
                "devbench_version": self.info.devbench_version,
            },
            "tier": self.effort.tier,
            "verdict": self.verdict,
            "checks": [check.to_json() for check in self.checks],
            "series": [
                {
                    "where": one.where,
                    "n": one.n,
                    "dtype": one.dtype,
                    "windows": [window.to_json() for window in one.windows],
                }
                for one in self.series
            ],
        }


@dataclass(slots=True, kw_only=True)
class Session:
    """A stress test that is planned. `run` carries it out."""

    info: RunInfo
    effort: Effort
    targets: tuple[Target, ...]
    machine: Machine
    store: Store
    _checks: list[Check] = field(default_factory=list)
    _series: dict[Target, Series] = field(default_factory=dict)
    _facts: dict[str, Json] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        return log_path(self.info.id)

    def __post_init__(self) -> None:
        self._facts = dict(self.info.environment)

    def run(self, tell: Callable[[Event], None] = lambda event: None) -> Report:
        """Ctrl-C keeps what was found; the report then says ``interrupted``."""
        self.store.create_run(self.info, ())
        state: Literal["complete", "interrupted"] = "interrupted"
        now: Examination | None = None
        try:
            for target in self.targets:
                tell(Started(target))
                now = self._examination(target)
                with closing(now.run()) as events:
                    for event in events:
                        self._keep(target, event)
                        tell(event)
                now = None
            for target, check in self._among_equals():
                self._keep(target, check)
                tell(check)
            state = "complete"
        except KeyboardInterrupt:
            if now is not None and now.windows:
                for check in now.judged():
                    self._keep(now.target, check)
                    tell(check)
        finally:
            self.store.finish_run(self.info.id, state, utc_now())
        return Report(
            self.info, self.effort, state, tuple(self._checks), tuple(self._series.values())
        )

    def _examination(self, target: Target) -> Examination:
        device = self._device(target)
        gpu = next((gpu for gpu in self.machine.gpus if gpu.uuid == device.physical), None)
        return Examination(
            adapter=registry.frameworks()[target.framework],
            target=target,
            threads=usable_threads(),
            effort=self.effort,
            log=self.log,
            is_cpu=device.is_cpu,
            gpus=() if gpu is None or gpu.uuid is None else (gpu.uuid,),
            memory_bytes=memory_goal(free_bytes(device), is_cpu=device.is_cpu),
            roofs=self.roofs(target),
        )

    def _device(self, target: Target) -> Device:
        return next(
            device
            for device in self.machine.devices
            if (device.framework, device.address) == (target.framework, target.devices[0])
        )

    def roofs(self, target: Target) -> dict[str, tuple[float, str]]:
        """What a bandwidth is held against: what this device did in earlier runs; failing that its
        datasheet and its link."""
        facts = self._facts["targets"][str(target)]
        found: dict[str, tuple[float, str]] = {}
        if facts["peak"] and facts["peak"]["bytes_per_s"]:
            peak = float(facts["peak"]["bytes_per_s"])
            found = dict.fromkeys(("copy", "triad"), (peak, "the datasheet's bandwidth"))
        gpu = next((gpu for gpu in self.machine.gpus if gpu.uuid == facts["physical_device"]), None)
        # An idle link clocks down; its greatest width and generation are those under load.
        if gpu is not None and gpu.pcie_width_max and gpu.pcie_generation_max in LANE:
            link = gpu.pcie_width_max * LANE[gpu.pcie_generation_max]
            says = f"PCIe {gpu.pcie_generation_max} ×{gpu.pcie_width_max}"
            found |= dict.fromkeys(("h2d_pinned", "d2h_pinned"), (link, says))
        for name, rate in self._earlier(facts["physical_device"], target).items():
            found[name] = (rate, "the best of earlier runs")
        return found

    def _earlier(self, physical: str, target: Target) -> dict[str, float]:
        """The best bandwidths of this framework on this device in the store's runs on this host."""
        best: dict[str, float] = {}
        for summary in self.store.runs():
            told = summary.info.environment
            host = told.get("machine", {}).get("host", {})
            facts = told.get("targets", {}).get(str(target), {})
            same = (
                host.get("hostname") == self.machine.host.hostname
                and host.get("cpu_model") == self.machine.host.cpu_model
                and facts.get("physical_device") == physical
            )
            if not same or not facts.get("ceilings"):
                continue
            ceilings = Ceilings.from_json(facts["ceilings"])
            rates_ = {"copy": ceilings.copy, "triad": ceilings.triad, **ceilings.transfers}
            for name, rate in rates_.items():
                if rate:
                    best[name] = max(rate, best.get(name, 0.0))
        return best

    def _keep(self, target: Target, event: examine.Event) -> None:
        run_id = self.info.id
        match event:
            case Check():
                self._checks.append(event)
                self.store.add_cases(run_id, [event.case(target)])
                self.store.add_measurement(run_id, event.measurement(target, utc_now()))
            case Ready():
                self._learn(target, {"framework_version": event.facts["version"], **event.facts})
            case Ceilings():
                self._learn(target, {"ceilings": event.to_json()})
            case Loaded():
                case_ = load_case(target, event.n, event.dtype)
                if target not in self._series:
                    self.store.add_cases(run_id, [case_])
                    self._series[target] = Series(str(target), event.n, event.dtype, ())
                known = self._series[target]
                index = len(known.windows)
                self._series[target] = replace(known, windows=(*known.windows, event.window))
                self.store.add_measurement(run_id, self._window(case_.id, event, index))
            case Doing():
                pass

    def _window(self, case_id: str, event: Loaded, index: int) -> Measurement:
        return event.window.measurement(case_id, index, utc_now(), usable_threads())

    def _learn(self, target: Target, facts: Mapping[str, Json]) -> None:
        self._facts["targets"][str(target)] |= facts
        self.store.update_environment(self.info.id, self._facts)

    def _among_equals(self) -> Sequence[tuple[Target, Check]]:
        """Devices of one name against their median, where there are enough to have one."""
        groups: dict[tuple[str, str], dict[Target, float]] = {}
        for target, series in self._series.items():
            device = self._device(target)
            if device.is_cpu or not series.windows:
                continue
            last = series.windows[-max(1, len(series.windows) // 3) :]
            rate = sum(window.flop_per_s for window in last) / len(last)
            groups.setdefault((target.framework, device.name), {})[target] = rate
        return [
            (target, _check(target, rates.among_equals(rate, list(group.values()))))
            for group in groups.values()
            if len(group) >= rates.EQUALS
            for target, rate in group.items()
        ]


def _check(target: Target, found: Outcome) -> Check:
    return Check(
        where=str(target),
        tier=3,
        name="among_equals",
        verdict=found.verdict,
        says=found.says,
        figures=found.figures,
    )


def memory_goal(free: int | None, *, is_cpu: bool) -> int | None:
    """Bytes of a device's memory to be tested; None where it is not known how much is free."""
    if free is None:
        return None
    return min(int(HOST_SHARE * free), HOST_MOST) if is_cpu else int(DEVICE_SHARE * free)


def prepare(
    store: Store,
    effort: Effort,
    devices: Sequence[str] = (),
    frameworks: Sequence[str] = (),
    label: str | None = None,
) -> Session:
    """Check the request and look at the machine.

    Raises UsageError naming the culprit, NothingMeasured when no framework can be used.
    """
    adapters = installed(frameworks)
    machine = look(adapters)
    seen = [device for device in machine.devices if device.framework in adapters]
    if not seen:
        reasons = "; ".join(f"{one.name}: {one.reason}" for one in machine.frameworks)
        raise NothingMeasured(f"no framework can be used. {reasons}")
    targets = find_targets(seen, devices, tuple(adapters), ())
    facts = environment.gather(machine_to_json(machine))
    facts["targets"] = {
        str(target): {**device_facts(target, machine), "threads": usable_threads()}
        for target in targets
    }
    info = RunInfo(
        id=new_id(),
        label=label,
        started_at=utc_now(),
        finished_at=None,
        state="running",
        devbench_version=devbench.__version__,
        settings={"kind": SUITE, **asdict(effort)},
        environment=facts,
    )
    return Session(info=info, effort=effort, targets=tuple(targets), machine=machine, store=store)
