"""Locations that are no store, or not one of this version: refused, and left as they are."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from devbench.errors import StoreError, UsageError
from devbench.store import Store, migrations, tables
from devbench.store.facts import pack_facts, unpack_facts
from tests.store.example import example_run


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    path = tmp_path / "results.sqlite"
    with Store.open(str(path)) as store:
        store.import_run(example_run())
    return path


def _refused(path: Path, message: str) -> None:
    before = path.read_bytes() if path.is_file() else None
    around = sorted(path.parent.iterdir())
    for create in (True, False):
        with pytest.raises(StoreError, match=message) as caught:
            Store.open(str(path), create=create)
        assert "\n" not in str(caught.value)
    assert (path.read_bytes() if path.is_file() else None) == before
    assert sorted(path.parent.iterdir()) == around


def _execute(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()


@pytest.mark.parametrize("content", [b"hello, world\n" * 100, b"SQLite", b"\0" * 4096])
def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    _refused(path, "notes.txt is not a database; name another with --store")


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_a_database_of_another_application_is_left_alone(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "other.sqlite"
    _execute(path, f"PRAGMA journal_mode = {mode}")
    _execute(path, "CREATE TABLE runs (id TEXT)")
    _refused(path, "is a database of another application")


def test_a_store_of_a_newer_devbench_is_left_alone(filled: Path) -> None:
    _execute(filled, "UPDATE devbench SET value = '9'")
    _refused(filled, r"made by a newer devbench \(schema 9; this one knows 2\): upgrade devbench")


def test_a_folder_is_no_store(tmp_path: Path) -> None:
    _refused(tmp_path, "is a folder; name a file in it")


def test_a_damaged_store_is_refused(filled: Path) -> None:
    content = bytearray(filled.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    filled.write_bytes(content)
    with (
        pytest.raises(StoreError, match=r"cannot be used: .*malformed"),
        Store.open(str(filled)) as store,
    ):
        store.load(None)


def test_a_truncated_store_is_refused(filled: Path) -> None:
    filled.write_bytes(filled.read_bytes()[:3000])
    with pytest.raises(StoreError, match="cannot be used"), Store.open(str(filled)) as store:
        store.load(None)


def test_a_place_where_no_file_can_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="Not a directory"):
        Store.open(str(tmp_path / "file" / "results.sqlite"))
    if not Path("/proc/self").exists():
        pytest.skip("there is no /proc, where not even root makes files")
    with pytest.raises(StoreError, match="cannot be used: unable to open"):
        Store.open("/proc/results.sqlite")
    with pytest.raises(StoreError, match="the folder /proc/none cannot be made"):
        Store.open("/proc/none/results.sqlite")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://user:secret@host/database", "no place for a results store"),
        ("postgresql://user:secret@host", "no place for a results store"),
        ("sqlite://", "no place for a results store"),
        ("://", "the store's URL cannot be read"),
        ("postgresql+psycopg://user:secret@host:port/x", "the store's URL cannot be read"),
    ],
)
def test_a_url_that_is_no_store_is_refused_without_its_password(url: str, message: str) -> None:
    with pytest.raises(StoreError, match=message) as caught:
        Store.open(url)
    assert "secret" not in str(caught.value)


def test_a_postgresql_server_that_does_not_answer_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("psycopg", reason="psycopg is not installed", exc_type=ImportError)
    with pytest.raises(StoreError, match="cannot be used") as caught:
        Store.open(f"postgresql://user:secret@/results?host={tmp_path}")
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_password_among_the_parameters_of_a_url_is_not_said(tmp_path: Path) -> None:
    pytest.importorskip("psycopg", reason="psycopg is not installed", exc_type=ImportError)
    with pytest.raises(StoreError, match="cannot be used") as caught:
        Store.open(f"postgresql://user@/results?host={tmp_path}&password=secret")
    assert "secret" not in str(caught.value)


def test_a_server_that_ends_an_idle_connection_ends_no_run(postgresql_location: str) -> None:
    import psycopg

    run = example_run()
    with Store.open(postgresql_location) as store:
        store.create_run(run.info, run.cases)
        store.add_measurement(run.info.id, run.measurements[0])
        location = postgresql_location.replace("+psycopg", "")
        with psycopg.connect(location, autocommit=True) as other:
            ended = other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            ).fetchall()
        assert ended == [(True,)]
        store.add_measurement(run.info.id, run.measurements[1])
        assert len(store.load().measurements) == 2


def test_a_postgresql_url_without_its_driver_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreError, match=r"needs a driver: pip install 'psycopg\[binary\]'"):
        Store.open("postgresql://user@host/results")


def test_a_postgresql_database_of_another_application_is_left_alone(
    postgresql_location: str,
) -> None:
    engine = sa.create_engine(postgresql_location)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE customers (name TEXT)"))
    with pytest.raises(StoreError, match="another application"):
        Store.open(postgresql_location)
    with engine.connect() as connection:
        assert sa.inspect(connection).get_table_names() == ["customers"]
    engine.dispose()


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    path = tmp_path / "empty.sqlite"
    path.touch()
    with Store.open(str(path)) as store:
        store.import_run(example_run())
    with Store.open(str(path), create=False) as store:
        assert store.load(None) == example_run()


def test_a_store_that_is_not_there_reads_as_empty_and_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "typo" / "results.sqlite"
    with Store.open(str(path), create=False) as store:
        assert store.runs() == []
        with pytest.raises(UsageError, match=r"typo/results\.sqlite holds no run yet"):
            store.load(None)
    assert list(tmp_path.iterdir()) == []


def test_a_location_may_come_from_the_environment_or_be_one_a_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEVBENCH_STORE", str(tmp_path / "named.sqlite"))
    with Store.open() as store:
        assert store.name == str(tmp_path / "named.sqlite")
    monkeypatch.setenv("DEVBENCH_STORE", "")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    with Store.open() as store:
        assert Path(store.name).name == "results.sqlite"
    with Store.open(f"sqlite:///{tmp_path}/url.sqlite") as store:
        assert store.name == f"{tmp_path}/url.sqlite"


def test_a_store_is_in_wal_mode_and_says_whose_it_is(filled: Path) -> None:
    with closing(sqlite3.connect(filled)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA application_id").fetchone() == (tables.APPLICATION_ID,)
        assert connection.execute("SELECT * FROM devbench").fetchall() == [("schema_version", "2")]


def test_a_store_of_an_older_devbench_is_brought_to_this_schema(
    filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add_notes(connection: sa.Connection) -> None:
        connection.exec_driver_sql("ALTER TABLE runs ADD COLUMN notes TEXT")

    monkeypatch.setattr(migrations, "MIGRATIONS", [*migrations.MIGRATIONS, add_notes])
    for _ in range(2):  # the second time there is nothing to do
        with Store.open(str(filled)) as store:
            assert store.load(None) == example_run()
    with closing(sqlite3.connect(filled)) as connection:
        assert connection.execute("SELECT value FROM devbench").fetchone() == ("3",)
        assert connection.execute("SELECT notes FROM runs").fetchall() == [(None,)]


def test_a_migration_that_fails_changes_nothing(
    filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(connection: sa.Connection) -> None:
        connection.exec_driver_sql("ALTER TABLE runs ADD COLUMN notes TEXT")
        connection.exec_driver_sql("SELECT missing FROM nowhere")

    with monkeypatch.context() as patch:
        patch.setattr(migrations, "MIGRATIONS", [*migrations.MIGRATIONS, fail])
        with pytest.raises(StoreError, match="no such table"):
            Store.open(str(filled))
    with Store.open(str(filled)) as store:
        assert store.load(None) == example_run()


def _with_fact(path: Path, **changes: object) -> None:
    """Change or add a fact of every measurement of the store."""
    with closing(sqlite3.connect(path)) as connection:
        for key, facts in connection.execute("SELECT key, facts FROM measurements").fetchall():
            connection.execute(
                "UPDATE measurements SET facts = ? WHERE key = ?",
                (pack_facts(unpack_facts(facts) | changes), key),
            )
        connection.commit()


def test_a_fact_that_a_newer_devbench_added_does_not_hinder_reading(filled: Path) -> None:
    _with_fact(filled, humidity=0.4)
    with Store.open(str(filled)) as store:
        assert store.load(None) == example_run()


def test_a_damaged_fact_is_named(filled: Path) -> None:
    _with_fact(filled, block="x")
    with (
        Store.open(str(filled)) as store,
        pytest.raises(StoreError, match='is damaged: block is "x"'),
    ):
        store.load(None)


@pytest.mark.parametrize("column", ["samples", "facts"])
@pytest.mark.parametrize("blob", ["x''", "x'ff00ff'", "x'63'"])
def test_a_damaged_blob_is_named_with_its_measurement(filled: Path, column: str, blob: str) -> None:
    _execute(filled, f"UPDATE measurements SET {column} = {blob} WHERE round = 1")
    with (
        Store.open(str(filled)) as store,
        pytest.raises(StoreError, match=rf"is damaged: round 1 of matmul.* has {column}"),
    ):
        store.load(None)
