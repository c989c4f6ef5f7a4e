"""A store of schema version 1, made here as devbench 0.1 made it, becomes one of this version."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
import sqlalchemy as sa

from devbench.errors import StoreError
from devbench.model import Run
from devbench.store import Store, migrations, records, tables
from devbench.store.facts import pack_facts
from tests.store.example import example_case, example_info, example_measurement, example_run

V1 = sa.MetaData()
ABOUT = sa.Table(
    "devbench", V1, sa.Column("key", sa.Text, primary_key=True), sa.Column("value", sa.Text)
)
RUNS = sa.Table(
    "runs",
    V1,
    sa.Column("key", sa.Integer, primary_key=True),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    *(sa.Column(name, sa.Text) for name in ("label", "started_at", "finished_at", "state")),
    sa.Column("devbench_version", sa.Text, nullable=False),
    *(sa.Column(name, sa.JSON, nullable=False) for name in ("settings", "environment")),
)
CASES = sa.Table(
    "cases",
    V1,
    sa.Column("key", sa.Integer, primary_key=True),
    sa.Column("run_key", sa.ForeignKey(RUNS.c.key), nullable=False),
    sa.Column("position", sa.Integer, nullable=False),
    *(sa.Column(name, sa.Text, nullable=False) for name in ("case_id", "suite", "benchmark")),
    *(sa.Column(name, sa.JSON, nullable=False) for name in ("params", "target", "work")),
    sa.UniqueConstraint("run_key", "position"),
    sa.UniqueConstraint("case_id", "run_key"),
)
MEASUREMENTS = sa.Table(
    "measurements",
    V1,
    sa.Column("key", sa.Integer, primary_key=True),
    sa.Column("case_key", sa.ForeignKey(CASES.c.key), nullable=False),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("started_at", sa.Text, nullable=False),
    sa.Column("samples", sa.LargeBinary, nullable=False),
    sa.Column("facts", sa.JSON, nullable=False),
    sa.UniqueConstraint("case_key", "round"),
)


def old_store(location: str, stored: Iterable[Run], **facts: object) -> sa.Engine:
    """A store of version 1 with these runs; `facts`: what each measurement says besides."""
    url = location if "://" in location else f"sqlite:///{location}"
    engine = sa.create_engine(url, json_serializer=records.dumps)
    with engine.begin() as connection:
        V1.create_all(connection)
        connection.execute(sa.insert(ABOUT).values(key="schema_version", value="1"))
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql(f"PRAGMA application_id = {tables.APPLICATION_ID}")
        for run in stored:
            inserted = connection.execute(sa.insert(RUNS).values(records.to_json(run.info)))
            assert inserted.inserted_primary_key is not None
            keys = {}
            for position, case in enumerate(run.cases):
                row = {"case_id": case.id, "position": position, **records.to_json(case)}
                row["run_key"] = inserted.inserted_primary_key[0]
                made = connection.execute(sa.insert(CASES).values(row))
                assert made.inserted_primary_key is not None
                keys[case.id] = made.inserted_primary_key[0]
            for one in run.measurements:
                said = records.to_json(replace(one, samples=())) | facts
                row = {name: said.pop(name) for name in ("round", "status", "started_at")}
                row["case_key"] = keys[said.pop("case_id")]
                samples = np.array(one.samples, "<f4").tobytes()
                connection.execute(
                    sa.insert(MEASUREMENTS).values(**row, samples=samples, facts=said)
                )
    return engine


def example_runs() -> list[Run]:
    """The second repeats the cases of the first, one of them with another footprint."""
    first = example_run()
    other = replace(first.cases[1], work=replace(first.cases[1].work, footprint=1.0))
    third = example_case(1024)
    second = Run(
        info=example_info("20260202-120000-cd34", started_at="2026-02-02T12:00:00.000+00:00"),
        cases=(third, first.cases[0], other),
        measurements=(
            example_measurement(third, telemetry={"seconds": 0.25, "host": {"cpus": 2}}),
            example_measurement(third, 1, samples=(), status="crashed", reason="signal"),
        ),
    )
    return [first, second]


def test_every_run_of_an_old_store_is_what_it_was(location: str) -> None:
    engine = old_store(location, example_runs())
    for _ in range(2):  # the second time there is nothing to do
        with Store.open(location) as store:
            for run in example_runs():
                loaded = store.load(run.info.id)
                assert loaded == run
                assert [case.work for case in loaded.cases] == [case.work for case in run.cases]
            summaries = {one.info.id: (one.planned, one.counts) for one in store.runs()}
    assert summaries == {
        "20260131-120000-ab12": (2, {"oom": 1, "ok": 1}),
        "20260202-120000-cd34": (3, {"crashed": 1}),
    }
    with engine.connect() as connection:
        assert connection.scalar(sa.select(ABOUT.c.value)) == str(migrations.schema_version())
        assert connection.scalar(sa.text("SELECT count(*) FROM cases")) == 4
        names = sa.inspect(connection).get_table_names()
    assert sorted(names) == ["cases", "devbench", "measurements", "plans", "runs"]
    engine.dispose()


def test_an_old_store_goes_on_being_filled(location: str) -> None:
    old_store(location, example_runs()).dispose()
    with Store.open(location) as store:
        second = store.load("20260202-120000-cd34")
        store.add_measurement(second.info.id, example_measurement(second.cases[1]))
        with pytest.raises(StoreError, match=r"round 1 of .* already"):
            store.add_measurement(second.info.id, example_measurement(second.cases[0], 1))
        store.import_run(example_run())  # is there already
        assert len(store.load(second.info.id).measurements) == 3


def test_a_fact_that_this_devbench_does_not_know_survives(location: str) -> None:
    engine = old_store(location, [example_run()], humidity=0.4)
    with Store.open(location) as store:
        assert store.load(None) == example_run()
    with engine.connect() as connection:
        blobs = connection.scalars(sa.select(tables.measurements.c.facts)).all()
    facts = records.to_json(replace(example_run().measurements[0], samples=()))
    kept = {name: facts[name] for name in facts if name not in ("case_id", "round", "status")}
    assert bytes(blobs[0]) == pack_facts(
        {"started_at": kept.pop("started_at"), **kept, "humidity": 0.4}
    )
    engine.dispose()
