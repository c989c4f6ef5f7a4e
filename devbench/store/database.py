"""The results store: runs, their cases and measurements, in SQLite or PostgreSQL."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from devbench.errors import StoreError, UsageError, unknown
from devbench.model import SEVERITY, Case, Json, Measurement, Run, RunInfo, Status
from devbench.store import exchange, records
from devbench.store.engine import explained, open_engine, transaction
from devbench.store.facts import rounded
from devbench.store.outcome import NOTHING, with_measurement
from devbench.store.rows import (
    AT_ONCE,
    insert_measurements,
    insert_plan,
    measurement_row,
    to_case,
    to_measurement,
    update_outcomes,
)
from devbench.store.samples import pack, unpack
from devbench.store.tables import cases, measurements, plans, runs


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run without its measurements. planned: its cases; counts: those that have an outcome."""

    info: RunInfo
    planned: int
    counts: Mapping[Status, int]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What became of cases in many runs, without their measurements.

    runs: the oldest first. cases: each once, though two may share an id where what they declare was
    changed. rows: a case that was timed in a run, as its place in `runs`, its place in `cases`, the
    name of its yardstick ("" for none) and its rounds (`devbench.store.outcome.figures`). What
    computed wrongly is not among them.
    """

    runs: tuple[RunInfo, ...]
    cases: tuple[Case, ...]
    rows: Sequence[tuple[int, int, str, bytes]]


class Store:
    """An open results store. Every method is one transaction and raises StoreError when the database
    fails; what `add_measurement` has returned from survives the death of the process."""

    def __init__(self, engine: sa.Engine, name: str) -> None:
        self._engine = engine
        self.name = name

    @classmethod
    def open(cls, location: str | None = None, *, create: bool = True) -> Store:
        """The store at a path or URL; None: DEVBENCH_STORE, else one a user.

        create: make it if it is not there. Otherwise a missing one reads as empty and is not made.
        """
        return cls(*open_engine(location, create=create))

    def close(self) -> None:
        self._engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with explained(self.name), transaction(self._engine, writes=False) as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        with explained(self.name), transaction(self._engine, writes=True) as connection:
            yield connection

    def create_run(self, info: RunInfo, cases: Sequence[Case]) -> None:
        """Add a run and its plan. Raises StoreError if there is one with this id."""
        with self._writing() as connection:
            if _key(connection, info.id) is not None:
                raise StoreError(f"{self.name} holds a run {info.id!r} already")
            _insert_run(connection, info, cases)

    def add_cases(self, run_id: str, added: Sequence[Case]) -> None:
        """Extend the run's plan. Raises StoreError if it holds one of the cases already."""
        with self._writing() as connection:
            run_key = connection.scalar(
                sa.select(runs.c.key).where(runs.c.id == run_id).with_for_update()
            )
            if run_key is None:
                raise StoreError(f"{self.name} holds no run {run_id!r}")
            planned = connection.scalars(
                sa.select(cases.c.case_id).join(plans).where(plans.c.run_key == run_key)
            ).all()
            _refuse_repeated(run_id, (*planned, *(case.id for case in added)))
            insert_plan(connection, run_key, added, first=len(planned))

    def add_measurement(self, run_id: str, measurement: Measurement) -> None:
        """Add what one round found of a case of the run's plan.

        Raises StoreError if the case is not planned, or if the round has been there before (as when
        two programs resume one run). Raises ValueError for a sample that is negative or not finite.
        """
        with self._writing() as connection:
            plan = (
                connection.execute(
                    sa.select(plans)
                    .join(cases)
                    .join(runs)
                    .where(runs.c.id == run_id, cases.c.case_id == measurement.case_id)
                    .with_for_update(of=plans)
                )
                .mappings()
                .one_or_none()
            )
            if plan is None:
                raise StoreError(
                    f"run {run_id!r} in {self.name} plans no case {measurement.case_id}"
                )
            before = {name: plan[name] for name in NOTHING}
            try:
                connection.execute(
                    sa.insert(measurements).values(measurement_row(plan["key"], measurement))
                )
                update_outcomes(connection, {plan["key"]: with_measurement(before, measurement)})
            except IntegrityError:
                raise StoreError(
                    f"round {measurement.round} of {measurement.case_id} is in run {run_id!r} already; "
                    "does another program resume the same run?"
                ) from None

    def update_environment(self, run_id: str, environment: Mapping[str, Json]) -> None:
        """Replace what the run says of its environment."""
        self._update(run_id, environment=records.free_json(environment))

    def finish_run(
        self, run_id: str, state: Literal["complete", "interrupted"], finished_at: str
    ) -> None:
        self._update(run_id, state=state, finished_at=finished_at)

    def reopen_run(self, run_id: str) -> None:
        """A run that was interrupted goes on."""
        self._update(run_id, state="running", finished_at=None)

    def _update(self, run_id: str, **values: Json) -> None:
        with self._writing() as connection:
            done = connection.execute(sa.update(runs).where(runs.c.id == run_id).values(values))
            if done.rowcount == 0:
                raise StoreError(f"{self.name} holds no run {run_id!r}")

    def runs(self) -> list[RunSummary]:
        """Every run, the newest first."""
        plan = sa.select(plans.c.run_key, plans.c.status, sa.func.count()).group_by(
            plans.c.run_key, plans.c.status
        )
        with self._reading() as connection:
            rows = connection.execute(sa.select(runs).order_by(*_NEWEST)).mappings().all()
            counts: dict[int, dict[Status | None, int]] = {}
            for key, status, count in connection.execute(plan):
                counts.setdefault(key, {})[status] = count
        return [self._summary(row, counts.get(row["key"], {})) for row in rows]

    def _summary(self, row: Mapping[Any, Json], counts: Mapping[Status | None, int]) -> RunSummary:
        return RunSummary(
            self._info(row),
            sum(counts.values()),
            {status: counts[status] for status in SEVERITY if status in counts},
        )

    def outcomes(
        self, chosen: Callable[[Collection[Case]], Collection[Case]] = lambda known: known
    ) -> Outcomes:
        """What became in every run of the cases that are chosen among all that are known."""
        columns = (plans.c.run_key, plans.c.case_key, plans.c.yardstick, plans.c.figures)
        timed = sa.select(*columns).where(
            sa.func.length(plans.c.figures) > 0, plans.c.numerics.is_distinct_from("mismatch")
        )
        with self._reading() as connection:
            infos = connection.execute(sa.select(runs).order_by(*_OLDEST)).mappings().all()
            with self._damage_named():
                every = {
                    row["key"]: to_case(row)
                    for row in connection.execute(sa.select(cases).order_by(cases.c.key)).mappings()
                }
            kept = set(chosen(every.values()))
            known = {key: case for key, case in every.items() if case in kept}
            if len(known) <= AT_ONCE:  # those of all cases are read in one go
                timed = timed.where(plans.c.case_key.in_(known))
            run_at = {row["key"]: place for place, row in enumerate(infos)}
            case_at = {key: place for place, key in enumerate(known)}
            rows = [
                (run_at[run], case_at[case], yardstick or "", rounds)
                for run, case, yardstick, rounds in connection.execute(timed)
                if case in case_at
            ]
        return Outcomes(tuple(map(self._info, infos)), tuple(known.values()), rows)

    def load(self, reference: str | None = None) -> Run:
        """The run with this id, the newest with this label, the one whose id begins so; None: the
        newest of `devbench run`, since what other verbs leave behind (sides of `ab`, calibrations) is
        no table of results that anyone asked for.

        Raises UsageError if there is none, or more than one whose id begins so."""
        with self._reading() as connection:
            return self._load(connection, self._find(connection, reference))

    def import_runs(self, imported: Sequence[Run]) -> None:
        """Add whole runs, all or none. One that is there already and says the same is left alone;
        one that says something else raises UsageError."""
        with self._writing() as connection:
            for run in imported:
                key = _key(connection, run.info.id)
                if key is None:
                    keys = _insert_run(connection, run.info, run.cases)
                    insert_measurements(connection, keys, run.measurements)
                elif _canonical(self._load(connection, key)) != _canonical(run):
                    raise UsageError(
                        f"{self.name} holds another version of run {run.info.id!r}; nothing was imported"
                    )

    def import_run(self, run: Run) -> None:
        """`import_runs` of one."""
        self.import_runs([run])

    def _find(self, connection: sa.Connection, reference: str | None) -> int:
        rows = connection.execute(
            sa.select(runs.c.key, runs.c.id, runs.c.label).order_by(*_NEWEST)
        ).all()
        if not rows:
            raise UsageError(
                f"the results store {self.name} holds no run yet; `devbench run` makes one"
            )
        if reference is None:
            return self._newest(connection)
        exact = [row for row in rows if row.id == reference] or [
            row for row in rows if row.label == reference
        ]
        begins = [row for row in rows if reference and row.id.startswith(reference)]
        if not exact and len(begins) > 1:
            listed = ", ".join(row.id for row in begins[:5]) + (", …" if len(begins) > 5 else "")
            raise UsageError(
                f"{len(begins)} runs begin with {reference!r}: {listed}; give more of the id"
            )
        if found := exact or begins:
            return int(found[0].key)
        names = [name for row in rows for name in (row.label, row.id) if name]
        close = difflib.get_close_matches(reference, names, n=3)
        raise UsageError(
            unknown("run", reference, [*close, *names[:8]], "`devbench runs` lists them")
        )

    def _newest(self, connection: sa.Connection) -> int:
        others: dict[str, None] = {}
        for row in connection.execute(sa.select(runs).order_by(*_NEWEST)).mappings():
            if (kind := self._info(row).kind) == "run":
                return int(row["key"])
            others[kind] = None
        raise UsageError(
            f"the results store {self.name} holds no run of `devbench run`, only of another kind "
            f"({', '.join(others)}); name one: `devbench runs` lists them"
        )

    def _load(self, connection: sa.Connection, key: int) -> Run:
        row = connection.execute(sa.select(runs).where(runs.c.key == key)).mappings().one()
        planned = connection.execute(
            sa.select(cases).join(plans).where(plans.c.run_key == key).order_by(plans.c.position)
        ).mappings()
        measured = connection.execute(
            sa.select(measurements, cases.c.case_id)
            .join(plans, plans.c.key == measurements.c.plan_key)
            .join(cases)
            .where(plans.c.run_key == key)
            .order_by(measurements.c.key)
        ).mappings()
        with self._damage_named():
            return Run(
                info=self._info(row),
                cases=tuple(map(to_case, planned)),
                measurements=tuple(map(to_measurement, measured)),
            )

    def _info(self, row: Mapping[Any, Json]) -> RunInfo:
        with self._damage_named():
            return records.from_json(RunInfo, dict(row), unknown="ignore")

    @contextmanager
    def _damage_named(self) -> Iterator[None]:
        try:
            yield
        except records.Misfit as misfit:
            raise StoreError(f"the results store {self.name} is damaged: {misfit}") from misfit


_NEWEST: Final = (runs.c.started_at.desc(), runs.c.key.desc())
_OLDEST: Final = (runs.c.started_at, runs.c.key)


def _key(connection: sa.Connection, run_id: str) -> int | None:
    return connection.scalar(sa.select(runs.c.key).where(runs.c.id == run_id))


def _insert_run(
    connection: sa.Connection, info: RunInfo, planned: Sequence[Case]
) -> dict[str, int]:
    """Add a run and its plan; gives the key in the plan of each case id."""
    _refuse_repeated(info.id, (case.id for case in planned))
    inserted = connection.execute(sa.insert(runs).values(records.to_json(info)))
    assert inserted.inserted_primary_key is not None
    return insert_plan(connection, inserted.inserted_primary_key[0], planned)


def _refuse_repeated(run_id: str, case_ids: Iterable[str]) -> None:
    """Two cases of one id may differ in what they declare, so the tables do not see to it."""
    repeated = [case_id for case_id, count in Counter(case_ids).items() if count > 1]
    if repeated:
        raise StoreError(
            f"{', '.join(repeated)} is in run {run_id!r} already; does another program resume the same "
            "run?"
        )


def _canonical(run: Run) -> Json:
    """A run as the store would give it back, so that two can be compared."""
    kept = tuple(replace(m, samples=unpack(pack(m.samples))) for m in run.measurements)
    found = exchange.as_json(replace(run, measurements=()))
    measured = [records.to_json(measurement) for measurement in kept]
    return found | {"measurements": rounded(measured)}
