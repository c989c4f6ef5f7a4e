"""The results store: runs, their cases and measurements, in SQLite or PostgreSQL."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Final, Literal, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from devbench.errors import StoreError, UsageError, unknown
from devbench.model import SEVERITY, Case, Json, Measurement, Run, RunInfo, Status
from devbench.store import exchange, records
from devbench.store.engine import explained, open_engine, transaction
from devbench.store.samples import pack, unpack
from devbench.store.tables import cases, measurements, runs

#: A case that went differently in different rounds counts by the first of these.
Record = TypeVar("Record")

_COLUMNS: Final = ("case_id", "round", "status", "started_at")


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run without its measurements. planned: its cases; counts: those that have an outcome."""

    info: RunInfo
    planned: int
    counts: Mapping[Status, int]


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
            run_key = _key(connection, run_id)
            if run_key is None:
                raise StoreError(f"{self.name} holds no run {run_id!r}")
            count = connection.scalar(
                sa.select(sa.func.count()).select_from(cases).where(cases.c.run_key == run_key)
            )
            try:
                _insert_cases(connection, run_key, added, int(count or 0))
            except IntegrityError:
                raise StoreError(
                    f"one of {', '.join(case.id for case in added)} is in run {run_id!r} already; does "
                    "another program resume the same run?"
                ) from None

    def add_measurement(self, run_id: str, measurement: Measurement) -> None:
        """Add what one round found of a case of the run's plan.

        Raises StoreError if the case is not planned, or if the round has been there before (as when
        two programs resume one run). Raises ValueError for a sample that is no positive number.
        """
        with self._writing() as connection:
            case_key = connection.scalar(
                sa.select(cases.c.key)
                .join(runs)
                .where(runs.c.id == run_id, cases.c.case_id == measurement.case_id)
            )
            if case_key is None:
                raise StoreError(
                    f"run {run_id!r} in {self.name} plans no case {measurement.case_id}"
                )
            try:
                connection.execute(
                    sa.insert(measurements).values(_measurement_row(case_key, measurement))
                )
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

    def _update(self, run_id: str, **values: Json) -> None:
        with self._writing() as connection:
            done = connection.execute(sa.update(runs).where(runs.c.id == run_id).values(values))
            if done.rowcount == 0:
                raise StoreError(f"{self.name} holds no run {run_id!r}")

    def runs(self) -> list[RunSummary]:
        """Every run, the newest first."""
        outcome = (
            sa.select(
                cases.c.run_key,
                sa.func.min(
                    sa.case(
                        {status: rank for rank, status in enumerate(SEVERITY)},
                        value=measurements.c.status,
                    )
                ).label("rank"),
            )
            .join(measurements)
            .group_by(cases.c.key, cases.c.run_key)
            .subquery()
        )
        tally = sa.select(outcome.c.run_key, outcome.c.rank, sa.func.count())
        plan = sa.select(cases.c.run_key, sa.func.count()).group_by(cases.c.run_key)
        with self._reading() as connection:
            rows = connection.execute(sa.select(runs).order_by(*_NEWEST)).mappings().all()
            planned = {row[0]: row[1] for row in connection.execute(plan)}
            counts: dict[int, dict[Status, int]] = {}
            for key, rank, count in connection.execute(
                tally.group_by(outcome.c.run_key, outcome.c.rank)
            ):
                counts.setdefault(key, {})[SEVERITY[rank]] = count
        return [
            RunSummary(self._info(row), planned.get(row["key"], 0), counts.get(row["key"], {}))
            for row in rows
        ]

    def load(self, reference: str | None = None) -> Run:
        """The run with this id, the newest with this label, the one whose id begins so; None: the
        newest. Raises UsageError if there is none, or more than one whose id begins so."""
        with self._reading() as connection:
            return self._load(connection, self._find(connection, reference))

    def import_runs(self, imported: Sequence[Run]) -> None:
        """Add whole runs, all or none. One that is there already and says the same is left alone;
        one that says something else raises UsageError."""
        with self._writing() as connection:
            for run in imported:
                key = _key(connection, run.info.id)
                if key is None:
                    _insert_whole(connection, run)
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
            return int(rows[0].key)
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

    def _load(self, connection: sa.Connection, key: int) -> Run:
        row = connection.execute(sa.select(runs).where(runs.c.key == key)).mappings().one()
        planned = connection.execute(
            sa.select(cases).where(cases.c.run_key == key).order_by(cases.c.position)
        ).mappings()
        measured = connection.execute(
            sa.select(measurements, cases.c.case_id)
            .join(cases)
            .where(cases.c.run_key == key)
            .order_by(measurements.c.key)
        ).mappings()
        return Run(
            info=self._info(row),
            cases=tuple(self._record(Case, case) for case in planned),
            measurements=tuple(
                replace(
                    self._record(
                        Measurement, {**row["facts"], **{name: row[name] for name in _COLUMNS}}
                    ),
                    samples=unpack(row["samples"]),
                )
                for row in measured
            ),
        )

    def _info(self, row: Mapping[Any, Json]) -> RunInfo:
        return self._record(RunInfo, row)

    def _record(self, cls: type[Record], row: Mapping[Any, Json]) -> Record:
        try:
            return records.from_json(cls, dict(row), unknown="ignore")
        except records.Misfit as misfit:
            raise StoreError(f"the results store {self.name} is damaged: {misfit}") from misfit


_NEWEST: Final = (runs.c.started_at.desc(), runs.c.key.desc())


def _key(connection: sa.Connection, run_id: str) -> int | None:
    return connection.scalar(sa.select(runs.c.key).where(runs.c.id == run_id))


def _insert_run(
    connection: sa.Connection, info: RunInfo, planned: Sequence[Case]
) -> dict[str, int]:
    """Add a run and its cases; returns the key of each case id."""
    inserted = connection.execute(sa.insert(runs).values(records.to_json(info)))
    assert inserted.inserted_primary_key is not None
    run_key = inserted.inserted_primary_key[0]
    _insert_cases(connection, run_key, planned, 0)
    keys = connection.execute(
        sa.select(cases.c.case_id, cases.c.key).where(cases.c.run_key == run_key)
    )
    return {row.case_id: row.key for row in keys}


def _insert_cases(
    connection: sa.Connection, run_key: int, planned: Sequence[Case], first: int
) -> None:
    """Add cases to a run's plan, `first` being the position of the first of them."""
    if planned:
        connection.execute(
            sa.insert(cases),
            [
                {
                    "run_key": run_key,
                    "position": position,
                    "case_id": case.id,
                    "work": {},
                    **records.to_json(case),
                }
                for position, case in enumerate(planned, first)
            ],
        )


def _insert_whole(connection: sa.Connection, run: Run) -> None:
    keys = _insert_run(connection, run.info, run.cases)
    if run.measurements:
        connection.execute(
            sa.insert(measurements),
            [_measurement_row(keys[measured.case_id], measured) for measured in run.measurements],
        )


def _measurement_row(case_key: int, measurement: Measurement) -> dict[str, Any]:
    facts = records.to_json(replace(measurement, samples=()))
    return {
        "case_key": case_key,
        "round": facts.pop("round"),
        "status": facts.pop("status"),
        "started_at": facts.pop("started_at"),
        "samples": pack(measurement.samples),
        "facts": {name: value for name, value in facts.items() if name != "case_id"},
    }


def _canonical(run: Run) -> Json:
    """A run as the store would give it back, so that two can be compared."""
    kept = tuple(replace(m, samples=unpack(pack(m.samples))) for m in run.measurements)
    return exchange.as_json(replace(run, measurements=kept))
