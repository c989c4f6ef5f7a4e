"""One device examined by a worker of its own: bounded in time, and a worker that dies is a finding."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

from devbench.frameworks.base import Framework
from devbench.measure.ceilings import Ceilings
from devbench.model import Json, Target
from devbench.process import WorkerGone, WorkerProcess, WorkerTimeout
from devbench.protocol import Message
from devbench.stress import rates
from devbench.stress.effort import Effort
from devbench.stress.records import Check, Outcome, Window
from devbench.telemetry import Sampler, doubts

#: TensorFlow with eight cold GPUs on a network file system takes most of a minute.
START_TIMEOUT_S: Final = 300.0
MODULE: Final = ("devbench.stress.child",)
#: What a worker says of itself once it has started.
READY: Final = ("version", "file", "build", "settings")


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker has started; facts: what it says of itself."""

    facts: Json


@dataclass(frozen=True, slots=True)
class Doing:
    """A check begins."""

    key: str
    tier: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """One more window of load: n×n products in `dtype`."""

    n: int
    dtype: str
    window: Window


#: What an examination tells, as it goes on.
Event: TypeAlias = Ready | Doing | Check | Ceilings | Loaded


@dataclass(slots=True, kw_only=True)
class Examination:
    """One device of one framework.

    gpus: UUIDs of the physical GPUs to watch. memory_bytes: how much of its memory to test; None where
    nobody tells what is free. roofs: what its bandwidths are held against (`rates.bandwidths`).
    log: where the worker's chatter goes. skip: keys of checks that are not to be made (again).

    `run` yields events as things happen. When it is closed early the worker is ended.
    """

    adapter: Framework
    target: Target
    threads: int
    effort: Effort
    log: Path
    is_cpu: bool
    gpus: tuple[str, ...] = ()
    memory_bytes: int | None = None
    roofs: dict[str, tuple[float, str]] = field(default_factory=dict)
    skip: set[str] = field(default_factory=set)
    windows: list[Window] = field(default_factory=list)
    _now: Message | None = None

    def run(self) -> Generator[Event, None, None]:
        """Worker after worker until every check has an outcome: one that a check kills is followed by a
        fresh one, which leaves that check out."""
        while True:
            with self._worker() as worker:
                try:
                    yield from self._serve(worker)
                    return
                except (WorkerGone, WorkerTimeout) as error:
                    worker.kill()
                    doing = self._now
                    check = self._lost(error)
                    yield check
                    if doing is None:
                        return  # it did not even start
                    if doing["key"] == "sustained":
                        yield from self.judged()
                        return

    @contextmanager
    def _worker(self) -> Iterator[WorkerProcess]:
        variables = self.adapter.environment(self.target, self.threads)
        worker = WorkerProcess(variables, self.log, module=MODULE)
        worker.send(
            "stress",
            target=self.target.to_json(),
            threads=self.threads,
            effort=asdict(self.effort),
            memory_bytes=self.memory_bytes,
            skip=sorted(self.skip),
        )
        try:
            yield worker
        finally:
            worker.kill()

    def _lost(self, error: WorkerGone | WorkerTimeout) -> Check:
        """The fault that a worker's end is."""
        doing = self._now or {"key": "start", "tier": 1}
        self.skip.add(doing["key"])
        self._now = None
        name, _, dtype = str(doing["key"]).removesuffix("]").partition("[")
        gone = isinstance(error, WorkerGone)
        return Check(
            where=str(self.target),
            tier=doing["tier"],
            name="load" if name == "sustained" else name,
            dtype=dtype or None,
            verdict="fault",
            says=(
                f"the worker died of it: {error}; log: {self.log}"
                if gone
                else f"{error}; the worker was ended"
            ),
            status="crashed" if gone else "timeout",
            reason=error.reason if isinstance(error, WorkerGone) else "case-timeout",
        )

    def _serve(self, worker: WorkerProcess) -> Iterator[Event]:
        timeout_s = START_TIMEOUT_S
        with Sampler(self.gpus, worker_pid=worker.pid) as sampler:
            while True:
                message = worker.receive(timeout_s)
                timeout_s = self.effort.timeout_s
                match message["type"]:
                    case "failed":
                        yield self._check("start", 1, _start_failed(message["detail"]), failed=True)
                        return
                    case "ready":
                        yield Ready({name: message[name] for name in READY})
                    case "doing":
                        self._now = message
                        sampler.start_window()
                        yield Doing(message["key"], message["tier"])
                    case "checked":
                        self._finish()
                        yield Check(**message["check"])
                    case "ceilings":
                        self._finish()
                        yield from self._bandwidths(message, sampler)
                    case "window":
                        yield self._window(message["window"], sampler)
                    case "stopped":
                        says = f"the framework raised {message['error']}"
                        yield self._check("load", 3, Outcome("fault", says), failed=True)
                    case "ended":
                        if self._now is not None:
                            self._finish()
                            yield from self.judged()
                        return

    def _finish(self) -> None:
        assert self._now is not None
        self.skip.add(self._now["key"])
        self._now = None

    def _check(self, name: str, tier: int, found: Outcome, *, failed: bool = False) -> Check:
        return Check(
            where=str(self.target),
            tier=tier,
            name=name,
            verdict=found.verdict,
            says=found.says,
            figures=found.figures,
            status="failed" if failed else "ok",
            reason=("start-failed" if name == "start" else "error") if failed else None,
        )

    def _bandwidths(self, message: Message, sampler: Sampler) -> Iterator[Event]:
        if message["found"] is None:
            says = f"the framework raised {message['error']}"
            yield self._check("bandwidth", 2, Outcome("fault", says), failed=True)
            return
        found = Ceilings.from_json(message["found"])
        yield found
        disturbed = list(doubts(sampler.end_window(), self._needed_threads))
        judged = rates.bandwidths(found, self.roofs, disturbed, is_shared=self.is_cpu)
        yield self._check("bandwidth", 2, judged)

    @property
    def _needed_threads(self) -> int:
        return self.threads if self.is_cpu else 1

    def _window(self, fields: dict[str, Any], sampler: Sampler) -> Loaded:
        summary = sampler.end_window()
        sampler.start_window()
        window = Window(
            **{**fields, "samples": tuple(fields["samples"])},
            telemetry=summary.to_json(),
            doubts=tuple(doubts(summary, self._needed_threads)),
        )
        self.windows.append(window)
        assert self._now is not None
        return Loaded(self._now["n"], self._now["dtype"], window)

    def judged(self) -> Iterator[Check]:
        """What the windows say, however many there are."""
        yield self._check("product_under_load", 3, rates.under_load(self.windows))
        yield self._check("rate_kept", 3, rates.kept(self.windows, is_cpu=self.is_cpu))


def _start_failed(detail: str) -> Outcome:
    return Outcome("fault", f"the framework does not start on it: {detail}")
