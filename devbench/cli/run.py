"""``devbench run``: plan, measure with live progress, print the table."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from devbench.cli.common import JsonOption, StoreOption, note, print_json, store_location
from devbench.cli.selecting import (
    DeviceOption,
    FrameworkOption,
    ParamOption,
    SuitePathOption,
    ThreadsOption,
    Words,
    threads_of,
)
from devbench.cli.stored import render
from devbench.errors import NothingMeasured, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devbench.model import Result
    from devbench.session import Session
    from devbench.store import Store


def run(
    select: Words = None,
    device: DeviceOption = None,
    framework: FrameworkOption = None,
    threads: ThreadsOption = None,
    param: ParamOption = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="One round over each benchmark's short sweep.")
    ] = False,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Fifteen rounds, for narrower intervals.")
    ] = False,
    rounds: Annotated[
        int | None,
        typer.Option(
            "--rounds",
            metavar="N",
            help="Fresh workers a device (default 5, quick 1, thorough 15).",
        ),
    ] = None,
    time_budget: Annotated[
        float | None,
        typer.Option("--time-budget", metavar="SECONDS", help="Wall time of the whole run."),
    ] = None,
    crossover: Annotated[
        bool,
        typer.Option(
            "--crossover", help="Measure further sizes where one device overtakes another."
        ),
    ] = False,
    suite_path: SuitePathOption = None,
    label: Annotated[
        str | None, typer.Option("--label", metavar="NAME", help="A name to find the run by.")
    ] = None,
    resume: Annotated[
        str | None, typer.Option("--resume", metavar="RUN", help="Complete an interrupted run.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE", help="Write the HTML report here as well."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be measured, and stop.")
    ] = False,
    json: JsonOption = False,
    store: StoreOption = None,
) -> None:
    """Measure benchmarks on every device, in every framework."""
    from devbench import session as sessions
    from devbench.api import make_settings
    from devbench.stats.results import summarize
    from devbench.store import Store
    from devbench.store.files import reserve

    given = [
        *(select, device, framework, threads, param),
        *(quick, thorough, rounds, time_budget, crossover, label),
    ]
    if resume is not None and any(given):
        raise UsageError(
            "--resume goes on with the settings the run was begun with; give it without a selection or "
            "other options (--suite-path, --report, --json and --store may stand beside it)"
        )
    request = sessions.Request(
        select=tuple(select or ()),
        devices=tuple(device or ()),
        frameworks=tuple(framework or ()),
        threads=threads_of(threads),
        params=tuple(param or ()),
        suite_paths=tuple(suite_path or ()),
        label=label,
        settings=make_settings(
            quick=quick,
            thorough=thorough,
            rounds=rounds,
            time_budget=time_budget,
            crossover=crossover,
        ),
    )
    # The report's place and the store are tried first: minutes of measuring must not end in a refusal.
    with ExitStack() as stack:
        write = stack.enter_context(reserve(report)) if report is not None else None
        if dry_run and resume is None:
            _show_plan(sessions.prepare(request), json)
            return
        opened = stack.enter_context(Store.open(store_location(store)))
        session = (
            sessions.prepare(request)
            if resume is None
            else sessions.resume(resume, opened, suite_path or ())
        )
        if dry_run:
            _show_plan(session, json)
            return
        for one in session.catalog.broken:
            note(f"devbench: the plugin {one.name!r} is left out: {one.error}")
        state, interrupted = _carry_out(session, opened)
        stored = opened.load(session.info.id)
        if write is not None:
            write(render(stored, "html"))
    sys.stdout.write(render(stored, "json" if json else "text"))
    sys.stdout.flush()
    if report is not None:
        note(f"report: {report.resolve()}")
    if state == "interrupted":
        what = "interrupted" if interrupted else "the time budget is used up"
        note(
            f"devbench: {what}; what was measured is kept. Go on: devbench run --resume {session.info.id}"
        )
    sys.exit(130 if interrupted else exit_code(summarize(stored)))


def _show_plan(session: Session, json: bool) -> None:
    visits = session.left
    cases = list(dict.fromkeys(case for case, _ in visits))
    if json:
        print_json(
            {
                "schema": "devbench.plan/1",
                "rounds": session.settings.rounds,
                "cases": [
                    {"case_id": case.id, "suite": case.suite, "params": dict(case.params)}
                    for case in cases
                ],
            }
        )
        return
    for case in cases:
        print(case.id)
    seconds = len(visits) * (session.settings.warmup_s + session.settings.share_s)
    note(
        f"{len(cases)} cases, {session.settings.rounds} round(s): {len(visits)} visits, "
        f"about {seconds / 60:.1f} minutes at most inside warm-up and timing"
    )


def _carry_out(session: Session, store: Store) -> tuple[str, bool]:
    """The state that the run ended in, and whether it was Ctrl-C that ended it."""
    from devbench.cli.progress import Progress
    from devbench.session import carry_out

    with Progress(session) as progress:
        try:
            return carry_out(session, store, progress.tell), False
        except KeyboardInterrupt:
            return "interrupted", True


def exit_code(results: Sequence[Result]) -> int:
    """0 fine, 1 when a case failed or computed wrongly. Raises NothingMeasured when none was timed."""
    bad = [
        result
        for result in results
        if result.status in ("failed", "crashed", "timeout") or result.numerics == "mismatch"
    ]
    if bad:
        return 1
    if not any(result.status == "ok" for result in results):
        raise NothingMeasured(
            "every case was skipped or ran out of memory, so nothing was measured"
        )
    return 0
