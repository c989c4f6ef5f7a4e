"""Carries out a plan: rounds of fresh workers, one timing at a time, every measurement committed.

What happens is told as events, which the terminal shows as progress and a notebook may ignore.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from devbench.detection import machine_from_json
from devbench.detection.peaks import find_core
from devbench.errors import BudgetExhausted, UsageError
from devbench.events import Doing, Done, Event, Probing, Starting
from devbench.measure.sampling import Limits
from devbench.model import Case, Json, Measurement, Target
from devbench.plan import order
from devbench.process import WorkerGone, WorkerProcess, WorkerTimeout
from devbench.protocol import Message
from devbench.prune import reason_to_skip
from devbench.references import References
from devbench.registry import Catalog, frameworks
from devbench.settings import Settings
from devbench.telemetry import GpuSummary, HostSummary, Sampler, Summary

START_TIMEOUT_S = 300.0


class Sink(Protocol):
    """The part of the store that a run writes to."""

    def add_cases(self, run_id: str, added: Sequence[Case]) -> None: ...

    def add_measurement(self, run_id: str, measurement: Measurement) -> None: ...

    def update_environment(self, run_id: str, environment: Mapping[str, Json]) -> None: ...


def is_due(case: Case, round_: int, done: Mapping[tuple[str, int], Measurement]) -> bool:
    """Whether that visit is still to be made: later rounds repeat only what the first could measure."""
    first = done.get((case.id, 0))
    return (case.id, round_) not in done and (first is None or first.status == "ok")


def visits_left(
    cases: Sequence[Case], rounds: int, done: Mapping[tuple[str, int], Measurement]
) -> list[tuple[Case, int]]:
    """Each case with a round in which it is still to be visited."""
    return [
        (case, round_) for case in cases for round_ in range(rounds) if is_due(case, round_, done)
    ]


class WorkerFailed(Exception):
    """The framework did not start in a worker; the reason becomes the row of each of its cases."""


@dataclass(slots=True)
class Runner:
    """One run in progress. shortens: visits are shorter where the time budget is short; else cases are left
    out at its end. free_memory: bytes that are free on each device of a target, where it is told."""

    run_id: str
    cases: Sequence[Case]
    catalog: Catalog
    settings: Settings
    environment: dict[str, Json]
    threads: int
    free_memory: Callable[[Target], int | None]
    sink: Sink
    tell: Callable[[Event], None]
    log: Path
    done: dict[tuple[str, int], Measurement] = field(default_factory=dict)
    shortens: bool = True
    _deadline: float | None = None
    _free_bytes: int | None = None
    _scratch: Path = Path()
    _references: References = field(init=False)

    def run(self) -> bool:
        """Measure what is not yet in `done`. True when the plan is complete, False when time ran out.

        Raises BudgetExhausted when the time budget ends before anything was measured at all.
        """
        with self.ready():
            complete = all(self.take_round(round_) for round_ in range(self.settings.rounds))
        if not complete and not self.done:
            raise BudgetExhausted(
                f"the time budget of {self.settings.time_budget_s:g} s ended before any case was measured; "
                "give a larger --time-budget, or select fewer cases"
            )
        return complete

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Meanwhile rounds can be taken: the time budget runs, and inputs and references have a folder."""
        if self._deadline is None and self.settings.time_budget_s is not None:
            self._deadline = time.monotonic() + self.settings.time_budget_s
        with tempfile.TemporaryDirectory(prefix="devbench-") as scratch:
            self._scratch = Path(scratch)
            self._references = References(
                self.catalog,
                self.settings.seed,
                self._scratch,
                self.log,
                self.settings.case_timeout_s,
            )
            try:
                yield
            finally:
                # After an interrupt: the process has a session of its own, which Ctrl-C does not reach.
                self._references.abandon()

    def take_round(self, round_: int) -> bool:
        """Measure what of this round is not yet in `done`. False when the time budget is used up."""
        return all(self._visit_target(target, round_) for target in self._targets())

    def extend(self, cases: Sequence[Case]) -> None:
        """Add cases to the plan; `run` then measures them, within what is left of the time budget."""
        self.sink.add_cases(self.run_id, cases)
        self.cases = [*self.cases, *cases]

    def _targets(self) -> list[Target]:
        return list(dict.fromkeys(case.target for case in self.cases))

    def _visit_target(self, target: Target, round_: int) -> bool:
        """One worker, all cases of its target in this round. False when the time budget is used up."""
        sizes = {name: benchmark.size for name, benchmark in self.catalog.benchmarks.items()}
        waiting = [
            case
            for case in order(self._own(target), sizes, round_, self.settings.seed)
            if is_due(case, round_, self.done)
        ]
        while waiting:
            if self._time_is_up():
                return False
            # While a worker lives, what it keeps for its next case would be missed: TensorFlow's pool on a
            # GPU gives nothing back.
            self._free_bytes = self.free_memory(target)
            try:
                with self._worker(target, round_) as worker:
                    # References are computed while the framework is imported, neither being timed.
                    if round_ == 0:
                        # Not of a case that cannot fit: its reference holds twice as much.
                        self._references.prepare(
                            [case for case in waiting if self._reason_to_skip(case) is None],
                            self._left_s() / 10,
                        )
                    self._await_ready(worker, target)
                    with self._serving(target), self._sampler(worker, target) as sampler:
                        self._record_no_peak(target, sampler.no_cpu_clock)
                        if not self._measure_ceilings(worker, target):
                            continue  # the worker is gone; a fresh one goes on
                        while waiting:
                            if self._time_is_up():
                                return False
                            if not self._visit(worker, sampler, waiting.pop(0), round_):
                                break  # the worker is gone; a fresh one goes on
            except WorkerFailed as error:
                for case in waiting:
                    self._commit(
                        case, round_, status="failed", reason="start-failed", detail=str(error)
                    )
                return True
        return True

    def _time_is_up(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _left_s(self) -> float:
        """Of the time budget; infinite without one."""
        if self._deadline is None:
            return math.inf
        return max(0.0, self._deadline - time.monotonic())

    # ---- one case

    def _visit(self, worker: WorkerProcess, sampler: Sampler, case: Case, round_: int) -> bool:
        """Measure one case and commit the outcome. False when the worker did not survive it."""
        reference = None
        if round_ == 0:
            if skipped := self._reason_to_skip(case):
                self._commit(case, round_, status="skipped", reason=skipped[0], detail=skipped[1])
                return True
            reference = self._references.get(case)
            self._references.rest()
            if isinstance(reference, str):
                self._commit(case, round_, **self._references.failure(case, reference))
                return True
        started_at, alive = utc_now(), True
        worker.send(
            "measure",
            source=self.catalog.sources[case.suite].to_json(),
            benchmark=case.benchmark,
            params=dict(case.params),
            seed=self.settings.seed,
            limits=asdict(self._limits()),
            scratch=str(self._scratch),
            kept=str(self._scratch),
            check=str(reference or self._scratch) if round_ == 0 else None,
        )
        try:
            facts = self._await_measured(worker, sampler, case, round_)
        except WorkerTimeout:
            worker.kill()
            alive = False
            detail = f"no answer within {self.settings.case_timeout_s:g} s; the worker was ended"
            facts = {"status": "timeout", "reason": "case-timeout", "detail": detail}
        except WorkerGone as gone:
            alive = False
            facts = {
                "status": "oom" if gone.reason == "out-of-memory" else "crashed",
                "reason": gone.reason,
                "detail": f"{gone.detail}; log: {self.log}",
            }
        self._commit(case, round_, started_at, **facts)
        return alive

    def _await_measured(
        self, worker: WorkerProcess, sampler: Sampler, case: Case, round_: int
    ) -> dict[str, Any]:
        telemetry: Summary | None = None
        timing = False
        while True:
            message = worker.receive(self.settings.case_timeout_s)
            if timing:
                telemetry, timing = sampler.end_window(), False
            if message["type"] == "doing":
                if message["phase"] == "timing":
                    sampler.start_window()
                    timing = True
                self.tell(Doing(case, round_, message["phase"]))
            elif message["type"] == "measured":
                facts: dict[str, Any] = message["facts"]
                facts["samples"] = tuple(facts.get("samples", ()))
                facts["threads_used"] = self._target_facts(case.target).get("threads_used")
                if telemetry is not None:
                    self._record_unread(case.target, telemetry)
                    facts["telemetry"] = _without_nulls(telemetry.to_json())
                return facts

    def _commit(self, case: Case, round_: int, started_at: str | None = None, **facts: Any) -> None:
        measurement = Measurement(
            case_id=case.id, round=round_, started_at=started_at or utc_now(), **facts
        )
        self.sink.add_measurement(self.run_id, measurement)
        self.done[case.id, round_] = measurement
        total = len(self.done) + len(self._visits_left())
        self.tell(Done(case, measurement, len(self.done), total))

    def _visits_left(self) -> list[tuple[Case, int]]:
        return visits_left(self.cases, self.settings.rounds, self.done)

    def _limits(self) -> Limits:
        """The share of time of one visit: as settled, or less when the time budget is short."""
        settings = self.settings
        if self._deadline is None or not self.shortens:
            return settings.limits()
        fair = (self._deadline - time.monotonic()) / max(1, len(self._visits_left()))
        # Build, first call and check take about as long as a third of warm-up and timing.
        return settings.limits(
            min(1.0, max(0.1, 0.75 * fair / (settings.warmup_s + settings.share_s)))
        )

    def _reason_to_skip(self, case: Case) -> tuple[str, str] | None:
        return reason_to_skip(
            case,
            self.catalog.benchmarks[case.benchmark].size,
            self.cases,
            {
                case_id: measurement
                for (case_id, round_), measurement in self.done.items()
                if round_ == 0
            },
            self._free_bytes,
            self.settings,
        )

    # ---- workers

    @contextmanager
    def _worker(self, target: Target, round_: int) -> Iterator[WorkerProcess]:
        self.tell(Starting(target, round_))
        worker = WorkerProcess(self._worker_variables(target), self.log)
        worker.send("start", target=target.to_json(), threads=target.threads or self.threads)
        try:
            yield worker
        finally:
            worker.close()

    def _worker_variables(self, target: Target) -> dict[str, str]:
        """Environment variables that the worker of a target gets: threads, math, visibility."""
        threads = target.threads or self.threads
        return frameworks()[target.framework].environment(target, threads)

    def _await_ready(self, worker: WorkerProcess, target: Target) -> None:
        try:
            message = worker.receive(START_TIMEOUT_S)
        except (WorkerGone, WorkerTimeout) as error:
            worker.kill()
            raise WorkerFailed(f"{error}; log: {self.log}") from None
        if message["type"] == "failed":
            raise WorkerFailed(message["detail"])
        self._record_target(target, message)

    def _measure_ceilings(self, worker: WorkerProcess, target: Target) -> bool:
        """Once a target and run: what its cases are then held against. False when the worker did not
        survive it; the cases are worth timing all the same."""
        facts = self._target_facts(target)
        if "ceilings" in facts:
            return True
        self.tell(Probing(target))
        dtypes = {str(dict(case.params).get("dtype", "float32")) for case in self._own(target)}
        worker.send("ceilings", dtypes=sorted(dtypes), seconds=self._ceiling_s())
        alive, start = True, time.monotonic()
        try:
            answer = worker.receive(self.settings.case_timeout_s)
        except (WorkerGone, WorkerTimeout) as error:
            worker.kill()
            answer, alive = {"found": None, "error": str(error)}, False
        facts["ceilings"], facts["ceilings_error"] = answer["found"], answer["error"]
        facts["ceilings_s"] = time.monotonic() - start
        self.sink.update_environment(self.run_id, self.environment)
        return alive

    def _ceiling_s(self) -> float:
        """Time of a probe: as settled, or less, so that all of them (about 25) take a tenth of what
        a time budget leaves."""
        return min(self.settings.ceiling_s, self._left_s() / 10 / 25)

    def _own(self, target: Target) -> list[Case]:
        return [case for case in self.cases if case.target == target]

    def _sampler(self, worker: WorkerProcess, target: Target) -> Sampler:
        """Watches the target's GPUs, where it has some, and the host while the worker times."""
        physical = self._target_facts(target).get("physical_devices", ())
        gpus = [
            gpu["uuid"] for gpu in self.environment["machine"]["gpus"] if gpu["uuid"] in physical
        ]
        return Sampler(gpus, worker_pid=worker.pid)

    def _record_no_peak(self, target: Target, no_clock: str | None) -> None:
        """Why no row of a CPU can have a `peak_fraction`, where that is so."""
        facts = self._target_facts(target)
        if facts.get("physical_device") != "cpu":
            return
        host = machine_from_json(self.environment["machine"]).host
        if find_core(host) is None:
            facts["peak_unread"] = f"what a core of {host.cpu_model} does a clock is not known"
        elif no_clock is not None:
            facts["peak_unread"] = no_clock

    def _record_unread(self, target: Target, telemetry: Summary) -> None:
        """Why no window of the target has read a figure so far. Stored before the measurement: a run that
        is resumed goes on from it."""
        facts = self._target_facts(target)
        before = facts.get("telemetry_unread")
        now = _unread(telemetry, before)
        if now != before:
            facts["telemetry_unread"] = now
            self.sink.update_environment(self.run_id, self.environment)

    @contextmanager
    def _serving(self, target: Target) -> Iterator[None]:
        """Adds up how long workers of the target were at work after their import."""
        start = time.monotonic()
        try:
            yield
        finally:
            facts = self.environment["targets"][str(target)]
            facts["served_s"] = facts.get("served_s", 0.0) + time.monotonic() - start
            self.sink.update_environment(self.run_id, self.environment)

    def _target_facts(self, target: Target) -> dict[str, Json]:
        facts: dict[str, Json] = self.environment["targets"].get(str(target), {})
        return facts

    def _record_target(self, target: Target, ready: Message) -> None:
        """Keep what the worker said of itself; once a target, since it stands for the whole run."""
        known = self._target_facts(target)
        if "framework_version" in known:
            known["threads_used"] = ready["threads_used"]
            if (known["framework_version"], known["file"]) != (ready["version"], ready["file"]):
                raise UsageError(
                    f"{target.framework} changed since the run began, from {known['framework_version']} at "
                    f"{known['file']} to {ready['version']} at {ready['file']}; start a new run"
                )
            return
        self.environment["targets"][str(target)] = {
            **known,
            "framework_version": ready["version"],
            "file": ready["file"],
            "build": ready["build"],
            "settings": ready["settings"],
            "variables": self._worker_variables(target),
            "threads": target.threads or self.threads,
            "threads_used": ready["threads_used"],
            "import_s": ready["import_s"],
        }
        self.sink.update_environment(self.run_id, self.environment)


def _unread(telemetry: Summary, before: Mapping[str, Json] | None) -> dict[str, Json]:
    """Which figures the host and each GPU have not told, and why. Some reasons hold for one window only,
    as that it was too short: a figure loses its reason as soon as a window has read it.

    before: what this was until this window; None where it is the target's first.
    """

    def without_reading(record: HostSummary | GpuSummary, known: Mapping[str, Json]) -> Json:
        return {name: why for name, why in known.items() if getattr(record, name, None) is None}

    host, gpus = telemetry.host, {gpu.gpu: gpu for gpu in telemetry.gpus}
    if before is None:
        before = {**host.unread, **{name: gpu.unread for name, gpu in gpus.items()}}
    found = without_reading(host, {k: why for k, why in before.items() if k not in gpus})
    for name, gpu in gpus.items():
        if left := without_reading(gpu, before.get(name, {})):
            found[name] = left
    return dict(found)


def _without_nulls(data: Json) -> Json:
    """Compact, since there is one a measurement: a field that is missing reads as null again. Why a
    figure could not be read stands with the target."""
    if isinstance(data, dict):
        return {
            name: _without_nulls(value)
            for name, value in data.items()
            if value is not None and name != "unread"
        }
    return [_without_nulls(value) for value in data] if isinstance(data, list) else data


def utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
