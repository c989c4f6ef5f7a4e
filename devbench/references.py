"""Expected values: computed once a params by a process of its own, kept as files for the workers."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from devbench.model import Case, format_params
from devbench.process import WorkerGone, WorkerProcess, WorkerTimeout
from devbench.registry import Catalog

#: Above this many operations (some seconds on two CPUs) a reference is computed only when its case is
#: really visited; below, in a row while the framework is being imported, when nothing is timed anyway. On
#: its own each of them starts a process, which takes a second.
CHEAP_FLOPS = 1e11


class References:
    """Where the expected values of a run's cases are. One file serves every framework and device."""

    def __init__(
        self, catalog: Catalog, seed: int, folder: Path, log: Path, timeout_s: float
    ) -> None:
        self._catalog = catalog
        self._seed = seed
        self._folder = folder
        self._log = log
        self._timeout_s = timeout_s
        self._answers: dict[str, Path | str] = {}
        self._without_room: set[str] = set()
        self._worker: WorkerProcess | None = None

    def prepare(self, cases: Iterable[Case], limit_s: float = math.inf) -> None:
        """Compute the cheap ones among the references of `cases`, as many as are begun in time."""
        end = time.monotonic() + limit_s
        for case in cases:
            if (case.work.flops or 0) <= CHEAP_FLOPS and time.monotonic() < end:
                self.get(case)
        self.rest()

    def get(self, case: Case) -> Path | str | None:
        """The file of the expected values; an error in a sentence; None where no function is declared."""
        if self._catalog.benchmarks[case.benchmark].reference_kind != "function":
            return None
        key = _key(case)
        if key not in self._answers:
            self._answers[key] = self._compute(case)
        return self._answers[key]

    def failure(self, case: Case, error: str) -> dict[str, Any]:
        """Fields of a `Measurement` for a case whose expected values could not be computed."""
        if _key(case) in self._without_room:
            detail = f"on the host, for its reference: {error}"
            return {"status": "oom", "reason": "out-of-memory", "detail": detail}
        return {
            "status": "failed",
            "reason": "error",
            "detail": f"its reference failed: {error}",
        }

    def _compute(self, case: Case) -> Path | str:
        path = self._folder / f"reference-{len(self._answers)}"
        if self._worker is None:
            self._worker = WorkerProcess({}, self._log)
        self._worker.send(
            "reference",
            source=self._catalog.sources[case.suite].to_json(),
            benchmark=case.benchmark,
            params=dict(case.params),
            seed=self._seed,
            path=str(path),
            kept=str(self._folder),
        )
        try:
            answer = self._worker.receive(self._timeout_s)
        except (WorkerGone, WorkerTimeout) as gone:
            self._worker.kill()
            self._worker = None
            if isinstance(gone, WorkerGone) and gone.reason == "out-of-memory":
                self._without_room.add(_key(case))
            return str(gone)
        if answer["out_of_memory"]:
            self._without_room.add(_key(case))
        return path if answer["error"] is None else str(answer["error"])

    def rest(self) -> None:
        """End the process, so that nothing else is alive while a case is timed."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def abandon(self) -> None:
        """Kill the process, should it be at work: nobody waits for its answer any more."""
        if self._worker is not None:
            self._worker.kill()
            self._worker = None


def _key(case: Case) -> str:
    return f"{case.benchmark}[{format_params(dict(case.params))}]"
