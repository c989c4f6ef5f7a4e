"""Records to rows of the tables and back."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from devbench.model import Case, Json, Measurement
from devbench.store import records
from devbench.store.facts import pack_facts, unpack_facts
from devbench.store.outcome import NOTHING, with_measurement
from devbench.store.samples import pack, unpack
from devbench.store.tables import cases, measurements, plans

#: Keys that one statement asks for; SQLite before 3.32 takes 999 values.
AT_ONCE: Final = 500

#: Inserting what another program may have inserted at the same moment.
_INSERT: Final[Mapping[str, Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def insert_plan(
    connection: sa.Connection, run_key: int, planned: Sequence[Case], first: int = 0
) -> dict[str, int]:
    """Add cases to a run's plan, `first` being the position of the first of them. Gives the key in the
    plan of each case id."""
    described = [{"case_id": case.id, "work": {}, **records.to_json(case)} for case in planned]
    digests = [_digest(item) for item in described]
    if not planned:
        return {}
    insert = _INSERT[connection.dialect.name](cases).on_conflict_do_nothing(
        index_elements=["digest"]
    )
    known = _keys(connection, digests)
    added = {
        digest: item | {"digest": digest}
        for digest, item in zip(digests, described, strict=True)
        if digest not in known
    }
    if added:
        connection.execute(insert, list(added.values()))
        known |= _keys(connection, list(added))
    connection.execute(
        sa.insert(plans),
        [
            {"run_key": run_key, "position": position, "case_key": known[digest], **NOTHING}
            for position, digest in enumerate(digests, first)
        ],
    )
    rows = connection.execute(
        sa.select(cases.c.case_id, plans.c.key).join(cases).where(plans.c.run_key == run_key)
    )
    return {row.case_id: row.key for row in rows}


def _digest(described: Mapping[str, Json]) -> str:
    return hashlib.sha256(records.dumps(described).encode("ascii")).hexdigest()


def _keys(connection: sa.Connection, digests: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for place in range(0, len(digests), AT_ONCE):
        some = digests[place : place + AT_ONCE]
        rows = connection.execute(
            sa.select(cases.c.digest, cases.c.key).where(cases.c.digest.in_(some))
        )
        found |= {row.digest: row.key for row in rows}
    return found


def insert_measurements(
    connection: sa.Connection, plan_keys: Mapping[str, int], measured: Sequence[Measurement]
) -> None:
    """Add all measurements of a run, none of which is there yet, and what they make of its plan."""
    outcomes: dict[int, Mapping[str, Any]] = {}
    rows = []
    for one in measured:
        key = plan_keys[one.case_id]
        rows.append(measurement_row(key, one))
        outcomes[key] = with_measurement(outcomes.get(key, NOTHING), one)
    if rows:
        connection.execute(sa.insert(measurements), rows)
        update_outcomes(connection, outcomes)


def update_outcomes(connection: sa.Connection, outcomes: Mapping[int, Mapping[str, Any]]) -> None:
    """Write what became of planned cases, by their key in the plan."""
    connection.execute(
        sa.update(plans)
        .where(plans.c.key == sa.bindparam("plan"))
        .values({name: sa.bindparam(name) for name in NOTHING}),
        [{"plan": key, **outcome} for key, outcome in outcomes.items()],
    )


def measurement_row(plan_key: int, measured: Measurement) -> dict[str, Any]:
    """Raises ValueError for a sample that is negative or not finite."""
    facts = records.to_json(replace(measured, samples=()))
    return {
        "plan_key": plan_key,
        "round": facts.pop("round"),
        "status": facts.pop("status"),
        "samples": pack(measured.samples),
        "facts": pack_facts({name: value for name, value in facts.items() if name != "case_id"}),
    }


def to_case(row: Mapping[Any, Any]) -> Case:
    """Raises `records.Misfit`."""
    return records.from_json(Case, dict(row), unknown="ignore")


def to_measurement(row: Mapping[Any, Any]) -> Measurement:
    """Raises `records.Misfit`."""
    try:
        facts, samples = unpack_facts(row["facts"]), unpack(row["samples"])
    except ValueError as error:
        raise records.Misfit(f"round {row['round']} of {row['case_id']}", f"has {error}") from None
    stated = {name: row[name] for name in ("case_id", "round", "status")}
    return records.from_json(
        Measurement, facts | stated, unknown="ignore", ready={"samples": samples}
    )
