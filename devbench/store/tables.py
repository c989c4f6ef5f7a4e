"""The tables of the results store.

Runs repeat themselves: the same cases are planned again and again, so a case stands once and a run's
plan refers to it. What is asked about many runs at once (which cases went how, and how long a step
took) stands in the plan too, derived from the measurements as they arrive; the measurements themselves
are only read of one run.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    JSON,
    Column,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

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

#: Every case that any run planned, once: `digest` is that of its JSON (`rows._digest`).
cases = Table(
    "cases",
    metadata,
    Column("key", Integer, primary_key=True),
    Column("digest", Text, nullable=False, unique=True),
    Column("case_id", Text, nullable=False, index=True),
    Column("suite", Text, nullable=False),
    Column("benchmark", Text, nullable=False),
    Column("params", JSON, nullable=False),
    Column("target", JSON, nullable=False),
    Column("work", JSON, nullable=False),
)

#: A case of a run, and what became of it so far (`devbench.store.outcome`).
plans = Table(
    "plans",
    metadata,
    Column("key", Integer, primary_key=True),
    Column("run_key", ForeignKey(runs.c.key), nullable=False),
    Column("position", Integer, nullable=False),
    Column("case_key", ForeignKey(cases.c.key), nullable=False),
    Column("status", Text),
    Column("numerics", Text),
    Column("yardstick", Text),
    Column("figures", LargeBinary, nullable=False),
    UniqueConstraint("run_key", "position"),
    UniqueConstraint("case_key", "run_key"),  # in this order it also finds one case in all runs
)

#: One round of a case of a run; `samples` and `facts` as in the modules of these names.
measurements = Table(
    "measurements",
    metadata,
    Column("key", Integer, primary_key=True),  # in the order of arrival
    Column("plan_key", ForeignKey(plans.c.key), nullable=False),
    Column("round", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("samples", LargeBinary, nullable=False),
    Column("facts", LargeBinary, nullable=False),
    UniqueConstraint("plan_key", "round"),
)
