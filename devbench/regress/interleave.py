"""Pair after pair of fresh processes: what `ab` and `calibrate` decide from, committed as it arrives."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from devbench.errors import UsageError
from devbench.measure.sampling import Limits
from devbench.model import Case, Json, Measurement, Target
from devbench.plan import order
from devbench.process import WorkerGone, WorkerProcess, WorkerTimeout
from devbench.references import References
from devbench.registry import Catalog, frameworks
from devbench.regress.checkout import Repository
from devbench.regress.pairs import CONTROL, MALLOC, NO_ROOM, Reading, Turns, confine, log_ratio
from devbench.regress.variant import Variant
from devbench.runner import START_TIMEOUT_S, utc_now

#: A second process of the head's code takes part in every second pair: it costs half as much again, and
#: need only show that nothing moves where nothing was changed.
NULL_EVERY: Final = 2
#: A known slowdown is tried where so many steps take no longer than this.
LONGEST_REPEATED_S: Final = 0.25
#: Files of tests by pytest's names for them.
_TESTS: Final = re.compile(r"conftest\.py|test_.*\.py|.*_test\.py")
LIMITS: Final = Limits(warmup_s=0.5, share_s=0.0)


class Sink(Protocol):
    """Where the measurements of the two runs go."""

    def add_measurement(self, run_id: str, measurement: Measurement) -> None: ...


@dataclass(slots=True)
class Found:
    """What the pairs say of one case, as log ratios: head over base, a second head over the head, and
    the fixed step in the head's process over that in the base's. trouble: what kept it from being timed.
    slowed: the head with known extra work over the base (`Interleaver.repeat`), where so many steps are
    short enough; untried: what was in its way. restless: whose process went on using the CPU when it was
    to be at rest.
    """

    pairs: list[float] = field(default_factory=list)
    null: list[float] = field(default_factory=list)
    yardstick: list[float] = field(default_factory=list)
    trouble: str | None = None
    slowed: list[float] = field(default_factory=list)
    untried: str | None = None
    restless: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class PairDone:
    """A case was timed in one pair."""

    case: Case
    pair: int
    found: Found


@dataclass(slots=True, kw_only=True)
class Interleaver:
    """Two variants in turn over the same cases. `runs` holds the run of each role that is stored."""

    base: Variant
    head: Variant
    stage: Path
    catalog: Catalog
    threads: int
    seed: int
    share_s: float
    timeout_s: float
    runs: Mapping[str, str]
    sink: Sink
    tell: Callable[[PairDone], None]
    scratch: Path
    log: Path
    #: In every so many pairs `again` takes part; 0: never.
    null_every: int = NULL_EVERY
    #: Besides, so many steps as one in the base against one more in the head; 0: not.
    repeat: int = 0
    found: dict[str, Found] = field(default_factory=dict)
    #: What workers said of themselves: role → target → message ``ready``.
    ready: dict[str, dict[str, Json]] = field(default_factory=lambda: {"base": {}, "head": {}})
    #: Of the first pair: whether anything was timed on all sides, and loaded files of its tree, and such
    #: that may be otherwise on the other side.
    _timed: bool = field(init=False)
    _ran_tree: bool = field(init=False)
    _ran_own: bool = field(init=False)
    _references: References = field(init=False)

    def __post_init__(self) -> None:
        self._timed = self._ran_tree = self._ran_own = False
        self._references = References(
            self.catalog, self.seed, self.scratch, self.log, self.timeout_s
        )

    def pair(self, number: int, cases: Sequence[Case], in_time: Callable[[], bool]) -> None:
        """Time the cases in one more pair of fresh processes a target, as long as there is time."""
        controlled = self.null_every and number % self.null_every == 0
        sizes = {name: benchmark.size for name, benchmark in self.catalog.benchmarks.items()}
        for target in dict.fromkeys(case.target for case in cases):
            own = [case for case in cases if case.target == target]
            waiting = order(own, sizes, number + 1, self.seed)
            roles = ["base", "head", CONTROL] if controlled else ["base", "head"]
            while waiting and in_time():
                self._serve(number, target, roles, waiting, in_time)
        if number == 0:
            self._refuse_same_code()

    def _serve(
        self,
        number: int,
        target: Target,
        roles: list[str],
        waiting: list[Case],
        in_time: Callable[[], bool],
    ) -> None:
        """One process a role; what is left of `waiting` needs fresh ones, of what is left of `roles`."""
        with ExitStack() as stack:
            # Whatever ends this, nothing may write to `scratch` any more, which is about to go.
            stack.callback(self._references.abandon)
            workers: dict[str, WorkerProcess] = {}
            for role in roles:
                workers[role] = self._process(role, target)
                stack.callback(workers[role].close)
                if target.devices[0].lower().startswith("cpu"):
                    confine(workers[role].pid, target.threads or self.threads)
                workers[role].send(
                    "start", target=target.to_json(), threads=target.threads or self.threads
                )
            if number == 0:
                self._references.prepare(waiting)
            for role in tuple(roles):
                try:
                    self._await_ready(workers[role], role, target)
                except UsageError as error:
                    if role == CONTROL:
                        roles.remove(role)
                        workers.pop(role).close()
                        continue
                    if number == 0:
                        raise
                    # What the pairs before it have decided stays decided.
                    for case in waiting:
                        self._note(case, number, f"in pair {number + 1} {error}")
                    waiting.clear()
                    return
            turns = Turns(workers, self.timeout_s)
            while waiting and in_time():
                case = waiting.pop(0)
                try:
                    self._time(number, case, turns)
                except (WorkerGone, WorkerTimeout) as error:
                    if CONTROL in roles and _is_out_of_memory(error):
                        # Two may have the room that three have not, whichever of them the kernel chose.
                        roles.remove(CONTROL)
                        waiting.insert(0, case)
                    else:
                        self._lose(case, number, turns.asked, error)
                    for worker in workers.values():
                        worker.kill()
                    return

    def _process(self, role: str, target: Target) -> WorkerProcess:
        """A fresh process, still to be started; the pytest plugin has another kind."""
        variant = self._variant(role)
        return WorkerProcess(self._variables(role, target), self.log, variant.python)

    def _variant(self, role: str) -> Variant:
        return self.base if role == "base" else self.head

    def _variables(self, role: str, target: Target) -> dict[str, str]:
        threads = target.threads or self.threads
        own = frameworks()[target.framework].environment(target, threads)
        return own | MALLOC | self._variant(role).variables(self.stage)

    def _await_ready(self, worker: WorkerProcess, role: str, target: Target) -> None:
        name = self._variant(role).name
        try:
            message = worker.receive(START_TIMEOUT_S)
        except (WorkerGone, WorkerTimeout) as error:
            raise UsageError(f"{name}: {target} did not start: {error}; log: {self.log}") from None
        if message["type"] == "failed":
            raise UsageError(f"{name}: {target} did not start: {message['detail']}")
        if role != CONTROL:
            threads = target.threads or self.threads
            self.ready[role].setdefault(str(target), message | {"threads": threads})

    def _time(self, number: int, case: Case, turns: Turns) -> None:
        check: str | None = None
        if number == 0:
            reference = self._references.get(case)
            self._references.rest()
            if isinstance(reference, str):
                failure = self._references.failure(case, reference)
                for role in ("base", "head"):
                    self._store(role, case, number, utc_now(), failure)
                self._note(case, number, failure["detail"])
                return
            check = str(reference or self.scratch)
        started_at = utc_now()
        source = self.catalog.sources[case.suite]

        def measure(role: str) -> Json:
            variant = self.base if role == "base" else self.head
            return {
                "source": variant.source(source).to_json(),
                "benchmark": case.benchmark,
                "params": dict(case.params),
                "seed": self.seed,
                "limits": asdict(LIMITS),
                "scratch": str(self.scratch),
                "kept": str(self._kept(role)),
                "check": check if role != CONTROL else None,
                "roots": [str(root) for root in variant.roots],
                "tops": [str(variant.top)] if variant.top else [],
            }

        turns.restless.clear()
        readings = turns.run(measure, self.share_s, flip=number % 2 == 1)
        self.found.setdefault(case.id, Found()).restless |= turns.restless
        if number == 0:
            self._refuse_strays(readings)
            self._timed |= all(reading.is_ok for reading in readings.values())
            self._ran_tree |= any(reading.files for reading in readings.values())
            self._ran_own |= self._has_own_code(readings)
        if self.repeat:
            self._slow_down(case, turns, measure, readings, flip=number % 2 == 1)
        self._keep(number, case, readings, started_at)

    def _kept(self, role: str) -> Path:
        """Where a side keeps its inputs: what draws them may differ between the two."""
        folder = self.scratch / ("base" if role == "base" else "head")
        folder.mkdir(exist_ok=True)
        return folder

    def _slow_down(
        self,
        case: Case,
        turns: Turns,
        measure: Callable[[str], Json],
        readings: Mapping[str, Reading],
        *,
        flip: bool,
    ) -> None:
        """The same case again in the same processes, with one step more in the head."""
        found = self.found.setdefault(case.id, Found())
        plain = readings["base"].samples
        if found.untried is not None or not plain:
            return
        seconds = statistics.median(plain) * self.repeat
        if seconds > LONGEST_REPEATED_S:
            return
        slowed = turns.run(
            lambda role: (
                measure(role)
                | {"check": None, "repeat": self.repeat + (1 if role == "head" else 0)}
            ),
            self.share_s,
            flip,
        )
        if all(reading.is_ok for reading in slowed.values()):
            found.slowed.append(log_ratio(slowed["head"].samples, slowed["base"].samples))
        else:
            found.untried = _trouble(slowed)

    def _refuse_strays(self, readings: Mapping[str, Reading]) -> None:
        """What is installed in editable mode may be found in the work tree by a way that `Variant.roots`
        does not see (an import hook): a side that is another state then runs the code of that one."""
        for role, side in (("base", self.base), ("head", self.head)):
            for stray in map(Path, readings[role].strays):
                if self._is_staged(stray) or (side.tree and stray.is_relative_to(side.tree)):
                    continue
                raise UsageError(
                    f"{side.name} ran {stray}, which is the work tree's and not its own. Compare two "
                    "interpreters, each with one of the versions installed"
                )

    def _is_staged(self, file: Path) -> bool:
        """The folder for temporary files, where all sides find the engine, may lie in the repository."""
        return file.is_relative_to(self.stage) or file.is_relative_to(self.scratch)

    def _has_own_code(self, readings: Mapping[str, Reading]) -> bool:
        """Whether anything was loaded that one side may have otherwise than the other. That is not the
        file that does the timing, where it is the same on both."""
        base, head = self.base.tree, self.head.tree
        if base is None or head is None:
            return True
        timing = {
            variant.source(source).location
            for source in self.catalog.sources.values()
            for variant in (self.base, self.head)
        }
        for role, reading in readings.items():
            tree = base if role == "base" else head
            for file in map(Path, reading.files):
                if self._is_staged(file):
                    continue
                place = file.relative_to(tree)
                if not (str(file) in timing or str(place) in timing or _TESTS.fullmatch(file.name)):
                    return True
                if not _are_alike(base / place, head / place):
                    return True
        return False

    def _refuse_same_code(self) -> None:
        """Two variants that loaded nothing of their own trees have timed the same installed code. So have
        those that loaded tests which are alike on both, unless these are all that there is to be timed."""
        if not self._timed or self._ran_own or self.head.top is None:
            return
        copies = Repository(self.head.top).installed_copies()
        if copies or not self._ran_tree:
            installed = f"; {', '.join(copies)} of it is installed elsewhere" if copies else ""
            raise UsageError(
                f"{self.base.name} and {self.head.name} ran the same code: nothing that was timed comes from "
                f"the repository {self.head.top}{installed}. Compare interpreters, or install the project "
                "in editable mode"
            )

    def _keep(
        self, number: int, case: Case, readings: Mapping[str, Reading], started_at: str
    ) -> None:
        found = self.found.setdefault(case.id, Found())
        base, head, again = readings["base"], readings["head"], readings.get(CONTROL)
        if head.is_ok and again is not None and _failed(again):
            head = again  # it runs the same code
        for role, reading in (("base", base), ("head", head)):
            samples = reading.samples if reading.is_ok else ()
            self._store(role, case, number, started_at, reading.facts | {"samples": samples})
        if base.is_ok and head.is_ok and base.samples and head.samples:
            found.pairs.append(log_ratio(head.samples, base.samples))
            found.yardstick.append(math.log(head.facts["yardstick_s"] / base.facts["yardstick_s"]))
            if again is not None and again.is_ok and again.samples:
                found.null.append(log_ratio(again.samples, head.samples))
        else:
            found.trouble = _trouble({"base": base, "head": head})
        if wrong := [one.facts["numerics_detail"] for one in (base, head) if one.is_wrong]:
            found.trouble = f"its result is wrong: {wrong[0]}"  # no further pair would tell more
        self.tell(PairDone(case, number, found))

    def _store(
        self, role: str, case: Case, number: int, started_at: str, facts: Mapping[str, Any]
    ) -> None:
        self.sink.add_measurement(
            self.runs[role],
            Measurement(case_id=case.id, round=number, started_at=started_at, **facts),
        )

    def _lose(self, case: Case, number: int, role: str, error: WorkerGone | WorkerTimeout) -> None:
        """A worker that did not answer costs its case, on the side whose it was."""
        side = "base" if role == "base" else "head"
        if isinstance(error, WorkerTimeout):
            lost = {"status": "timeout", "reason": "case-timeout"}
        else:
            killed = "oom" if _is_out_of_memory(error) else "crashed"
            lost = {"status": killed, "reason": error.reason}
        detail = f"{error}; log: {self.log}"
        self._store(side, case, number, utc_now(), lost | {"detail": detail})
        self._note(case, number, f"{side}: {error}")

    def _note(self, case: Case, number: int, trouble: str) -> None:
        found = self.found.setdefault(case.id, Found())
        found.trouble = trouble
        self.tell(PairDone(case, number, found))


def _are_alike(*files: Path) -> bool:
    """Whether they are there and hold the same."""
    return all(map(Path.is_file, files)) and len({file.read_bytes() for file in files}) == 1


def _is_out_of_memory(error: WorkerGone | WorkerTimeout) -> bool:
    return isinstance(error, WorkerGone) and error.reason == "out-of-memory"


def _failed(control: Reading) -> bool:
    """Whether the control failed by itself: it is `ok` without samples where another process did."""
    return not control.is_ok and control.facts.get("status") not in NO_ROOM


def _trouble(readings: Mapping[str, Reading]) -> str:
    """Why a case has no pair, by the first process that had trouble."""
    told: Iterable[str] = (
        f"{role}: {reading.facts['status']}, {reading.facts.get('detail') or 'no reason given'}"
        for role, reading in readings.items()
        if not reading.is_ok
    )
    return next(iter(told), "no samples were taken")
