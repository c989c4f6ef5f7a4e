"""How an older store becomes one of this version, inside the transaction that opens it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import sqlalchemy as sa

from devbench.model import Measurement
from devbench.store import records, tables
from devbench.store.facts import pack_facts
from devbench.store.outcome import NOTHING, with_measurement
from devbench.store.rows import insert_plan, to_case, update_outcomes
from devbench.store.samples import pack, unpack_plain

_OLD_CASES: Final = sa.table(
    "old_cases",
    *(sa.column(name) for name in ("key", "run_key", "position", "suite", "benchmark")),
    *(sa.column(name, sa.JSON) for name in ("params", "target", "work")),
)
_OLD_MEASUREMENTS: Final = sa.table(
    "old_measurements",
    *(sa.column(name) for name in ("key", "case_key", "round", "status", "started_at", "samples")),
    sa.column("facts", sa.JSON),
)


def _once_and_smaller(connection: sa.Connection) -> None:
    """To version 2: a case stands once and its outcome beside the plan, samples and facts are deflated.

    The tables of version 1 had the same names, so what they held waits in temporary ones.
    """
    for name in ("cases", "measurements"):
        connection.execute(sa.text(f"CREATE TEMPORARY TABLE old_{name} AS SELECT * FROM {name}"))
    for name in ("measurements", "cases"):
        connection.execute(sa.text(f"DROP TABLE {name}"))
    connection.execute(sa.text("CREATE INDEX old_cases_run ON old_cases (run_key)"))
    connection.execute(sa.text("CREATE INDEX old_measurements_case ON old_measurements (case_key)"))
    tables.metadata.create_all(connection)
    for run_key in connection.scalars(sa.select(tables.runs.c.key)).all():
        _move(connection, run_key)
    for name in ("measurements", "cases"):
        connection.execute(sa.text(f"DROP TABLE old_{name}"))


def _move(connection: sa.Connection, run_key: int) -> None:
    """One run's plan and measurements into the new tables. Facts that this devbench does not know stay."""
    old = _OLD_CASES.c
    planned = connection.execute(
        sa.select(_OLD_CASES).where(old.run_key == run_key).order_by(old.position)
    ).mappings()
    found = {row["key"]: to_case(row) for row in planned}
    keys = insert_plan(connection, run_key, list(found.values()))
    measured = connection.execute(
        sa.select(_OLD_MEASUREMENTS)
        .join(_OLD_CASES, old.key == _OLD_MEASUREMENTS.c.case_key)
        .where(old.run_key == run_key)
        .order_by(_OLD_MEASUREMENTS.c.key)
    ).mappings()
    rows = []
    outcomes = dict.fromkeys(keys.values(), NOTHING)
    for row in measured:
        case = found[row["case_key"]]
        key, samples = keys[case.id], unpack_plain(row["samples"])
        stated = {name: row[name] for name in ("round", "status")}
        facts = {"started_at": row["started_at"], **row["facts"]}
        visit = records.from_json(
            Measurement,
            facts | stated | {"case_id": case.id},
            unknown="ignore",
            ready={"samples": samples},
        )
        outcomes[key] = with_measurement(outcomes[key], visit)
        rows.append(
            {"plan_key": key, "samples": pack(samples), "facts": pack_facts(facts), **stated}
        )
    if rows:
        connection.execute(sa.insert(tables.measurements), rows)
        update_outcomes(connection, outcomes)


#: Entry i brings a store from schema i + 1 to i + 2.
MIGRATIONS: Final[list[Callable[[sa.Connection], None]]] = [_once_and_smaller]


def schema_version() -> int:
    """The schema that this devbench writes."""
    return len(MIGRATIONS) + 1
