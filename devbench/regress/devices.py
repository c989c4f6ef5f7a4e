"""What each variant sees of the machine: its interpreter is asked, which may hold other frameworks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from devbench import registry
from devbench.detection import Machine, join, read_hardware, usable_threads
from devbench.detection.records import FrameworkAnswer, view_from_json
from devbench.errors import UsageError, unknown
from devbench.frameworks.base import Framework
from devbench.process import WorkerGone, WorkerProcess, WorkerTimeout
from devbench.regress.variant import Variant
from devbench.runner import START_TIMEOUT_S


def machines_of(
    base: Variant, head: Variant, wanted: Sequence[str], stage: Path, log: Path
) -> tuple[Machine, Machine]:
    """The machine as either variant sees it. One interpreter is asked once.

    Raises UsageError for an unknown framework, and for one that was asked for and does not start.
    """
    known = registry.frameworks()
    for name in wanted:
        if name not in known:
            raise UsageError(unknown("framework", name, known))
    adapters = {name: known[name] for name in wanted or known}
    machines = {
        variant.python: join(read_hardware(), _answers(variant, adapters, stage, log))
        for variant in {base.python: base, head.python: head}.values()
    }
    for variant in (base, head):
        for answer in machines[variant.python].frameworks:
            if wanted and answer.view is None:
                raise UsageError(f"{variant.name} ({variant.python}): {answer.reason}")
    return machines[base.python], machines[head.python]


def _answers(
    variant: Variant, adapters: Mapping[str, Framework], stage: Path, log: Path
) -> list[FrameworkAnswer]:
    threads = usable_threads()
    workers = {
        name: WorkerProcess(
            adapter.environment(None, threads) | variant.variables(stage), log, variant.python
        )
        for name, adapter in adapters.items()
    }
    try:
        for name, worker in workers.items():  # all import at once
            worker.send("describe", framework=name, threads=threads)
        return [_answer(name, worker) for name, worker in workers.items()]
    finally:
        for worker in workers.values():
            worker.close()


def _answer(name: str, worker: WorkerProcess) -> FrameworkAnswer:
    try:
        message = worker.receive(START_TIMEOUT_S)
    except (WorkerGone, WorkerTimeout) as error:
        worker.kill()
        return _failed(name, str(error))
    if message["view"] is None:
        return _failed(name, message["error"])
    return FrameworkAnswer(name=name, status="ok", view=view_from_json(message["view"]))


def _failed(name: str, why: str) -> FrameworkAnswer:
    return FrameworkAnswer(name=name, status="failed", reason=f"{name} does not start: {why}")
