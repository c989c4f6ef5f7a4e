"""The tables of the results store, and how an older store becomes one of this version.

A measurement is unique by (run, case, round). Its samples are little-endian float32: 24 bits hold
every time to 6e-8 of itself, far finer than any clock's spread, in half the space. `facts` holds the
other fields of `Measurement` as JSON, so that a new one needs no new schema.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sqlalchemy import (
    JSON,
    Column,
    Connection,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

#: Entry i brings a store from schema i + 1 to i + 2, inside the transaction that opens it.
MIGRATIONS: Final[list[Callable[[Connection], None]]] = []

#: "devb": PRAGMA application_id, so that a file tells whose database it is (SQLite only).
APPLICATION_ID: Final = 0x64657662

metadata = MetaData()

#: Marks a database as a devbench store; its row ``schema_version`` tells the version.
about = Table(
    "devbench",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("key", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("label", Text),
    Column("started_at", Text, nullable=False),
    Column("finished_at", Text),
    Column("state", Text, nullable=False),
    Column("devbench_version", Text, nullable=False),
    Column("settings", JSON, nullable=False),
    Column("environment", JSON, nullable=False),
)

cases = Table(
    "cases",
    metadata,
    Column("key", Integer, primary_key=True),
    Column("run_key", ForeignKey(runs.c.key), nullable=False),
    Column("position", Integer, nullable=False),
    Column("case_id", Text, nullable=False),
    Column("suite", Text, nullable=False),
    Column("benchmark", Text, nullable=False),
    Column("params", JSON, nullable=False),
    Column("target", JSON, nullable=False),
    Column("work", JSON, nullable=False),
    UniqueConstraint("run_key", "position"),
    UniqueConstraint("case_id", "run_key"),  # in this order it also finds one case in all runs
)

measurements = Table(
    "measurements",
    metadata,
    Column("key", Integer, primary_key=True),  # in the order of arrival
    Column("case_key", ForeignKey(cases.c.key), nullable=False),
    Column("round", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("started_at", Text, nullable=False),
    Column("samples", LargeBinary, nullable=False),
    Column("facts", JSON, nullable=False),
    UniqueConstraint("case_key", "round"),
)


def schema_version() -> int:
    """The schema that this devbench writes."""
    return len(MIGRATIONS) + 1
